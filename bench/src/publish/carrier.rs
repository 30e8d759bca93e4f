//! How each peer is started.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use super::{
    peer::Peer,
    stage::{Bridged, router},
};
use crate::{
    daemon::{Daemon, NETWORK, sibling},
    program::Program,
    stage::Stage,
    topology::Netns,
};

/// A container with a published port, for TCP and UDP.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) carrier: Carrier,
    pub(super) container: Netns,
    /// How it was published, as one would type it.
    pub(super) command: String,
}

/// What leads to the container.
#[derive(Debug)]
pub(super) enum Carrier {
    Daemon(Sandboxed),
    Kernel { _router: Netns },
    Programs(Vec<Program>),
    Rootlesskit(Rootlesskit),
    Slirp4netns { program: Program, _dir: TempDir },
}

impl Published {
    /// Starts a peer; connections may fail for a moment still.
    pub(super) fn start(peer: Peer, port: u16, stage: &Stage, daemon_flags: &[String]) -> Result<Self> {
        match peer {
            Peer::Ours => ours(port, stage, daemon_flags),
            Peer::DockerProxy => docker(port, stage, Path::new(DOCKER_PROXY)),
            Peer::OurDockerProxy => docker(port, stage, &sibling("docker-proxy")?),
            Peer::Rootlesskit => rootlesskit(port, stage),
            Peer::Pasta => pasta(port, stage),
            Peer::Slirp4netns => slirp4netns(port, stage),
            Peer::Kernel => {
                let container = Netns::with_cubic("kernel")?;
                let (router, command) = router(stage, &container, port)?;
                Ok(Self {
                    carrier: Carrier::Kernel { _router: router },
                    container,
                    command,
                })
            }
        }
    }
}

impl Carrier {
    /// The processes that carry.
    pub(super) fn processes(&self) -> Vec<u32> {
        match self {
            Self::Daemon(sandboxed) => vec![sandboxed.daemon.pid()],
            Self::Kernel { .. } => Vec::new(),
            Self::Programs(programs) => programs.iter().map(Program::pid).collect(),
            Self::Rootlesskit(rootlesskit) => vec![rootlesskit.parent.pid(), rootlesskit.child],
            Self::Slirp4netns { program, .. } => vec![program.pid()],
        }
    }

    /// What it has said, in brackets.
    pub(super) fn complaint(&self) -> String {
        match self {
            Self::Daemon(_) | Self::Kernel { .. } => String::new(),
            Self::Programs(programs) => programs.iter().map(Program::complaint).collect(),
            Self::Rootlesskit(rootlesskit) => rootlesskit.parent.complaint(),
            Self::Slirp4netns { program, .. } => program.complaint(),
        }
    }
}

/// A daemon with one sandbox.
#[derive(Debug)]
pub(crate) struct Sandboxed {
    pub(crate) daemon: Daemon,
}

impl Sandboxed {
    /// The sandbox's.
    pub(crate) const NAME: &str = "web";

    /// Starts both, with these words for `run`; also the sandbox's namespace, named for its role.
    pub(crate) fn start(host: &Netns, flags: &[String], role: &str, words: &[&str]) -> Result<(Self, Netns)> {
        let sandboxed = Self {
            daemon: Daemon::start_in(host, flags)?,
        };
        let daemon = &sandboxed.daemon;
        daemon.vswitch(&["network", "create", "--subnet", "10.98.0.0/16", NETWORK])?;
        daemon.vswitch(&Self::run(words))?;
        let answer = daemon.vswitch(&["inspect", "--format", "json", Self::NAME])?;
        let [sandbox]: [Value; 1] = serde_json::from_str(&answer)?;
        let pid = sandbox["State"]["Pid"].as_u64().context("inspect tells no Pid")?;
        let container = Netns::of_process(role, pid.try_into()?)?;
        container.use_cubic()?;
        Ok((sandboxed, container))
    }

    /// The command with these words of the caller's.
    pub(crate) fn run<'a>(words: &[&'a str]) -> Vec<&'a str> {
        let run = ["run", "-d", "--name", Self::NAME, "--network", NETWORK];
        [&run[..], words, &["sleep", "infinity"]].concat()
    }
}

impl Drop for Sandboxed {
    fn drop(&mut self) {
        // Its process outlives the daemon.
        let _ = self.daemon.vswitch(&["stop", "-t", "0", Self::NAME]);
    }
}

fn ours(port: u16, stage: &Stage, flags: &[String]) -> Result<Published> {
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| format!("0.0.0.0:{port}:{port}/{protocol}"));
    let ports = ["-p", &tcp, "-p", &udp];
    let (sandboxed, container) = Sandboxed::start(&stage.host, flags, "ours", &ports)?;
    let run = Sandboxed::run(&ports).join(" ");
    Ok(Published {
        carrier: Carrier::Daemon(sandboxed),
        container,
        command: format!("vswitchd {}; vswitch {run}", flags.join(" ")),
    })
}

/// Debian's place for it (docker.io).
pub(crate) const DOCKER_PROXY: &str = "/usr/sbin/docker-proxy";

/// A container as dockerd builds it; without DNAT, so that the proxy carries everything.
fn docker(port: u16, stage: &Stage, program: &Path) -> Result<Published> {
    let (role, number) = match program == Path::new(DOCKER_PROXY) {
        true => ("docker", 1),
        false => ("drop-in", 2),
    };
    let container = Netns::with_cubic(role)?;
    let Bridged { address } = Bridged::lay(&stage.host, &container, number)?;
    let proxies =
        ["tcp", "udp"].map(|protocol| docker_proxy(&stage.host, program, protocol, (address, port)));
    let proxies = proxies.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(Published {
        command: proxies[0].line.clone(),
        carrier: Carrier::Programs(proxies),
        container,
    })
}

/// Starts a docker-proxy and waits until it says that it listens. Publishes the container's port as that of all
/// the host's addresses.
pub(crate) fn docker_proxy(
    host: &Netns,
    program: &Path,
    protocol: &str,
    container: (Ipv4Addr, u16),
) -> Result<Program> {
    let (address, port) = container;
    let (address, port) = (address.to_string(), port.to_string());
    // Descriptor 3 is where it tells dockerd how binding went.
    let mut command = host.command("sh");
    command
        .args(["-c", "exec \"$0\" \"$@\" 3>&1 >&2"])
        .arg(program)
        .args([
            "-proto",
            protocol,
            "-host-ip",
            "0.0.0.0",
            "-host-port",
            &port,
            "-container-ip",
            &address,
            "-container-port",
            &port,
        ]);
    let (program, status) = Program::start_piped(command)?;
    let mut said = String::new();
    BufReader::new(status).read_line(&mut said)?;
    ensure!(said == "0\n", "{}: {said:?}{}", program.line, program.complaint());
    Ok(program)
}

/// RootlessKit with a command that waits.
#[derive(Debug)]
pub(super) struct Rootlesskit {
    parent: Program,
    /// Makes the connections inside, which the parent then carries.
    child: u32,
    _state: TempDir,
    _subordinate: NamedTempFile,
}

fn rootlesskit(port: u16, stage: &Stage) -> Result<Published> {
    let dir = tempfile::tempdir()?;
    let state = dir.path().join("state");
    // It insists on subordinate ids, which root has none of; those in the file below are for nobody else, and the
    // mounts for its own mount namespace (ip-netns(8) makes one).
    let mut subordinate = NamedTempFile::new()?;
    writeln!(subordinate, "root:200000:65536")?;
    let script = "mount --bind \"$0\" /etc/subuid && mount --bind \"$0\" /etc/subgid && exec \"$@\"";
    let mut command = stage.host.command("sh");
    command.args(["-c", script]).arg(subordinate.path());
    command.arg("rootlesskit").arg("--state-dir").arg(&state).args([
        "--net=slirp4netns",
        "--mtu=1500",
        "--disable-host-loopback",
        "--port-driver=builtin",
        "--copy-up=/etc",
    ]);
    for protocol in ["tcp", "udp"] {
        command
            .arg("--publish")
            .arg(format!("0.0.0.0:{port}:{port}/{protocol}"));
    }
    command.args(["sleep", "infinity"]);
    let parent = Program::start(command)?;
    let child = wait_for(&parent, || {
        let text = fs::read_to_string(state.join("child_pid")).ok()?;
        text.trim().parse().ok()
    })?;
    let container = Netns::of_process("rootlesskit", child)?;
    container.use_cubic()?;
    Ok(Published {
        command: parent.line.clone(),
        carrier: Carrier::Rootlesskit(Rootlesskit {
            parent,
            child,
            _state: dir,
            _subordinate: subordinate,
        }),
        container,
    })
}

fn pasta(port: u16, stage: &Stage) -> Result<Published> {
    let container = Netns::with_cubic("pasta")?;
    let port = port.to_string();
    let mut command = stage.host.command("pasta");
    // In the foreground so that its process is ours to watch; the gateway's address is the remote client's, so it
    // must not mean the host's loopback; as root it must not drop to a user that may not join the namespace.
    command.args([
        "--foreground",
        "--quiet",
        "--config-net",
        "--no-map-gw",
        "-t",
        &port,
        "-u",
        &port,
        "-T",
        "none",
        "-U",
        "none",
        "--ns-ifname",
        TAP,
        "--runas",
        "0",
        "--netns-only",
        "--mtu",
        "1500",
        "--netns",
    ]);
    command.arg(container.path());
    let program = Program::start(command)?;
    Ok(Published {
        command: program.line.clone(),
        carrier: Carrier::Programs(vec![program]),
        container,
    })
}

fn slirp4netns(port: u16, stage: &Stage) -> Result<Published> {
    let container = Netns::with_cubic("slirp")?;
    let dir = tempfile::tempdir()?;
    let api = dir.path().join("api");
    let mut command = stage.host.command("slirp4netns");
    command.args(["--configure", "--mtu=1500", "--disable-dns", "--api-socket"]);
    command
        .arg(&api)
        .arg("--netns-type=path")
        .arg(container.path())
        .arg(TAP);
    let program = Program::start(command)?;
    wait_for(&program, || api.exists().then_some(()))?;
    let wishes = ["tcp", "udp"].map(|protocol| {
        json!({
            "execute": "add_hostfwd",
            "arguments": {
                "proto": protocol,
                "host_addr": "0.0.0.0",
                "host_port": port,
                "guest_addr": "10.0.2.100",
                "guest_port": port,
            },
        })
    });
    for wish in &wishes {
        let mut stream = UnixStream::connect(&api).context("connect to slirp4netns' API")?;
        stream.write_all(wish.to_string().as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(
            answer.contains("\"return\""),
            "slirp4netns answers {answer:?} to {wish}"
        );
    }
    Ok(Published {
        command: format!("{}; {}", program.line, wishes[0]),
        carrier: Carrier::Slirp4netns { program, _dir: dir },
        container,
    })
}

/// The name of the container's device; slirp4netns and pasta are told it.
const TAP: &str = "tap0";

/// Looks again and again until there is something; what the program has said if nothing comes.
fn wait_for<T>(program: &Program, look: impl Fn() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        ensure!(
            Instant::now() < deadline,
            "`{}` does not start{}",
            program.line,
            program.complaint()
        );
        thread::sleep(Duration::from_millis(10));
    }
}
