//! What the namespace tests share.

pub(crate) mod agent;
pub(crate) mod daemon;
mod hostile;
pub(crate) mod outside;

use std::{
    env, fmt,
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{self, Child, Command, ExitStatus},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use vswitch::{
    io::{
        attach::{AttachClient, AttachRequest, Attached, DEFAULT_TXQUEUELEN, LinkConfig},
        device::Device,
        netns::NetnsTarget,
        tap::{TUN_DEVICE, Tap},
    },
    model::LinkKind,
    sandbox::{LaunchConfig, Launcher, Names, Prepared, Stdio},
};
use vswitch_wire::MacAddr;

/// Our daemon, which knows the hidden arguments.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(
        env::var_os("VSWITCH_TEST_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_vswitchd").into()),
    )
}

/// Our client, built beside the daemon.
pub(crate) fn client_program() -> PathBuf {
    program().with_file_name("vswitch")
}

pub(crate) fn launcher() -> Launcher {
    Launcher::new(program())
}

pub(crate) fn attacher() -> AttachClient {
    AttachClient::new(program())
}

/// Whether this system lets us make namespaces and TAPs; says so visibly if not.
#[must_use]
pub(crate) fn namespaces_and_tap() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        if let Err(error) = File::options().read(true).write(true).open(TUN_DEVICE) {
            return Some(format!("open {TUN_DEVICE}: {error}"));
        }
        launcher()
            .prepare(&command("true", &[]))
            .err()
            .map(|error| error.to_string())
    });
    if let Some(reason) = missing {
        skip(format_args!("{reason}"));
    }
    missing.is_none()
}

/// Says that a test is skipped, and why, past the test runner's capture: nobody should take a skipped test
/// for a passed one.
pub(crate) fn skip(reason: fmt::Arguments<'_>) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "skipped: {test}: {reason}");
}

/// A sandboxed command without input or output.
pub(crate) fn command(command: &str, args: &[&str]) -> LaunchConfig {
    LaunchConfig {
        hostname: "box".into(),
        command: command.into(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        environment: Vec::new(),
        directory: None,
        stdio: Stdio::Detached { log: None },
    }
}

/// A sandbox that waits.
pub(crate) fn idle_sandbox() -> Prepared {
    launcher().prepare(&command("sleep", &["60"])).expect("a sandbox")
}

pub(crate) fn target(sandbox: &Prepared) -> NetnsTarget {
    NetnsTarget::Pid(sandbox.pid())
}

pub(crate) const MAC: MacAddr = MacAddr([0x02, 0x42, 10, 9, 0, 2]);

/// Our end of an attached TAP.
pub(crate) fn tap_of(attached: &Attached) -> &Tap {
    match &attached.device {
        Device::Tap(tap) => tap,
        Device::Packet(socket) => panic!("{socket:?} is no TAP"),
    }
}

/// An interface with addresses and gateways of both families.
pub(crate) fn eth0(target: NetnsTarget) -> AttachRequest {
    AttachRequest {
        target,
        link: LinkConfig {
            kind: LinkKind::Tap,
            name: "eth0".into(),
            mac: MAC,
            mtu: 1400,
            txqueuelen: DEFAULT_TXQUEUELEN,
            addresses: vec![net("10.9.0.2/24"), net("fd09::2/64")],
            default_gateways: vec![ip("10.9.0.1"), ip("fd09::1")],
        },
    }
}

pub(crate) fn net(text: &str) -> ipnet::IpNet {
    text.parse().expect("a prefix")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Runs the calling test's body as root of fresh namespaces: starts this test binary again in a sandbox,
/// with only the named test, and fails with its output if that fails.
pub(crate) fn in_sandbox(test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    if !namespaces_and_tap() {
        return;
    }
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let myself = env::current_exe().expect("own path");
    let mut config = command(&myself.to_string_lossy(), &["--exact", test, "--nocapture"]);
    config.environment.push((INSIDE.into(), "1".into()));
    config.stdio = Stdio::Detached {
        log: Some(log.path().into()),
    };
    let prepared = launcher().prepare(&config).expect("a sandbox");
    let code = prepared
        .start(&Names::default())
        .expect("the test runs")
        .wait(None)
        .expect("it ends");
    let output = fs::read_to_string(log.path()).expect("the test's output");
    assert!(output.contains("1 passed"), "exit code {code}: {output}");
    assert_eq!(code, 0, "{output}");
    // What it skipped must be as visible as if it ran here; the rest only for whoever asks.
    for line in output.lines().filter(|line| line.starts_with("skipped: ")) {
        let _ = writeln!(io::stderr(), "{line}");
    }
    println!("{output}");
}

/// Another process of this program that prepares a sandbox and keeps it waiting.
pub(crate) struct LauncherRole {
    process: Child,
    pid_file: tempfile::NamedTempFile,
}

impl LauncherRole {
    pub(crate) fn spawn(change: impl FnOnce(&mut Command)) -> Self {
        let pid_file = tempfile::NamedTempFile::new().expect("a temporary file");
        // Whoever plays the role writes there.
        fs::set_permissions(pid_file.path(), fs::Permissions::from_mode(0o666)).expect("own file");
        let mut command = Command::new(env::current_exe().expect("own path"));
        command.args([
            "--exact",
            "support::role_of_a_launcher",
            "--ignored",
            "--nocapture",
        ]);
        command
            .env(PID_FILE, pid_file.path())
            .stdout(process::Stdio::null());
        change(&mut command);
        Self {
            process: command.spawn().expect("this program starts"),
            pid_file,
        }
    }

    /// The sandbox's process once it waits; `None` if the role ended without one.
    pub(crate) fn sandbox(&mut self) -> Option<u32> {
        let mut pid = None;
        eventually("the sandbox is prepared", || {
            let text = fs::read_to_string(self.pid_file.path()).unwrap_or_default();
            pid = text.strip_suffix('\n').and_then(|text| text.parse().ok());
            pid.is_some() || !matches!(self.process.try_wait(), Ok(None))
        });
        pid
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }
}

impl Drop for LauncherRole {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "a role in other tests"]
fn role_of_a_launcher() {
    let Some(path) = env::var_os(PID_FILE) else { return };
    let sandbox = idle_sandbox();
    // Not created anew: the directory may be sticky, and the file another user's.
    fs::OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| writeln!(file, "{}", sandbox.pid()))
        .expect("a writable file");
    thread::sleep(Duration::from_secs(60));
}

/// Waits until the condition holds; panics when it does not within two seconds.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(Duration::from_secs(2), what, condition);
}

/// Waits until the condition holds; panics when it does not in time.
pub(crate) fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a child's end; `None` when it has not come in time.
pub(crate) fn ends_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().expect("our child") {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            ended => return ended,
        }
    }
}

/// Waits until `eth0` can use the link-local address of [`MAC`].
///
/// Duplicate address detection takes a second and up (RFC 4862 section 5.4: RetransTimer, random delay);
/// without it the kernel's work queue finishes the address in a moment.
pub(crate) fn without_duplicate_address_detection(target: &NetnsTarget) {
    let link_local = net("fe80::42:aff:fe09:2/64");
    within(
        Duration::from_millis(800),
        "the link-local address is usable",
        || {
            let eth0 = attacher()
                .probe(target, "eth0")
                .expect("probed")
                .expect("eth0 exists");
            eth0.addresses.contains(&link_local)
        },
    );
}

/// Whether a process runs as a program, a zombie excluded.
pub(crate) fn is_running(pid: u32) -> bool {
    vswitch::io::netns::Liveness::of(pid).is_ok()
}

const PID_FILE: &str = "VSWITCH_TEST_PID_FILE";

const INSIDE: &str = "VSWITCH_TEST_INSIDE";
