//! A `vswitchd` of our own, torn down on drop.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    cpu, program,
    topology::{Netns, terminate},
};

/// The network that measurements run on.
pub(crate) const NETWORK: &str = "bench";

/// A `vswitchd` of our own in a temporary directory; ended when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    dir: TempDir,
}

impl Daemon {
    /// Starts one in our own namespace.
    pub(crate) fn start(flags: &[String]) -> Result<Self> {
        Self::spawn(Command::new(sibling("vswitchd")?), flags)
    }

    /// Starts one inside a namespace, which its sockets then belong to.
    pub(crate) fn start_in(host: &Netns, flags: &[String]) -> Result<Self> {
        let program = sibling("vswitchd")?;
        Self::spawn(
            host.command(program.to_str().context("the program's path is not text")?),
            flags,
        )
    }

    fn spawn(mut command: Command, flags: &[String]) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let child = command
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

    /// What the daemon holds now.
    pub(crate) fn footprint(&self) -> Result<Footprint> {
        Ok(Footprint {
            resident_kib: cpu::resident_kib(self.pid())?,
            descriptors: fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count(),
        })
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

/// What a daemon holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Footprint {
    pub(crate) resident_kib: u64,
    pub(crate) descriptors: usize,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        terminate(&mut self.child);
    }
}

/// What the daemon says of its version.
pub(crate) fn version() -> Result<String> {
    let program = sibling("vswitchd")?;
    Ok(program::own_version(
        program.to_str().context("the program's path is not text")?,
    ))
}

/// A program built beside this one.
pub(crate) fn sibling(name: &str) -> Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    ensure!(
        fs::metadata(&path).is_ok(),
        "{} is missing: build it first with `cargo build --release --bins`",
        path.display()
    );
    Ok(path)
}
