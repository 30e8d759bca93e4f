//! Typed client of the API, for the CLI and for tests.

use std::{fmt::Write as _, io, marker::PhantomData};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use super::{
    socket::DaemonSocket,
    types::{
        Bridge, ConnectionCount, ConnectionEntry, ConnectionEvent, Container, ContainerSummary, DaemonInfo,
        ErrorBody, Event, FdbEntry, FlowEntry, Info, NatInfo, Network, NetworkConnect, NetworkCreate,
        NetworkCreated, NetworkDisconnect, NetworksPruned, PortEntry, PortStats, PortsPublish,
        PortsPublished, PortsUnpublish, SandboxCreate, SandboxCreated, Version,
    },
};

/// Talks to one daemon; each request opens a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: DaemonSocket,
}

/// Conditions for lists as `(key, value)` pairs, for example `("name", "web")`.
pub type Filters<'a> = [(&'a str, &'a str)];

impl Client {
    /// A client of the daemon that listens at `socket`.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`], [`ClientError::Forbidden`] or [`ClientError::Connection`].
    pub async fn connect(socket: &DaemonSocket) -> Result<Self, ClientError> {
        let client = Self {
            socket: socket.clone(),
        };
        client.open().await?;
        Ok(client)
    }

    /// The daemon's version, as Docker words it.
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.fetch("/version").await
    }

    /// What the daemon has, as Docker words it.
    pub async fn info(&self) -> Result<Info, ClientError> {
        self.fetch("/info").await
    }

    /// All networks that pass the filters.
    pub async fn networks(&self, filters: &Filters<'_>) -> Result<Vec<Network>, ClientError> {
        self.fetch(&format!("/networks{}", query(filters, &[]))).await
    }

    /// One network with its endpoints, by name or id.
    pub async fn network(&self, name: &str) -> Result<Network, ClientError> {
        self.fetch(&format!("/networks/{}", segment(name))).await
    }

    /// Creates a network.
    pub async fn create_network(&self, wish: &NetworkCreate) -> Result<NetworkCreated, ClientError> {
        self.post("/networks/create", wish).await
    }

    /// Removes a network that no endpoint is on.
    pub async fn remove_network(&self, name: &str) -> Result<(), ClientError> {
        self.send(
            Method::DELETE,
            &format!("/networks/{}", segment(name)),
            Bytes::new(),
        )
        .await
        .map(drop)
    }

    /// Removes all user-defined networks that no endpoint is on; gives their names.
    pub async fn prune_networks(&self, filters: &Filters<'_>) -> Result<Vec<String>, ClientError> {
        let pruned: NetworksPruned = self
            .post(&format!("/networks/prune{}", query(filters, &[])), &())
            .await?;
        Ok(pruned.networks_deleted.unwrap_or_default())
    }

    /// Connects a sandbox to one more network.
    pub async fn connect_network(&self, name: &str, wish: &NetworkConnect) -> Result<(), ClientError> {
        let body = encode(wish)?;
        self.send(
            Method::POST,
            &format!("/networks/{}/connect", segment(name)),
            body,
        )
        .await
        .map(drop)
    }

    /// Takes a sandbox off a network.
    pub async fn disconnect_network(&self, name: &str, wish: &NetworkDisconnect) -> Result<(), ClientError> {
        let body = encode(wish)?;
        self.send(
            Method::POST,
            &format!("/networks/{}/disconnect", segment(name)),
            body,
        )
        .await
        .map(drop)
    }

    /// The sandboxes that pass the filters; those whose process has ended only on request.
    pub async fn containers(
        &self,
        which: Listed,
        filters: &Filters<'_>,
    ) -> Result<Vec<ContainerSummary>, ClientError> {
        let all = match which {
            Listed::All => "1",
            Listed::Running => "0",
        };
        self.fetch(&format!("/containers/json{}", query(filters, &[("all", all)])))
            .await
    }

    /// One sandbox, by name or id.
    pub async fn container(&self, name: &str) -> Result<Container, ClientError> {
        self.fetch(&format!("/containers/{}/json", segment(name))).await
    }

    /// Asks a sandbox's process to end, and kills it when it has not within `seconds`; one that has ended
    /// already is no error.
    pub async fn stop_container(&self, name: &str, seconds: u32) -> Result<(), ClientError> {
        let path = format!("/containers/{}/stop?t={seconds}", segment(name));
        match self.send(Method::POST, &path, Bytes::new()).await {
            Err(ClientError::Refused { status, .. }) if status == StatusCode::NOT_MODIFIED.as_u16() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// The daemon's own view of itself.
    pub async fn daemon(&self) -> Result<DaemonInfo, ClientError> {
        self.fetch("/vswitch/v1/info").await
    }

    /// Gives a network namespace to the daemon and connects it.
    pub async fn create_sandbox(&self, wish: &SandboxCreate) -> Result<SandboxCreated, ClientError> {
        self.post("/vswitch/v1/sandboxes", wish).await
    }

    /// Takes a sandbox off all its networks and forgets it.
    pub async fn delete_sandbox(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/vswitch/v1/sandboxes/{}", segment(name));
        self.send(Method::DELETE, &path, Bytes::new()).await.map(drop)
    }

    /// Publishes ports of a running sandbox.
    pub async fn publish_ports(
        &self,
        name: &str,
        wish: &PortsPublish,
    ) -> Result<PortsPublished, ClientError> {
        let path = format!("/vswitch/v1/sandboxes/{}/ports", segment(name));
        self.post(&path, wish).await
    }

    /// Takes published ports of a sandbox back.
    pub async fn unpublish_ports(&self, name: &str, wish: &PortsUnpublish) -> Result<(), ClientError> {
        let path = format!("/vswitch/v1/sandboxes/{}/ports", segment(name));
        self.send(Method::DELETE, &path, encode(wish)?).await.map(drop)
    }

    /// The published ports of one sandbox or of all, with what has come by them.
    pub async fn ports(&self, sandbox: Option<&str>) -> Result<Vec<PortEntry>, ClientError> {
        self.fetch(&format!("/vswitch/v1/ports{}", scope("name", sandbox)))
            .await
    }

    /// The switches with their ports, of one network or of all.
    pub async fn bridges(&self, network: Option<&str>) -> Result<Vec<Bridge>, ClientError> {
        self.fetch(&format!("/vswitch/v1/bridges{}", scope("network", network)))
            .await
    }

    /// The forwarding entries of one network or of all.
    pub async fn fdb(&self, network: Option<&str>) -> Result<Vec<FdbEntry>, ClientError> {
        self.fetch(&format!("/vswitch/v1/fdb{}", scope("network", network)))
            .await
    }

    /// Counters of every port.
    pub async fn stats(&self) -> Result<Vec<PortStats>, ClientError> {
        self.fetch("/vswitch/v1/stats").await
    }

    /// Counters of one network's ports.
    pub async fn network_stats(&self, network: &str) -> Result<Vec<PortStats>, ClientError> {
        self.fetch(&format!("/vswitch/v1/stats{}", scope("network", Some(network))))
            .await
    }

    /// Counters of one sandbox's ports.
    pub async fn sandbox_stats(&self, sandbox: &str) -> Result<Vec<PortStats>, ClientError> {
        self.fetch(&format!("/vswitch/v1/stats{}", scope("sandbox", Some(sandbox))))
            .await
    }

    /// The flows that end in host sockets.
    pub async fn flows(&self) -> Result<Vec<FlowEntry>, ClientError> {
        self.fetch("/vswitch/v1/flows").await
    }

    /// The flows of one network's containers.
    pub async fn network_flows(&self, network: &str) -> Result<Vec<FlowEntry>, ClientError> {
        self.fetch(&format!("/vswitch/v1/flows{}", scope("network", Some(network))))
            .await
    }

    /// The flows of one sandbox.
    pub async fn sandbox_flows(&self, sandbox: &str) -> Result<Vec<FlowEntry>, ClientError> {
        self.fetch(&format!("/vswitch/v1/flows{}", scope("sandbox", Some(sandbox))))
            .await
    }

    /// The connections of the translation that fit `conditions`, pairs of a key and a value such as `("protocol", "tcp")`.
    pub async fn connections(&self, conditions: &Filters<'_>) -> Result<Vec<ConnectionEntry>, ClientError> {
        self.fetch(&format!("/vswitch/v1/conntrack{}", query(&[], conditions)))
            .await
    }

    /// Removes the connections that fit; gives what they were.
    pub async fn remove_connections(
        &self,
        conditions: &Filters<'_>,
    ) -> Result<Vec<ConnectionEntry>, ClientError> {
        let path = format!("/vswitch/v1/conntrack{}", query(&[], conditions));
        decode(&self.send(Method::DELETE, &path, Bytes::new()).await?)
    }

    /// Removes all connections.
    pub async fn flush_connections(&self) -> Result<(), ClientError> {
        let response = self.request(Method::DELETE, "/vswitch/v1/conntrack", Bytes::new());
        let mut body = response.await?.into_body();
        let mut last = Bytes::new();
        // What they were may be much, and nobody wants to know.
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                last = data;
            }
        }
        match last.trim_ascii_end().ends_with(b"]") {
            true => Ok(()),
            false => Err(ClientError::Answer(
                "it ends early; some connections may be left".into(),
            )),
        }
    }

    /// How many connections there are.
    pub async fn connection_count(&self) -> Result<u64, ClientError> {
        let answer: ConnectionCount = self.fetch("/vswitch/v1/conntrack/count").await?;
        Ok(answer.count)
    }

    /// What happens from now on to connections that fit; `types` is a condition, too.
    pub async fn connection_events(
        &self,
        conditions: &Filters<'_>,
    ) -> Result<EventStream<ConnectionEvent>, ClientError> {
        self.stream(&format!("/vswitch/v1/conntrack/events{}", query(&[], conditions)))
            .await
    }

    /// What is translated to what.
    pub async fn nat(&self) -> Result<NatInfo, ClientError> {
        self.fetch("/vswitch/v1/nat").await
    }

    /// What happens from now on.
    pub async fn events(&self, filters: &Filters<'_>) -> Result<EventStream, ClientError> {
        self.stream(&format!("/events{}", query(filters, &[]))).await
    }

    async fn stream<T>(&self, path: &str) -> Result<EventStream<T>, ClientError> {
        let response = self.request(Method::GET, path, Bytes::new()).await?;
        Ok(EventStream {
            body: response.into_body(),
            buffer: Vec::new(),
            event: PhantomData,
        })
    }

    async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        decode(&self.send(Method::GET, path, Bytes::new()).await?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, wish: &impl Serialize) -> Result<T, ClientError> {
        decode(&self.send(Method::POST, path, encode(wish)?).await?)
    }

    /// The answer's whole body.
    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let response = self.request(method, path, body).await?;
        Ok(response.into_body().collect().await?.to_bytes())
    }

    /// The answer, when its status says success.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<hyper::Response<Incoming>, ClientError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.open().await?)).await?;
        // Ends by itself when the exchange is over; what goes wrong there shows in `send_request`.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "vswitch")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("vswitch/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|_| ClientError::Answer(format!("{path:?} is not a request path")))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await?.to_bytes();
        let message = match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(error) => error.message,
            Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        Err(ClientError::Refused {
            status: status.as_u16(),
            message,
        })
    }

    async fn open(&self) -> Result<UnixStream, ClientError> {
        let socket = self.socket.clone();
        UnixStream::connect(self.socket.path())
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(socket),
                io::ErrorKind::PermissionDenied => ClientError::Forbidden(socket),
                _ => ClientError::Connection { socket, error },
            })
    }
}

/// Which sandboxes a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Also those whose process has ended.
    All,
    /// Only those that live.
    Running,
}

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream<T = Event> {
    body: Incoming,
    buffer: Vec<u8>,
    event: PhantomData<T>,
}

impl<T: DeserializeOwned> EventStream<T> {
    /// The next event; `None` when the daemon has ended the stream.
    ///
    /// # Errors
    ///
    /// The connection broke or a line is no event.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return decode(&line).map(Some);
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// Why a request brought no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon's answer is not what this client understands.
    #[error("unexpected answer of the daemon: {0}")]
    Answer(String),
    /// The socket cannot be used.
    #[error("cannot connect to {socket}: {error}")]
    Connection {
        /// The daemon's address.
        socket: DaemonSocket,
        /// What the kernel said.
        error: io::Error,
    },
    /// The socket belongs to somebody else.
    #[error("no permission to use {0}; it belongs to another user's vswitchd")]
    Forbidden(DaemonSocket),
    /// Nobody listens.
    #[error("no daemon answers at {0}; start it with: vswitchd")]
    NotRunning(DaemonSocket),
    /// The daemon refused; its words say why.
    #[error("{message}")]
    Refused {
        /// HTTP status, such as 404.
        status: u16,
        /// What the daemon said.
        message: String,
    },
    /// The connection broke.
    #[error("the connection to the daemon broke: {0}")]
    Transport(#[from] hyper::Error),
}

impl ClientError {
    /// Whether the daemon does not know the object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND.as_u16())
    }
}

fn encode(value: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| ClientError::Answer(error.to_string()))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Answer(error.to_string()))
}

fn scope(key: &str, value: Option<&str>) -> String {
    value
        .map(|value| format!("?{key}={}", segment(value)))
        .unwrap_or_default()
}

/// The query of a list: `filters` in Docker's form (key, then value, then `true`) and plain members.
fn query(filters: &Filters<'_>, members: &[(&str, &str)]) -> String {
    let mut text = String::new();
    let mut push = |key: &str, value: &str| {
        let mark = if text.is_empty() { '?' } else { '&' };
        let _ = write!(text, "{mark}{key}={}", segment(value));
    };
    for (key, value) in members {
        push(key, value);
    }
    if !filters.is_empty() {
        let mut map = serde_json::Map::new();
        for (key, value) in filters {
            map.entry(*key).or_insert_with(|| serde_json::json!({}))[*value] = true.into();
        }
        push("filters", &serde_json::Value::Object(map).to_string());
    }
    text
}

/// Percent-encodes what RFC 3986 section 2.3 does not call unreserved.
fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_in_a_path() {
        assert_eq!(segment("my_net-2.x~"), "my_net-2.x~");
        assert_eq!(segment("bad name!/é"), "bad%20name%21%2F%C3%A9");
    }

    #[test]
    fn filters_take_dockers_form() {
        assert_eq!(query(&[], &[]), "");
        let text = query(&[("name", "a"), ("name", "b")], &[("all", "1")]);
        assert_eq!(
            text,
            format!("?all=1&filters={}", segment(r#"{"name":{"a":true,"b":true}}"#))
        );
    }

    #[tokio::test]
    async fn a_missing_daemon_is_named_with_the_remedy() {
        let socket = DaemonSocket::new("/nonexistent/v.sock");
        let error = Client::connect(&socket)
            .await
            .expect_err("there is no such socket");
        assert_eq!(
            error.to_string(),
            "no daemon answers at unix:///nonexistent/v.sock; start it with: vswitchd"
        );
    }
}
