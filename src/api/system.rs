//! `/_ping`, `/version` and `/info`.

use axum::{Json, extract::State, response::IntoResponse};
use hyper::header;

use super::{
    server::{API_VERSION, Api, MIN_API_VERSION},
    types::{AddressPool, Component, Info, Platform, Plugins, StringMap, Swarm, Version},
};
use crate::control::SubnetPool;

/// GET and HEAD; the headers are what clients look at.
pub(super) async fn ping() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::HeaderName::from_static("builder-version"), "2"),
        (header::HeaderName::from_static("swarm"), "inactive"),
    ];
    (headers, "OK")
}

pub(super) async fn version() -> Json<Version> {
    let release = kernel_release();
    let details = [
        ("ApiVersion", API_VERSION),
        ("Arch", go_architecture()),
        ("Experimental", "false"),
        ("KernelVersion", release.as_str()),
        ("MinAPIVersion", MIN_API_VERSION),
        ("Os", "linux"),
    ];
    let details: StringMap = details
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    Json(Version {
        platform: Platform {
            name: "vswitchd".into(),
        },
        components: vec![Component {
            name: "Engine".into(),
            version: VERSION.into(),
            details,
        }],
        version: VERSION.into(),
        api_version: API_VERSION.into(),
        min_api_version: MIN_API_VERSION.into(),
        git_commit: String::new(),
        go_version: String::new(),
        os: "linux".into(),
        arch: go_architecture().into(),
        kernel_version: release,
    })
}

pub(super) async fn info(State(api): State<Api>) -> Json<Info> {
    let uname = rustix::system::uname();
    let (containers, running) = api.control.read(|state| {
        let running = state
            .sandboxes()
            .filter(|sandbox| sandbox.finished.is_none())
            .count();
        (state.sandboxes().count(), running)
    });
    let pools = api.control.pools();
    let default_address_pools = if pools == SubnetPool::defaults() {
        Vec::new()
    } else {
        pools
            .iter()
            .map(|pool| AddressPool {
                base: pool.base().to_string(),
                size: pool.size(),
            })
            .collect()
    };
    Json(Info {
        id: api.control.host_id().to_owned(),
        containers,
        containers_running: running,
        containers_stopped: containers - running,
        name: uname.nodename().to_string_lossy().into_owned(),
        server_version: VERSION.into(),
        os_type: "linux".into(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        kernel_version: kernel_release(),
        plugins: Plugins {
            network: ["bridge", "host", "null"].map(str::to_owned).into(),
        },
        default_address_pools,
        swarm: Swarm {
            local_node_state: "inactive".into(),
        },
        warnings: Vec::new(),
    })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Go's name of the processor that we were built for.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
