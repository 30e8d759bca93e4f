//! Errors as HTTP answers.

use axum::{
    Json,
    extract::{FromRequest, Request, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use hyper::{StatusCode, body::Bytes, header};
use serde::de::DeserializeOwned;

use super::{server::BODY_LIMIT, types::ErrorBody};
use crate::{
    control::{ControlError, ErrorClass, FilterError, PruneError},
    dataplane::DataPlaneError,
    model::InvalidTime,
};

/// An answer that says what is wrong.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    /// moby's answer to an unknown route, and to a wrong method on a known one.
    pub(super) fn page_not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            message: "page not found".into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(
                status = self.status.as_u16(),
                message = self.message,
                "request failed"
            );
        }
        (
            self.status,
            Json(ErrorBody {
                message: self.message,
            }),
        )
            .into_response()
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        Self {
            status: status(error.class()),
            message: error.to_string(),
        }
    }
}

impl From<PruneError> for ApiError {
    fn from(error: PruneError) -> Self {
        match error {
            PruneError::Control(error) => error.into(),
            PruneError::Filter(error) => error.into(),
        }
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let status = match error {
            // Untyped in moby.
            FilterError::Type(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            message: error.to_string(),
        }
    }
}

impl From<InvalidTime> for ApiError {
    fn from(error: InvalidTime) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<DataPlaneError> for ApiError {
    fn from(error: DataPlaneError) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: error.to_string(),
        }
    }
}

fn status(class: ErrorClass) -> StatusCode {
    match class {
        ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::Forbidden => StatusCode::FORBIDDEN,
        ErrorClass::Invalid => StatusCode::BAD_REQUEST,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::System => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorClass::Unsupported => StatusCode::NOT_IMPLEMENTED,
    }
}

/// A request's JSON body; refuses as moby's `httputils.ReadJSON` does.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let headers = request.headers();
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > BODY_LIMIT as u64) {
            // Before a byte of it is read; bodies without a length meet the same limit on the way.
            let message = format!("the request's body is larger than {BODY_LIMIT} bytes");
            return Err(ApiError {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                message,
            });
        }
        let kind = headers.get(header::CONTENT_TYPE).cloned();
        let bytes = Bytes::from_request(request, state).await.map_err(too_much)?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::invalid("got EOF while reading request body"));
        }
        // A client that says nothing means JSON; there is nothing else.
        if let Some(kind) = kind {
            let kind = String::from_utf8_lossy(kind.as_bytes()).into_owned();
            if kind.split(';').next().map(str::trim) != Some("application/json") {
                let text = format!("Content-Type specified ({kind}) must be 'application/json'");
                return Err(ApiError::invalid(text));
            }
        }
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|error| ApiError::invalid(format!("invalid JSON: {error}")))
    }
}

fn too_much(rejection: BytesRejection) -> ApiError {
    ApiError {
        status: rejection.status(),
        message: rejection.body_text(),
    }
}
