//! The command line client: what it refuses, what it sends, what it prints, how it exits.

mod documents;
mod fake_daemon;
mod networks;
mod ports;
mod replay;
mod sandboxes;
mod switches;

use std::path::Path;

use assert_cmd::Command;

use self::fake_daemon::FakeDaemon;
use crate::support::client_program;

/// The client, without a daemon of the user's own.
fn vswitch() -> Command {
    let mut command = Command::new(client_program());
    command
        .env_remove("VSWITCH_HOST")
        .env("XDG_RUNTIME_DIR", "/nonexistent");
    command
}

/// The client of the daemon that listens at `socket`.
fn client_of(socket: &Path) -> Command {
    let mut command = vswitch();
    command.env("VSWITCH_HOST", format!("unix://{}", socket.display()));
    command
}

/// Exit code, standard output and standard error of a run.
fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("the client can be started");
    let text = |bytes| String::from_utf8(bytes).expect("the client writes UTF-8");
    (
        output.status.code().expect("it was not killed"),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn wrong_command_lines_exit_with_2_and_ask_nobody() {
    let daemon = FakeDaemon::new(&[]);
    for (args, complaint) in [
        (&["nonsense"][..], "unrecognized subcommand 'nonsense'"),
        (&[], "Usage: vswitch"),
        (&["run"], "<COMMAND>..."),
        (
            &["run", "--ip", "fd00::1", "true"],
            "invalid IPv4 address: fd00::1",
        ),
        (&["run", "--network", "a,a", "true"], "network a is given twice"),
        (&["run", "--log-file", "x", "true"], "--detach"),
        (&["run", "-e", "=x", "true"], "invalid environment variable: =x"),
        (
            &["run", "-p", "99999:80", "true"],
            "'99999:80' for '--publish <PORTS>': invalid hostPort: 99999",
        ),
        (
            &["attach", "--pid", "1", "-p", "80/sctp"],
            "sctp ports cannot be published, only tcp and udp ones",
        ),
        (&["publish", "a"], "--publish <PORTS>"),
        (&["publish", "-p", "80"], "<SANDBOX>"),
        (&["publish", "a", "-p", "9-8"], "invalid containerPort: 9-8"),
        (&["unpublish", "a"], "<PORTS>..."),
        (&["port", "a", "http"], "invalid port (http)"),
        (&["port", "--counters", "a", "80"], "cannot be used with"),
        (&["attach", "--name", "a"], "--pid <PID>|--netns <PATH>"),
        (&["attach", "--pid", "0"], "invalid value '0'"),
        (&["attach", "--pid", "1", "--netns", "x"], "cannot be used with"),
        (&["network", "create"], "<NAME>"),
        (
            &["network", "create", "--gateway", "10.0.0.1", "a"],
            "must have a corresponding subnet",
        ),
        (
            &[
                "network",
                "create",
                "--subnet",
                "10.0.0.0/24",
                "--gateway",
                "10.1.0.1",
                "a",
            ],
            "no matching subnet for gateway 10.1.0.1",
        ),
        (
            &["network", "ls", "-q", "--format", "json"],
            "cannot be used with",
        ),
        (&["ps", "--format", "yaml"], "invalid value 'yaml'"),
        (&["-H", "tcp://127.0.0.1:2375", "ps"], "is not a daemon's address"),
    ] {
        let (code, stdout, stderr) = outcome(client_of(&daemon.socket()).args(args));
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(complaint), "{args:?}: {stderr}");
    }
    assert_eq!(daemon.lines(), [""; 0]);
}

#[test]
fn without_a_daemon_every_command_says_how_to_start_one() {
    let socket = "/nonexistent/vswitch.sock";
    for (args, exit_code) in [
        (&["ps"][..], 1),
        (&["info"], 1),
        (&["network", "ls"], 1),
        (&["network", "create", "a"], 1),
        (&["attach", "--pid", "1"], 1),
        (&["detach", "a"], 1),
        (&["fdb"], 1),
        (&["port", "a"], 1),
        (&["publish", "a", "-p", "80"], 1),
        (&["unpublish", "a", "80"], 1),
        (&["run", "-p", "80", "true"], 125),
        (&["run", "true"], 125),
        (&["exec", "a", "true"], 125),
    ] {
        let (code, stdout, stderr) = outcome(client_of(Path::new(socket)).args(args));
        assert_eq!((code, stdout.as_str()), (exit_code, ""), "{args:?}: {stderr}");
        assert_eq!(
            stderr,
            format!("vswitch: no daemon answers at unix://{socket}; start it with: vswitchd\n"),
            "{args:?}"
        );
    }
}

#[test]
fn the_flag_wins_over_the_variable() {
    let daemon = FakeDaemon::new(&[("GET /networks", 200, "[]")]);
    let host = format!("unix://{}", daemon.socket().display());
    let (code, stdout, _) =
        outcome(client_of(Path::new("/nonexistent/v.sock")).args(["network", "ls", "-q", "-H", &host]));
    assert_eq!((code, stdout.as_str()), (0, ""));
    assert_eq!(daemon.lines(), ["GET /networks"]);
}

#[test]
fn the_daemons_words_are_one_line() {
    let daemon = FakeDaemon::new(&[(
        "POST /networks/create",
        400,
        r#"{"message":"invalid network config:\n* invalid gateway a\n* invalid gateway b"}"#,
    )]);
    let (code, _, stderr) = outcome(client_of(&daemon.socket()).args(["network", "create", "a"]));
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "vswitch: invalid network config: invalid gateway a; invalid gateway b\n"
    );
}
