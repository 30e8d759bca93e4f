//! `/networks`.

use std::collections::HashMap;

use axum::{
    Json,
    extract::{FromRequest, Path, Query, Request, State},
    response::{IntoResponse, Response},
};
use hyper::StatusCode;

use super::{
    error::{ApiError, Body},
    server::Api,
    types::{Network, NetworkConnect, NetworkCreate, NetworkCreated, NetworkDisconnect, NetworksPruned},
    views,
};
use crate::control::{Filters, Verb};

/// A query: the last of several values of a key holds.
pub(super) type Parameters = Query<HashMap<String, String>>;

/// The `filters` parameter.
pub(super) fn filters(query: &HashMap<String, String>) -> Result<Filters, ApiError> {
    Ok(Filters::parse(query.get("filters").map_or("", String::as_str))?)
}

pub(super) async fn list(
    State(api): State<Api>,
    Query(query): Parameters,
) -> Result<Json<Vec<Network>>, ApiError> {
    let filters = filters(&query)?;
    let networks = api.control.read(|state| {
        let networks = filters.networks(state)?;
        // Lists have no endpoints (API >= 1.28).
        Ok::<_, ApiError>(networks.into_iter().map(views::network).collect())
    });
    Ok(Json(networks?))
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(term): Path<String>,
    Query(query): Parameters,
) -> Result<Json<Network>, ApiError> {
    // Verbose answers differ for swarms only, but the parameter must be a boolean.
    if let Some(verbose) = query.get("verbose").filter(|text| !is_boolean(text)) {
        let text =
            format!("invalid value for verbose: strconv.ParseBool: parsing {verbose:?}: invalid syntax");
        return Err(ApiError::invalid(text));
    }
    let network = api.control.read(|state| {
        if query
            .get("scope")
            .is_some_and(|scope| !scope.is_empty() && scope != "local")
        {
            return Err(crate::control::ControlError::NetworkNotFound(term.clone()));
        }
        state
            .resolve_network(&term, Verb::Inspect)
            .map(|network| views::network_with_endpoints(state, network))
    });
    Ok(Json(network?))
}

pub(super) async fn remove(State(api): State<Api>, Path(term): Path<String>) -> Result<StatusCode, ApiError> {
    api.control.remove_network(&term).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `create`, `prune`, `{id}/connect` and `{id}/disconnect`; an id may contain slashes.
pub(super) async fn change(
    State(api): State<Api>,
    Path(rest): Path<String>,
    Query(query): Parameters,
    request: Request,
) -> Result<Response, ApiError> {
    match rest.as_str() {
        "create" => create(&api, request).await,
        "prune" => prune(&api, &query).await,
        rest => {
            if let Some(term) = rest.strip_suffix("/connect") {
                let Body(wish) = Body::<NetworkConnect>::from_request(request, &()).await?;
                api.control.connect(term, wish).await?;
            } else if let Some(term) = rest.strip_suffix("/disconnect") {
                let Body(wish) = Body::<NetworkDisconnect>::from_request(request, &()).await?;
                api.control.disconnect(term, wish).await?;
            } else {
                return Err(ApiError::page_not_found());
            }
            Ok(StatusCode::OK.into_response())
        }
    }
}

async fn create(api: &Api, request: Request) -> Result<Response, ApiError> {
    let Body(wish) = Body::<NetworkCreate>::from_request(request, &()).await?;
    let created = api.control.create_network(wish).await?;
    let answer = NetworkCreated {
        id: created.id.to_string(),
        warning: created.warning,
    };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn prune(api: &Api, query: &HashMap<String, String>) -> Result<Response, ApiError> {
    let names = api.control.prune_networks(filters(query)?).await?;
    let networks_deleted = (!names.is_empty()).then_some(names);
    Ok(Json(NetworksPruned { networks_deleted }).into_response())
}

/// Go's `strconv.ParseBool`, and the empty text.
fn is_boolean(text: &str) -> bool {
    matches!(
        text,
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False"
    )
}
