//! Pairs of network namespaces joined by one switch or another, torn down on drop.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use tempfile::TempDir;

/// Makes sure that namespaces can be made: goes on as root, or starts over as the root of a user
/// namespace of our own. Returns only when namespaces can be made.
pub(crate) fn become_namespace_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    ensure!(
        env::var_os(INSIDE).is_none(),
        "a user namespace of our own does not make us its root"
    );
    // iproute2 keeps named namespaces in /run/netns, which an ordinary user cannot write to.
    let script = "mount -t tmpfs tmpfs /run && ip link set lo up && exec \"$0\" \"$@\"";
    let error = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "sh",
            "-c",
            script,
        ])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(error).context("run unshare (util-linux)")
}

/// The network that measurements run on.
pub(crate) const NETWORK: &str = "bench";

const INSIDE: &str = "VSWITCH_BENCH_INSIDE";

/// A named network namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    pub(crate) fn new(role: &str) -> Result<Self> {
        let name = format!("vsb{}-{role}", std::process::id());
        ip(&["netns", "add", &name])?;
        let netns = Self { name };
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn ip(&self, args: &[&str]) -> Result<()> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// Starts an agent (see `agent.rs`) inside, on the given cores if any are named.
    pub(crate) fn agent(&self, cores: Option<&str>, args: &[&str]) -> Result<Running> {
        let program = env::current_exe()?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        if let Some(cores) = cores {
            command.args(["taskset", "-c", cores]);
        }
        command
            .arg(program)
            .arg("agent")
            .args(args)
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run agent {args:?}"))?;
        let output = child.stdout.take().context("the agent has no output")?;
        Ok(Running {
            child,
            output: BufReader::new(output),
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// An agent at work; ended when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// The port that a sink or server has printed.
    pub(crate) fn port(&mut self) -> Result<u16> {
        self.line()?.trim().parse().context("the agent printed no port")
    }

    /// Waits for the result.
    pub(crate) fn result<T: DeserializeOwned>(mut self) -> Result<T> {
        let line = self.line()?;
        let result = serde_json::from_str(&line).with_context(|| format!("the agent printed {line:?}"))?;
        ensure!(self.child.wait()?.success(), "the agent failed");
        Ok(result)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two namespaces that reach each other.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) a: Netns,
    pub(crate) b: Netns,
    pub(crate) b_address: Ipv4Addr,
    /// The process whose processor time is the switch's own; none for the kernel.
    pub(crate) daemon: Option<u32>,
    _bridge: Option<Netns>,
}

impl Pair {
    /// The kernel's bridge, with a veth pair to each side.
    pub(crate) fn kernel() -> Result<Self> {
        let (bridge, a, b) = (Netns::new("br")?, Netns::new("ka")?, Netns::new("kb")?);
        bridge.ip(&["link", "add", "br0", "type", "bridge"])?;
        bridge.ip(&["link", "set", "br0", "up"])?;
        for (side, port, address) in [(&a, "pa", "10.99.0.1/24"), (&b, "pb", "10.99.0.2/24")] {
            let peer = [
                "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", &side.name,
            ];
            bridge.ip(&peer)?;
            bridge.ip(&["link", "set", port, "master", "br0", "up"])?;
            side.ip(&["addr", "add", address, "dev", "eth0"])?;
            side.ip(&["link", "set", "eth0", "up"])?;
        }
        Ok(Self {
            a,
            b,
            b_address: Ipv4Addr::new(10, 99, 0, 2),
            daemon: None,
            _bridge: Some(bridge),
        })
    }

    /// Two endpoints of the network [`NETWORK`], which this makes, of `daemon`.
    pub(crate) fn ours(daemon: &Daemon, role: &str) -> Result<Self> {
        daemon.vswitch(&["network", "create", "--subnet", "10.98.0.0/16", NETWORK])?;
        let (a, b) = (Netns::new(&format!("{role}a"))?, Netns::new(&format!("{role}b"))?);
        for (side, name, address) in [(&a, "left", "10.98.0.11"), (&b, "right", "10.98.0.12")] {
            daemon.attach(side, name, Some(address))?;
        }
        Ok(Self {
            a,
            b,
            b_address: Ipv4Addr::new(10, 98, 0, 12),
            daemon: Some(daemon.pid()),
            _bridge: None,
        })
    }

    pub(crate) fn b_socket(&self, port: u16) -> String {
        SocketAddr::new(IpAddr::V4(self.b_address), port).to_string()
    }
}

/// A `vswitchd` of our own in a temporary directory; ended when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    dir: TempDir,
}

impl Daemon {
    pub(crate) fn start(flags: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let child = Command::new(sibling("vswitchd")?)
            .arg("--host")
            .arg(dir.path().join("api.sock"))
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .args(["--log-level", "warn"])
            .args(flags)
            .stdin(Stdio::null())
            .spawn()
            .context("start vswitchd")?;
        let daemon = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !daemon.dir.path().join("api.sock").exists() {
            ensure!(Instant::now() < deadline, "vswitchd does not open its socket");
            thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs the client; its output.
    pub(crate) fn vswitch(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(sibling("vswitch")?)
            .arg("--host")
            .arg(self.dir.path().join("api.sock"))
            .args(args)
            .output()
            .context("run vswitch")?;
        if !output.status.success() {
            bail!(
                "vswitch {args:?}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Attaches a namespace to [`NETWORK`].
    pub(crate) fn attach(&self, netns: &Netns, name: &str, ip: Option<&str>) -> Result<()> {
        let path = netns.path();
        let path = path.to_str().context("the namespace's path is not text")?;
        let mut args = vec!["attach", "--netns", path, "--name", name, "--network", NETWORK];
        if let Some(ip) = ip {
            args.extend(["--ip", ip]);
        }
        self.vswitch(&args).map(drop)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// A program built beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    ensure!(
        fs::metadata(&path).is_ok(),
        "{} is missing: build it first with `cargo build --release --bins`",
        path.display()
    );
    Ok(path)
}

fn ip(args: &[&str]) -> Result<()> {
    run("ip", args)
}

fn run(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("run {program} (is it installed?)"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
