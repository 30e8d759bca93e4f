//! Pairs of network namespaces joined by one switch or another, torn down on drop.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    iter,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;

use crate::{
    agent::CONGESTION_CONTROL,
    daemon::{Daemon, NETWORK},
    traffic::Ends,
};

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

    /// One whose sockets use the same congestion control as the agents: a relay's sockets are its own.
    pub(crate) fn with_cubic(role: &str) -> Result<Self> {
        let netns = Self::new(role)?;
        netns.use_cubic()?;
        Ok(netns)
    }

    /// The namespace of a process, by a name of ours.
    pub(crate) fn of_process(role: &str, pid: u32) -> Result<Self> {
        let name = format!("vsb{}-{role}", std::process::id());
        ip(&["netns", "attach", &name, &pid.to_string()])?;
        Ok(Self { name })
    }

    /// From now on its new sockets use the same congestion control as the agents.
    pub(crate) fn use_cubic(&self) -> Result<()> {
        let setting = format!("net.ipv4.tcp_congestion_control={CONGESTION_CONTROL}");
        self.run("sysctl", &["-qw", &setting])
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub(crate) fn ip(&self, args: &[&str]) -> Result<()> {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// Runs a program of iproute2's or the system's inside, for its effect.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<()> {
        run(self.command(program).args(args))
    }

    /// What iproute2 answers as JSON.
    pub(crate) fn ip_json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let output = output(Command::new("ip").args(["-n", &self.name, "-j"]).args(args))?;
        serde_json::from_slice(&output).with_context(|| format!("the answer of ip -j {args:?}"))
    }

    /// A command that will run inside, as the very process that is spawned.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Starts an agent (see `agent.rs`) inside, on the given cores if any are named.
    pub(crate) fn agent(&self, cores: Option<&str>, args: &[&str]) -> Result<Running> {
        let bench = env::current_exe()?;
        let bench = bench.to_str().context("this program's path is not text")?;
        let mut command = match cores {
            Some(cores) => {
                let mut command = self.command("taskset");
                command.args(["-c", cores, bench]);
                command
            }
            None => self.command(bench),
        };
        command.arg("agent").args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run agent {args:?}"))?;
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

    /// Lets an agent go on that waits for the end of its input.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Lets an agent go on that waits for a line.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the agent's input has ended")?;
        writeln!(input, "go on").context("the agent takes no input")
    }

    /// Waits for the result.
    pub(crate) fn result<T: DeserializeOwned>(mut self) -> Result<T> {
        let result = self.report()?;
        ensure!(self.child.wait()?.success(), "the agent failed");
        Ok(result)
    }

    /// Waits for something that the agent says while it goes on.
    pub(crate) fn report<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.line()?;
        ensure!(!line.is_empty(), "the agent ended without a result");
        serde_json::from_str(&line).with_context(|| format!("the agent printed {line:?}"))
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
    a: Netns,
    b: Netns,
    b_address: Ipv4Addr,
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

    /// The pair as traffic from a to b.
    pub(crate) fn ends(&self) -> Ends<'_> {
        Ends {
            client: &self.a,
            server: &self.b,
            address: self.b_address,
            port: None,
        }
    }
}

/// Asks a process to end, and waits until it has.
pub(crate) fn terminate(child: &mut Child) {
    if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let _ = child.wait();
}

fn ip(args: &[&str]) -> Result<()> {
    run(Command::new("ip").args(args))
}

/// Runs a command to its end for its effect; what it complained of if it fails.
fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let line = line_of(command);
    let output = command
        .output()
        .with_context(|| format!("run `{line}` (is it installed?)"))?;
    if !output.status.success() {
        bail!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// A command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let words = iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
