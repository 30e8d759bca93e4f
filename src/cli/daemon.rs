//! What the daemon says of itself, and how it is reached.

use std::io::{self, Write};

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use super::{args::FormatArgs, failure::Failure, print};
use crate::{
    api::{
        client::{Client, ClientError},
        socket::DaemonSocket,
        types::{DaemonInfo, Version},
    },
    paths,
};

/// The way to one daemon.
#[derive(Debug)]
pub struct Session {
    runtime: Runtime,
    socket: DaemonSocket,
}

impl Session {
    /// A session with the daemon that `host` names, or with the user's own; it is not called yet.
    ///
    /// # Errors
    ///
    /// `host` is no address, or the system has no descriptors left.
    pub fn new(host: Option<&str>) -> Result<Self, Failure> {
        let socket = socket(host)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format_args!("start the client: {error}")))?;
        Ok(Self { runtime, socket })
    }

    /// Calls the daemon.
    ///
    /// # Errors
    ///
    /// Nobody answers.
    pub fn connect(&self) -> Result<Client, ClientError> {
        self.runtime.block_on(Client::connect(&self.socket))
    }

    /// Waits for an exchange with the daemon. No thread is started.
    pub fn wait<T>(&self, exchange: impl Future<Output = T>) -> T {
        self.runtime.block_on(exchange)
    }

    /// Calls the daemon and has `exchange` talk to it.
    ///
    /// # Errors
    ///
    /// Nobody answers, or those of the exchange.
    pub fn ask(&self, exchange: impl AsyncFnOnce(&Client) -> Result<(), Failure>) -> Result<(), Failure> {
        let client = self.connect()?;
        self.wait(exchange(&client))
    }
}

/// The daemon that `--host` names, or the user's own.
///
/// # Errors
///
/// The text is no address, or the default one's directory is not the user's own.
fn socket(host: Option<&str>) -> Result<DaemonSocket, Failure> {
    match host {
        // An empty variable is an unset one.
        None | Some("") => {
            let socket = DaemonSocket::new(paths::default_socket());
            let trusted = socket.path().parent().map_or(Ok(()), paths::check_private);
            match trusted {
                // A place that is not there is a daemon that does not run, and connecting says so.
                Err(error) if error.raw_os_error().is_none() => {
                    Err(Failure::new(format_args!("{error} with --host")))
                }
                _ => Ok(socket),
            }
        }
        Some(host) => host.parse().map_err(Failure::usage),
    }
}

/// `vswitch info`.
///
/// # Errors
///
/// Those of the daemon and of standard output.
pub async fn info(client: &Client, format: FormatArgs, out: &mut impl Write) -> Result<(), Failure> {
    let info = client.daemon().await?;
    if format.is_json() {
        return Ok(print::json(out, &info)?);
    }
    Ok(print_info(out, &info)?)
}

/// `vswitch version`: the client's also when no daemon answers.
///
/// # Errors
///
/// No daemon answers; standard output cannot be written.
pub fn version(session: &Session, format: FormatArgs, out: &mut impl Write) -> Result<(), Failure> {
    let answer = session
        .connect()
        .and_then(|client| session.wait(client.version()));
    let (daemon, failure) = match answer {
        Ok(version) => (Some(version), None),
        Err(error) => (None, Some(Failure::from(error))),
    };
    let versions = Versions {
        client: ClientVersion { version: VERSION },
        daemon,
    };
    if format.is_json() {
        print::json(out, &versions)?;
    } else {
        print_versions(out, &versions)?;
    }
    failure.map_or(Ok(()), Err)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Versions {
    client: ClientVersion,
    daemon: Option<Version>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ClientVersion {
    version: &'static str,
}

fn print_info(out: &mut impl Write, info: &DaemonInfo) -> io::Result<()> {
    let privilege = if info.rootless { "rootless" } else { "root" };
    writeln!(out, "Version:          {}", print::plain(&info.version))?;
    writeln!(out, "Process:          {}", info.pid)?;
    writeln!(out, "Started at:       {}", print::plain(&info.started_at))?;
    writeln!(out, "Packet loops:     {}", info.workers)?;
    writeln!(out, "Privilege:        {privilege}")?;
    writeln!(out, "API socket:       {}", print::plain(&info.api_socket))?;
    writeln!(out, "State directory:  {}", print::plain(&info.state_dir))?;
    if let Some(uplink) = &info.uplink {
        let (interface, mac) = (print::plain(&uplink.interface), print::plain(&uplink.mac_address));
        writeln!(
            out,
            "Uplink:           device {interface}, {mac}, MTU {}",
            uplink.mtu
        )?;
        for (address, standing) in &uplink.addresses {
            let (address, standing) = (print::plain(address), print::plain(standing));
            writeln!(out, "Uplink address:   {address} ({standing})")?;
        }
        for gateway in &uplink.gateways {
            writeln!(out, "Uplink gateway:   {gateway}")?;
        }
    }
    info.hints
        .iter()
        .try_for_each(|hint| writeln!(out, "Hint:             {}", print::plain(hint)))
}

fn print_versions(out: &mut impl Write, versions: &Versions) -> io::Result<()> {
    writeln!(out, "Client:  {}", versions.client.version)?;
    if let Some(daemon) = &versions.daemon {
        let (version, api) = (print::plain(&daemon.version), print::plain(&daemon.api_version));
        writeln!(out, "Daemon:  {version} (API {api})")?;
    }
    Ok(())
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::UplinkInfo;

    #[test]
    fn the_daemon_is_described_line_by_line() {
        let info = DaemonInfo {
            version: "0.1.0".into(),
            pid: 4711,
            started_at: "2026-11-20T16:50:01.415896873Z".into(),
            workers: 2,
            rootless: true,
            api_socket: "unix:///run/user/1000/vswitch.sock".into(),
            state_dir: "/home/alice/.local/state/vswitch".into(),
            hints: vec!["do this".into(), "and that".into()],
            uplink: Some(UplinkInfo {
                interface: "eth1".into(),
                mac_address: "02:42:c0:00:02:0a".into(),
                mtu: 1500,
                gateways: vec![[192, 0, 2, 1].into()],
                addresses: vec![("192.0.2.10/24".into(), "in use".into())],
                neighbours: 1,
                counters: Default::default(),
            }),
        };
        let mut out = Vec::new();
        print_info(&mut out, &info).expect("a vector takes everything");
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "Version:          0.1.0\n\
             Process:          4711\n\
             Started at:       2026-11-20T16:50:01.415896873Z\n\
             Packet loops:     2\n\
             Privilege:        rootless\n\
             API socket:       unix:///run/user/1000/vswitch.sock\n\
             State directory:  /home/alice/.local/state/vswitch\n\
             Uplink:           device eth1, 02:42:c0:00:02:0a, MTU 1500\n\
             Uplink address:   192.0.2.10/24 (in use)\n\
             Uplink gateway:   192.0.2.1\n\
             Hint:             do this\n\
             Hint:             and that\n"
        );
    }

    #[test]
    fn hosts_are_addresses_or_nothing() {
        assert_eq!(
            socket(Some("unix:///run/v.sock")),
            Ok(DaemonSocket::new("/run/v.sock"))
        );
        assert_eq!(socket(Some("")), socket(None));
        assert!(socket(Some("tcp://127.0.0.1:1")).is_err());
    }
}
