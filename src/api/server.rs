//! Routes, versions and headers.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        DefaultBodyLimit, Request,
        connect_info::{ConnectInfo, Connected},
    },
    http::{HeaderName, HeaderValue, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
    serve::IncomingStream,
};
use tokio::{net::UnixListener, sync::watch, time};

use super::{
    conntrack, containers, error::ApiError, events, networks, socket::DaemonSocket, system, vswitch,
};
use crate::control::{Caller, Control};

/// Serves the API until `shutdown` completes and the requests under way are answered; clients that do not
/// come to an end are left behind after five seconds.
///
/// # Errors
///
/// Those of accepting connections.
pub async fn serve(
    listener: UnixListener,
    control: Control,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let path = listener.local_addr()?.as_pathname().map(DaemonSocket::new);
    let socket = path.map_or_else(String::new, |socket| socket.to_string());
    let (closing, closed) = watch::channel(false);
    let mut ending = closed.clone();
    let router = router(Api {
        control,
        closing: closed,
        socket: socket.into(),
    });
    let drained = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>())
        .with_graceful_shutdown(async move {
            shutdown.await;
            // Event streams would never end by themselves.
            closing.send_replace(true);
        });
    let overdue = async move {
        // It fails when the sender is gone, which is after it has spoken.
        let _ = ending.wait_for(|closing| *closing).await;
        time::sleep(DRAIN).await;
    };
    tokio::select! {
        drained = drained.into_future() => drained,
        () = overdue => {
            tracing::warn!("clients keep requests open; not waiting for them any longer");
            Ok(())
        }
    }
}

/// How long requests under way may take at the end. Without a limit a client that connects and says
/// nothing would keep the daemon from cleaning up; the slowest command, an attachment, has this much, too.
const DRAIN: Duration = Duration::from_secs(5);

/// What every handler has.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) control: Control,
    /// True when the daemon ends.
    pub(super) closing: watch::Receiver<bool>,
    /// The daemon's address.
    pub(super) socket: Arc<str>,
}

/// The client's identity, as the kernel vouches for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    uid: Option<u32>,
}

impl Peer {
    /// The caller.
    ///
    /// # Errors
    ///
    /// The kernel named none.
    pub(super) fn caller(self) -> Result<Caller, ApiError> {
        self.uid
            .map(|uid| Caller { uid })
            .ok_or_else(|| ApiError::invalid("the kernel does not say who is calling"))
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream.io().peer_cred().ok().map(|credentials| credentials.uid()),
        }
    }
}

pub(super) type PeerInfo = ConnectInfo<Peer>;

/// Newest API version: 1.47 has everything that we can do. 1.48 adds `EnableIPv4` and `GwPriority` to what
/// clients expect to work, 1.52 and later change answers. Clients from Docker 20.10 to 29 negotiate it.
pub(super) const API_VERSION: &str = "1.47";
/// As dockerd 28's.
pub(super) const MIN_API_VERSION: &str = "1.24";
/// More than the largest request needs by two orders of magnitude.
pub(super) const BODY_LIMIT: usize = 1 << 20;

fn router(api: Api) -> Router {
    let routes = Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/events", get(events::events))
        .route("/networks", get(networks::list))
        .route("/networks/", get(networks::list))
        .route(
            "/networks/{*rest}",
            get(networks::inspect)
                .delete(networks::remove)
                .post(networks::change),
        )
        .route("/containers/json", get(containers::list))
        .route("/containers/{name}/json", get(containers::inspect))
        .route("/containers/{name}/kill", post(containers::kill))
        .route("/containers/{name}/stop", post(containers::stop))
        .route("/vswitch/v1/info", get(vswitch::info))
        .route("/vswitch/v1/sandboxes", post(vswitch::create_sandbox))
        .route("/vswitch/v1/sandboxes/{name}", delete(vswitch::delete_sandbox))
        .route(
            "/vswitch/v1/sandboxes/{name}/ports",
            post(vswitch::publish_ports).delete(vswitch::unpublish_ports),
        )
        .route("/vswitch/v1/ports", get(vswitch::ports))
        .route("/vswitch/v1/bridges", get(vswitch::bridges))
        .route("/vswitch/v1/fdb", get(vswitch::fdb))
        .route("/vswitch/v1/stats", get(vswitch::stats))
        .route("/vswitch/v1/flows", get(vswitch::flows))
        .route(
            "/vswitch/v1/conntrack",
            get(conntrack::list).delete(conntrack::remove),
        )
        .route("/vswitch/v1/conntrack/count", get(conntrack::count))
        .route("/vswitch/v1/conntrack/events", get(conntrack::events))
        .route("/vswitch/v1/nat", get(conntrack::nat))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(api);
    // Outside of the routes: the version must be off the path before a route is looked for.
    Router::new()
        .fallback_service(routes)
        .layer(middleware::from_fn(envelope))
}

async fn unknown() -> ApiError {
    ApiError::page_not_found()
}

/// Takes the version off the path and puts Docker's headers on the answer.
async fn envelope(mut request: Request, next: Next) -> Response {
    let mut response = match unversioned(request.uri()) {
        Ok(None) => next.run(request).await,
        Ok(Some(uri)) => {
            *request.uri_mut() = uri;
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

const HEADERS: [(&str, &str); 4] = [
    ("api-version", API_VERSION),
    ("docker-experimental", "false"),
    ("ostype", "linux"),
    (
        "server",
        concat!("vswitchd/", env!("CARGO_PKG_VERSION"), " (linux)"),
    ),
];

/// The URI without its version; `None` when it has none.
fn unversioned(uri: &Uri) -> Result<Option<Uri>, ApiError> {
    let Some((version, rest)) = uri
        .path()
        .strip_prefix("/v")
        .and_then(|rest| rest.split_once('/'))
    else {
        return Ok(None);
    };
    let Some(number) = number(version) else {
        return Ok(None);
    };
    if Some(number) > self::number(API_VERSION) {
        return Err(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {API_VERSION}"
        )));
    }
    if Some(number) < self::number(MIN_API_VERSION) {
        return Err(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, please \
             upgrade your client to a newer version"
        )));
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let bare = format!("/{rest}{query}");
    bare.parse().map(Some).map_err(|_| ApiError::page_not_found())
}

/// `1.47` as numbers.
fn number(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_off_the_path() {
        let off = |text: &'static str| {
            unversioned(&Uri::from_static(text)).map(|uri| uri.map(|uri| uri.to_string()))
        };
        assert_eq!(
            off("/v1.47/networks?filters=x").expect("known"),
            Some("/networks?filters=x".into())
        );
        assert_eq!(
            off("/v1.24/networks/a%2Fb").expect("known"),
            Some("/networks/a%2Fb".into())
        );
        for none in ["/networks", "/vswitch/v1/info", "/v1.47", "/vx.1/networks"] {
            assert_eq!(off(none).expect("no version"), None, "{none}");
        }
        for refused in ["/v1.48/networks", "/v2.0/networks", "/v1.23/networks", "/v0.99/x"] {
            off(refused).expect_err(refused);
        }
    }
}
