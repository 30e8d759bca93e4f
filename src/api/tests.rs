//! The router over a real unix socket, with recorded instead of real devices.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::oneshot,
    task::JoinHandle,
};

use super::{
    client::{Client, ClientError, Listed},
    serve,
    socket::DaemonSocket,
    types::{
        EndpointIpam, EndpointSettings, NetworkConnect, NetworkCreate, NetworkDisconnect, SandboxCreate,
        SandboxNetwork,
    },
};
use crate::control::{
    Control,
    fixtures::{self, FakeAttacher},
};

mod conntrack;
mod containers;
mod docker;
mod flows;
mod networks;
mod ports;
mod protocol;
mod stop;

/// A daemon without devices.
struct Daemon {
    directory: TempDir,
    socket: DaemonSocket,
    control: Control,
    devices: FakeAttacher,
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Daemon {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::start_in(directory).await
    }

    async fn start_in(directory: TempDir) -> Self {
        let (control, devices) = fixtures::control(&directory.path().join("state")).await;
        let socket = DaemonSocket::new(directory.path().join("v.sock"));
        let (listener, socket_file) = socket.listen().expect("the directory is ours");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = serve(listener, control.clone(), async {
            // Dropped by a failing test: that is an end as well.
            let _ = stopped.await;
        });
        let serving = tokio::spawn(async {
            let outcome = served.await;
            drop(socket_file);
            outcome
        });
        let client = Client::connect(&socket).await.expect("the daemon listens");
        Self {
            directory,
            socket,
            control,
            devices,
            client,
            stop,
            serving,
        }
    }

    /// Ends as `kill -9` does: nothing is cleaned up.
    async fn kill(self) -> TempDir {
        let Self {
            directory,
            control,
            stop,
            serving,
            ..
        } = self;
        stop.send(()).expect("it serves");
        serving.await.expect("no panic").expect("no error");
        drop(control);
        // Commands and watchers of the old daemon hold the state's lock for a moment.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        directory
    }

    /// Status, headers and body of one raw request.
    async fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = UnixStream::connect(self.socket.path())
            .await
            .expect("the daemon listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers in UTF-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        (status, head.to_lowercase(), body.to_owned())
    }

    /// Status and JSON body.
    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, _, answer) = self
            .raw(&format!(
                "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .await;
        (status, serde_json::from_str(&answer).unwrap_or(Value::Null))
    }

    /// Creates a user-defined network.
    async fn network(&self, name: &str, subnet: &str) -> String {
        let body = json!({"Name": name, "IPAM": {"Config": [{"Subnet": subnet}]}});
        let (status, answer) = self.call("POST", "/networks/create", &body).await;
        assert_eq!(status, 201, "{answer}");
        answer["Id"].as_str().expect("an id").to_owned()
    }

    /// Hands our own process over as a sandbox.
    async fn sandbox(&self, name: &str, networks: &[&str]) -> Result<String, ClientError> {
        self.client
            .create_sandbox(&ourselves(name, networks))
            .await
            .map(|created| created.id)
    }
}

fn ourselves(name: &str, networks: &[&str]) -> SandboxCreate {
    let networks = networks.iter().map(|network| SandboxNetwork {
        network: (*network).to_owned(),
        ..SandboxNetwork::default()
    });
    SandboxCreate {
        name: name.to_owned(),
        pid: Some(std::process::id()),
        netns: None,
        hostname: None,
        networks: networks.collect(),
        auto_remove: true,
        ports: Vec::new(),
    }
}

fn wish(container: &str) -> NetworkConnect {
    NetworkConnect {
        container: container.to_owned(),
        endpoint_config: None,
    }
}

fn with_ip(container: &str, ip: &str) -> NetworkConnect {
    let ipam = EndpointIpam {
        ipv4_address: ip.to_owned(),
        ..EndpointIpam::default()
    };
    let settings = EndpointSettings {
        ipam_config: Some(ipam),
        ..EndpointSettings::default()
    };
    NetworkConnect {
        container: container.to_owned(),
        endpoint_config: Some(settings),
    }
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, ClientError>) -> (u16, String) {
    match outcome {
        Err(ClientError::Refused { status, message }) => (status, message),
        other => panic!("not refused: {other:?}"),
    }
}

/// The docker client, or a visible reason why its tests are skipped.
fn docker() -> Option<PathBuf> {
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path)
            .map(|directory| directory.join("docker"))
            .find(|file| file.is_file())
    });
    if found.is_none() {
        eprintln!("skipped: there is no docker client in $PATH");
    }
    found
}

/// Runs the docker client against the daemon; gives success, standard output and standard error.
async fn run_docker(program: PathBuf, socket: &DaemonSocket, args: &str) -> (bool, String, String) {
    let mut command = Command::new(program);
    command
        .args(args.split_whitespace())
        .env("DOCKER_HOST", socket.to_string())
        .env_remove("DOCKER_CONTEXT");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("no panic");
    let output = output.expect("docker starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn create(name: &str) -> NetworkCreate {
    NetworkCreate {
        name: name.to_owned(),
        ..NetworkCreate::default()
    }
}

fn disconnect(container: &str) -> NetworkDisconnect {
    NetworkDisconnect {
        container: container.to_owned(),
        force: false,
    }
}
