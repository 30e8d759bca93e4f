//! A daemon of a test's own, with its sandboxes.

use std::{
    fs::{self, File},
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};
use serde_json::Value;
use tempfile::TempDir;
use vswitch::{
    demo::AGENT,
    io::{
        attach::Probed,
        netns::{Liveness, NetnsTarget},
    },
};

use super::{
    agent::{Agent, Role},
    attacher, client_program, namespaces_and_tap,
    outside::behind,
    program, within,
};

/// `vswitchd` with socket and state in a temporary directory.
///
/// Dropping it kills the daemon and every sandbox that it was given; a failing test shows its log.
pub(crate) struct Daemon {
    dir: TempDir,
    /// Words of a command that runs another command where the daemon is.
    entry: Vec<String>,
    /// Words of a command that starts the daemon there.
    starter: Vec<String>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    process: Child,
    sandboxes: Vec<(String, Liveness)>,
}

impl Daemon {
    /// A daemon that answers, or a visible reason why the test is skipped.
    #[must_use]
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with further flags.
    #[must_use]
    pub(crate) fn start_with(flags: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        Self::start_in(dir, flags, &[])
    }

    /// The same in a directory, and with an environment, that the test has prepared.
    #[must_use]
    pub(crate) fn start_in(dir: TempDir, flags: &[&str], environment: &[(&str, &str)]) -> Option<Self> {
        namespaces_and_tap().then(|| Self::launch(dir, Entry::default(), flags, environment))
    }

    /// The same in another place, which these words enter.
    #[must_use]
    pub(super) fn start_behind(entry: Entry, flags: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        namespaces_and_tap().then(|| Self::launch(dir, entry, flags, &[]))
    }

    fn launch(dir: TempDir, entry: Entry, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let environment: Vec<(String, String)> = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let Entry { entry, starter } = entry;
        let process = spawn(dir.path(), &starter, &flags, &environment);
        let mut daemon = Self {
            dir,
            entry,
            starter,
            flags,
            environment,
            process,
            sandboxes: Vec::new(),
        };
        daemon.wait_until_it_listens();
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.dir.path())
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        state_dir(self.dir.path())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the daemon has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join(LOG)).unwrap_or_default()
    }

    /// A client command, not yet started.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut command = behind(&self.entry, client_program());
        command
            .env("VSWITCH_HOST", format!("unix://{}", self.socket().display()))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs a client command to its end.
    pub(crate) fn vswitch(&self, args: &[&str]) -> Outcome {
        Outcome::of(&mut self.client(args))
    }

    /// Runs a client command, given as its words in one text, that must succeed; its output.
    #[track_caller]
    pub(crate) fn ok(&self, words: &str) -> String {
        let outcome = self.vswitch(&split(words));
        assert_eq!(
            (outcome.code, outcome.stderr.as_str()),
            (0, ""),
            "vswitch {words}"
        );
        outcome.stdout
    }

    /// Runs a client command that must be refused; its one line of explanation. Like Docker's, an
    /// `inspect` still prints the list of what it has found.
    #[track_caller]
    pub(crate) fn refused(&self, words: &str) -> String {
        let outcome = self.vswitch(&split(words));
        assert!(
            [1, 2, 125].contains(&outcome.code) && ["", "[]\n"].contains(&&*outcome.stdout),
            "vswitch {words}: {outcome:?}"
        );
        let text = outcome.stderr.trim_end();
        let reason = text
            .strip_prefix("vswitch: ")
            .filter(|reason| !reason.contains('\n'));
        reason
            .unwrap_or_else(|| panic!("vswitch {words}: {text}"))
            .to_owned()
    }

    /// The answer of a client command as JSON.
    #[track_caller]
    pub(crate) fn json(&self, words: &str) -> Value {
        let text = self.ok(&format!("{words} --format json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("vswitch {words}: {error}: {text}"))
    }

    /// Starts a sandbox that waits.
    #[track_caller]
    pub(crate) fn run(&mut self, name: &str, flags: &str) {
        self.ok(&waiting(name, flags));
        self.adopt(name);
    }

    /// The same, whatever comes of it.
    pub(crate) fn try_run(&mut self, name: &str, flags: &str) -> Outcome {
        let outcome = self.vswitch(&split(&waiting(name, flags)));
        if outcome.code == 0 {
            self.adopt(name);
        }
        outcome
    }

    /// Starts sandboxes that wait, all at once.
    #[track_caller]
    pub(crate) fn run_together(&mut self, names: &[&str], flags: &str) {
        let clients = names.iter().map(|name| {
            let mut client = self.client(&split(&waiting(name, flags)));
            client.stdout(Stdio::null()).spawn().expect("the client starts")
        });
        let clients: Vec<Child> = clients.collect();
        for (mut client, name) in clients.into_iter().zip(names) {
            let status = client.wait().expect("our child");
            assert!(status.success(), "{name}: {status}");
            self.adopt(name);
        }
    }

    /// Sees to it that a sandbox ends with the test.
    fn adopt(&mut self, name: &str) {
        let sandbox = Liveness::of(self.sandbox_pid(name)).expect("it runs");
        self.sandboxes.push((name.to_owned(), sandbox));
    }

    /// Kills a sandbox's process and waits for its end.
    pub(crate) fn kill_sandbox(&mut self, name: &str) {
        let place = self.sandboxes.iter().position(|(known, _)| known == name);
        let (_, sandbox) = self.sandboxes.swap_remove(place.expect("it was started here"));
        end(&sandbox);
    }

    /// Whether a sandbox's process still runs, whatever the daemon knows of it.
    pub(crate) fn sandbox_lives(&self, name: &str) -> bool {
        let mut known = self.sandboxes.iter().filter(|(known, _)| known == name);
        known.any(|(_, sandbox)| sandbox.is_alive().expect("poll"))
    }

    #[track_caller]
    pub(crate) fn sandbox_pid(&self, name: &str) -> u32 {
        let pid = self.inspect(name)["State"]["Pid"].as_u64().expect("a pid");
        u32::try_from(pid).expect("a pid")
    }

    pub(crate) fn target(&self, name: &str) -> NetnsTarget {
        NetnsTarget::Pid(self.sandbox_pid(name))
    }

    /// An interface as the sandbox's kernel has it.
    #[track_caller]
    pub(crate) fn probe(&self, name: &str, interface: &str) -> Option<Probed> {
        attacher().probe(&self.target(name), interface).expect("probed")
    }

    /// `vswitch inspect` of one object.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str) -> Value {
        self.json(&format!("inspect {name}"))[0].take()
    }

    /// The names that `ps` lists, sorted.
    #[track_caller]
    pub(crate) fn ps(&self) -> Vec<String> {
        let listing = self.json("ps");
        let rows = listing.as_array().expect("a list");
        let mut names: Vec<String> = rows
            .iter()
            .map(|row| text(&row["Names"][0]).trim_start_matches('/').to_owned())
            .collect();
        names.sort();
        names
    }

    /// (MAC address, kind) of a network's forwarding entries, sorted.
    #[track_caller]
    pub(crate) fn fdb(&self, network: &str) -> Vec<(String, String)> {
        let rows = self.json(&format!("fdb {network}"));
        let mut rows: Vec<(String, String)> = rows
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| (text(&row["MacAddress"]), text(&row["Kind"])))
            .collect();
        rows.sort();
        rows
    }

    /// The counters of a sandbox's port on its only network.
    #[track_caller]
    pub(crate) fn port(&self, sandbox: &str) -> Value {
        self.json(&format!("stats {sandbox}"))[0].take()
    }

    /// Runs one of the demo's agents in a sandbox; whether it succeeded, and what it said.
    pub(crate) fn demo_agent(&self, sandbox: &str, args: &[&str]) -> Outcome {
        let program = program();
        let program = program.to_str().expect("UTF-8");
        self.vswitch(&[&["exec", sandbox, "--", program, AGENT], args].concat())
    }

    /// Each of three echo requests must be answered.
    #[track_caller]
    pub(crate) fn ping(&self, sandbox: &str, address: &str) {
        let outcome = self.demo_agent(sandbox, &["ping", address]);
        assert_eq!(outcome.code, 0, "{sandbox} pings {address}: {outcome:?}");
    }

    /// An echo request must remain without reply for a second.
    #[track_caller]
    pub(crate) fn no_ping(&self, sandbox: &str, address: &str) {
        let outcome = self.demo_agent(sandbox, &["no-ping", address]);
        assert_eq!(outcome.code, 0, "{sandbox} must not reach {address}: {outcome:?}");
    }

    /// Starts this program in a sandbox to play a role there.
    pub(crate) fn agent(&self, sandbox: &str, role: &Role) -> Agent {
        let (variable, words) = role.command();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Agent::spawn(self.client(&[&["exec", "-e", &variable, sandbox, "--"], &words[..]].concat()))
    }

    /// Has a role played to its end; its last word.
    #[track_caller]
    pub(crate) fn act(&self, sandbox: &str, role: &Role) -> String {
        self.agent(sandbox, role).last_word()
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it runs");
    }

    /// Sends the daemon a signal and waits for its end.
    pub(crate) fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let mut status = None;
        within(PATIENCE, "the daemon ends", || {
            status = self.process.try_wait().expect("our child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Ends the daemon as a power cut would.
    pub(crate) fn kill9(&mut self) {
        assert_eq!(self.stop(Signal::KILL).signal(), Some(9));
    }

    /// Starts the daemon again, where it was.
    pub(crate) fn restart(&mut self) {
        assert!(matches!(self.process.try_wait(), Ok(Some(_))), "it still runs");
        self.process = spawn(self.dir.path(), &self.starter, &self.flags, &self.environment);
        self.wait_until_it_listens();
    }

    /// Runs a second daemon, which must end by itself; says how.
    pub(crate) fn second(&self, socket: &Path, state_dir: &Path) -> Outcome {
        Outcome::of(&mut command(&self.entry, socket, state_dir))
    }

    fn wait_until_it_listens(&mut self) {
        let socket = self.socket();
        // Until it is ready, requests wait in the listener's queue.
        within(PATIENCE, "the daemon listens", || {
            if let Some(status) = self.process.try_wait().expect("our child") {
                panic!("the daemon ended at once: {status}\n{}", self.log());
            }
            UnixStream::connect(&socket).is_ok()
        });
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        self.sandboxes.iter().for_each(|(_, sandbox)| end(sandbox));
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where a daemon is.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    /// Words of a command that runs another command there.
    pub(super) entry: Vec<String>,
    /// Words of a command that starts the daemon there.
    pub(super) starter: Vec<String>,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code, or 128 and the signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Runs a program to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: exit_code(output.status),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

/// A shell's idea of an exit code.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .expect("it has ended")
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub(crate) fn split(words: &str) -> Vec<&str> {
    words.split_whitespace().collect()
}

/// Far more than anything here takes on an idle machine; a busy one must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const LOG: &str = "log";

/// The words of a client command that starts a sandbox that waits.
fn waiting(name: &str, flags: &str) -> String {
    format!(
        "run -d --name {name} {flags} -- {} {AGENT} wait",
        program().display()
    )
}

fn spawn(dir: &Path, entry: &[String], flags: &[String], environment: &[(String, String)]) -> Child {
    let log = File::options()
        .append(true)
        .create(true)
        .open(dir.join(LOG))
        .expect("a log");
    command(entry, &socket(dir), &state_dir(dir))
        .args(flags)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the daemon starts")
}

/// `vswitchd` without the surroundings of whoever runs the tests.
fn command(entry: &[String], socket: &Path, state_dir: &Path) -> Command {
    let mut command = behind(entry, program());
    for variable in ["CONFIG", "HOST", "STATE_DIR", "WORKERS", "POLL", "LOG_LEVEL"] {
        command.env_remove(format!("VSWITCH_{variable}"));
    }
    command
        .env_remove("NOTIFY_SOCKET")
        .arg("--host")
        .arg(format!("unix://{}", socket.display()))
        .arg("--state-dir")
        .arg(state_dir)
        .stdin(Stdio::null());
    command
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("api.sock")
}

fn state_dir(dir: &Path) -> PathBuf {
    dir.join("state")
}

fn end(sandbox: &Liveness) {
    // It fails when the sandbox has ended already.
    let _ = pidfd_send_signal(sandbox.as_fd(), Signal::KILL);
    let deadline = Instant::now() + PATIENCE;
    while sandbox.is_alive().unwrap_or(false) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}
