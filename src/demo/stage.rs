//! The demo's daemon, sandboxes and commands, all removed when dropped.

use std::{
    env,
    io::{self, BufRead, BufReader, Write as _},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::{AGENT, interrupt::Interrupt};

/// A running daemon with the sandboxes that the demo put up.
pub(super) struct Stage {
    daemon: Child,
    sandboxes: Vec<Child>,
    program: PathBuf,
    dir: TempDir,
    interrupt: Interrupt,
}

impl Stage {
    /// Starts the daemon and waits until it answers.
    pub(super) fn open() -> Result<Self> {
        let program = env::current_exe().context("find this program")?;
        let interrupt = Interrupt::watch()?;
        let dir = tempfile::Builder::new().prefix("vswitch-demo-").tempdir()?;
        writeln!(
            io::stdout(),
            "A daemon of its own, as uid {}",
            rustix::process::geteuid().as_raw()
        )?;
        let daemon = Command::new(&program)
            .arg(crate::daemon::HIDDEN)
            .arg("--host")
            .arg(dir.path().join("api.sock"))
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            // What it warns of is what the host lacks to reach others; the demo goes no further than the host.
            .args(["--log-level", "error"])
            .stdin(Stdio::null())
            // What a terminal sends to all is for the demo alone, which ends its children in order.
            .process_group(0)
            .spawn()
            .context("start the daemon")?;
        let mut stage = Self {
            daemon,
            sandboxes: Vec::new(),
            program,
            dir,
            interrupt,
        };
        let deadline = Instant::now() + START;
        while stage.output(&["info"]).is_err() {
            if let Some(status) = stage.daemon.try_wait()? {
                bail!("the daemon ended at once: {status}");
            }
            ensure!(Instant::now() < deadline, "the daemon does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(stage)
    }

    pub(super) fn heading(&self, text: &str) -> Result<()> {
        writeln!(io::stdout(), "\n== {text}")?;
        Ok(())
    }

    /// Shows a command as a user would type it, runs it, shows its output.
    pub(super) fn run(&mut self, args: &[&str]) -> Result<String> {
        writeln!(io::stdout(), "$ vswitch {}", args.join(" "))?;
        let output = self.quietly(args)?;
        for line in output.lines() {
            writeln!(io::stdout(), "  {line}")?;
        }
        io::stdout().flush()?;
        Ok(output)
    }

    /// Runs a command; its output.
    pub(super) fn quietly(&self, args: &[&str]) -> Result<String> {
        self.interrupt.check()?;
        self.output(args)
            .with_context(|| format!("`vswitch {}`", args.join(" ")))
    }

    fn output(&self, args: &[&str]) -> Result<String> {
        let output = self.vswitch(args).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn vswitch(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--host")
            .arg(self.dir.path().join("api.sock"))
            .args(args)
            .stdin(Stdio::null())
            .process_group(0);
        command
    }

    /// Puts up a sandbox whose process waits to be ended.
    pub(super) fn sandbox(&mut self, name: &str, flags: &[&str]) -> Result<()> {
        writeln!(
            io::stdout(),
            "$ vswitch run --name {name} {} -- vswitch {AGENT} wait",
            flags.join(" ")
        )?;
        let program = self.program.display().to_string();
        let args = [&["run", "--name", name], flags, &["--", &program, AGENT, "wait"]].concat();
        let mut child = self
            .vswitch(&args)
            .stdout(Stdio::piped())
            .spawn()
            .context("run a sandbox")?;
        let output = child.stdout.take().context("the sandbox has no output")?;
        self.sandboxes.push(child);
        let line = read_line(&mut BufReader::new(output))?;
        ensure!(line == "ready", "sandbox {name} did not start");
        Ok(())
    }

    /// Runs one of the demo's own little programs in a sandbox and shows what it says.
    pub(super) fn agent(&mut self, sandbox: &str, args: &[&str]) -> Result<()> {
        writeln!(
            io::stdout(),
            "$ vswitch exec {sandbox} -- vswitch {AGENT} {}",
            args.join(" ")
        )?;
        let program = self.program.display().to_string();
        let output = self.quietly(&[&["exec", sandbox, "--", &program, AGENT], args].concat())?;
        for line in output.lines() {
            writeln!(io::stdout(), "  {line}")?;
        }
        Ok(())
    }

    /// Starts one of them without waiting for it. Its input ends with [`Background::last_line`].
    pub(super) fn agent_in_background(&mut self, sandbox: &str, args: &[&str]) -> Result<Background> {
        let program = self.program.display().to_string();
        let args = [&["exec", sandbox, "--", &program, AGENT], args].concat();
        let mut child = self
            .vswitch(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the agent has no output")?;
        Ok(Background {
            child,
            output: BufReader::new(output),
        })
    }

    /// Ends the sandboxes' processes.
    pub(super) fn end_sandboxes(&mut self) {
        for mut child in self.sandboxes.drain(..) {
            end(&mut child);
        }
    }

    /// Ends the daemon as a service manager would, and checks that it goes in peace.
    pub(super) fn stop(mut self, limit: Duration) -> Result<()> {
        terminate(&self.daemon);
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.daemon.try_wait()? {
                ensure!(
                    status.success() && status.signal().is_none(),
                    "the daemon ended with {status}"
                );
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the daemon does not end on SIGTERM");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end_sandboxes();
        if matches!(self.daemon.try_wait(), Ok(None)) {
            end(&mut self.daemon);
        }
    }
}

/// An agent that runs beside others.
pub(super) struct Background {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Background {
    pub(super) fn first_line(&mut self) -> Result<String> {
        read_line(&mut self.output)
    }

    /// The line that the agent ends with, after the end of its input.
    pub(super) fn last_line(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let line = read_line(&mut self.output)?;
        ensure!(self.child.wait()?.success(), "an agent failed");
        Ok(line)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// How long the daemon may take to answer after its start.
const START: Duration = Duration::from_secs(20);

fn read_line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // A child that has ended already needs no signal.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Asks a child to end, insists after a while, and collects it.
fn end(child: &mut Child) {
    terminate(child);
    let deadline = Instant::now() + Duration::from_secs(3);
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(5));
    }
}
