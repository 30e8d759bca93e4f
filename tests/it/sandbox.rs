//! Launching and entering sandboxes.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{self, Command, Output},
};

use vswitch::{
    io::netns::{Liveness, NetnsIdentity},
    sandbox::{Entry, HostsEntry, LaunchConfig, LaunchError, Names, Running, Signals, Stdio},
};

use crate::support::{
    LauncherRole, attacher, command, eth0, eventually, idle_sandbox, in_sandbox, ip, is_running, launcher,
    namespaces_and_tap, program, skip, target,
};

#[test]
fn the_commands_exit_code_is_the_sandboxes() {
    if !namespaces_and_tap() {
        return;
    }
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
    ] {
        let mut running = run(&command("sh", &["-c", script]), &Names::default());
        assert_eq!(running.wait(None).expect("it ends"), code, "{script}");
    }
}

#[test]
fn a_command_that_cannot_run_has_dockers_exit_code() {
    if !namespaces_and_tap() {
        return;
    }
    let start = |config: LaunchConfig| {
        launcher()
            .prepare(&config)
            .expect("a sandbox")
            .start(&Names::default())
            .expect_err("no command")
    };
    for (path, code) in [
        ("/nonexistent/command", 127),
        ("not-in-path-0", 127),
        ("/etc", 126),
        ("/etc/passwd", 126),
    ] {
        let error = start(command(path, &[]));
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    let mut config = command("true", &[]);
    config.directory = Some("/nonexistent".into());
    let error = start(config);
    assert!(matches!(error, LaunchError::Command(_)), "{error}");
    assert!(
        error.to_string().contains("working directory /nonexistent"),
        "{error}"
    );
}

#[test]
fn a_sandbox_has_its_own_names() {
    if !namespaces_and_tap() {
        return;
    }
    let names = Names {
        hosts: vec![HostsEntry {
            address: ip("10.9.0.2"),
            names: vec!["box".into()],
        }],
        nameservers: vec![ip("10.9.0.1")],
        search: Vec::new(),
        options: vec!["ndots:0".into()],
    };
    let hosts_before = fs::read_to_string("/etc/hosts").ok();
    let text = output("hostname; cat /etc/hosts /etc/resolv.conf; ls -ld /tmp", &names);
    assert!(text.starts_with("box\n127.0.0.1\tlocalhost\n"), "{text}");
    assert!(text.contains("\n10.9.0.2\tbox\n"), "{text}");
    if Path::new("/etc/resolv.conf").exists() {
        assert!(
            text.contains("\nnameserver 10.9.0.1\noptions ndots:0\n"),
            "{text}"
        );
    }
    assert!(text.contains("drwxrwxrwt"), "/tmp is not left covered: {text}");
    assert_eq!(
        fs::read_to_string("/etc/hosts").ok(),
        hosts_before,
        "the host keeps its own"
    );
}

#[test]
fn without_name_servers_a_sandbox_keeps_the_hosts_resolv_conf() {
    if !namespaces_and_tap() {
        return;
    }
    let Ok(host) = fs::read_to_string("/etc/resolv.conf") else {
        skip(format_args!("the host has no /etc/resolv.conf"));
        return;
    };
    assert_eq!(output("cat /etc/resolv.conf", &Names::default()), host);
}

#[test]
fn a_sandbox_is_root_of_a_network_of_its_own() {
    if !namespaces_and_tap() {
        return;
    }
    let text = output(
        "id -u; cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start; \
         ls /sys/class/net; tail -n +3 /proc/net/dev | cut -d: -f1",
        &Names::default(),
    );
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(lines[0], "0");
    let range: Vec<u32> = lines[1]
        .split_whitespace()
        .map(|bound| bound.parse().expect("a group"))
        .collect();
    assert_eq!(range[0], 0, "group 0 may ping");
    assert_eq!(lines[2], "0");
    // Where sysfs can be mounted it shows the same as /proc/net, one interface.
    assert_eq!(lines.last(), Some(&"lo"));
    assert!(lines[3..].iter().all(|&line| line == "lo"), "{text}");
}

#[test]
fn an_attached_sandbox_sees_its_interface() {
    if !namespaces_and_tap() {
        return;
    }
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut config = command(
        "sh",
        &[
            "-c",
            "cat /sys/class/net/eth0/tx_queue_len /sys/class/net/eth0/address",
        ],
    );
    config.stdio = Stdio::Detached {
        log: Some(log.path().into()),
    };
    let sandbox = launcher().prepare(&config).expect("a sandbox");
    if let [warning, ..] = sandbox.warnings() {
        skip(format_args!("{warning}"));
        return;
    }
    let _attached = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    let code = sandbox
        .start(&Names::default())
        .expect("started")
        .wait(None)
        .expect("it ends");
    let text = fs::read_to_string(log.path()).expect("the output");
    assert_eq!((code, text.as_str()), (0, "4096\n02:42:0a:09:00:02\n"));
}

#[test]
fn a_sandbox_without_its_launcher_ends_before_the_start() {
    if !namespaces_and_tap() {
        return;
    }
    let mut launcher = LauncherRole::spawn(|_| ());
    let pid = launcher.sandbox().expect("a sandbox");
    let sandbox = Liveness::of(pid).expect("the sandbox waits");
    launcher.kill();
    eventually("the sandbox ends", || !sandbox.is_alive().expect("poll"));
}

#[test]
fn a_dropped_sandbox_ends() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let pid = sandbox.pid();
    assert!(is_running(pid));
    drop(sandbox);
    assert!(!is_running(pid));
}

#[test]
fn a_detached_sandbox_outlives_its_handle_in_a_session_of_its_own() {
    if !namespaces_and_tap() {
        return;
    }
    let mut running = run(&command("sleep", &["60"]), &Names::default());
    let pid = rustix::process::Pid::from_raw(running.pid() as i32);
    assert_eq!(rustix::process::getsid(pid).ok(), pid);
    let liveness = Liveness::of(running.pid()).expect("it runs");
    assert!(liveness.is_alive().expect("poll"));
    running.signal(libc::SIGTERM).expect("it runs");
    assert_eq!(running.wait(None).expect("it ends"), 128 + 15);
}

#[test]
fn a_foreground_sandbox_has_its_launchers_input_and_output() {
    if !namespaces_and_tap() {
        return;
    }
    let mut launcher = Command::new(std::env::current_exe().expect("own path"))
        .args([
            "--exact",
            "sandbox::role_of_a_foreground_launcher",
            "--ignored",
            "--nocapture",
        ])
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .spawn()
        .expect("this program starts");
    launcher
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"through the sandbox")
        .expect("it reads");
    let result = launcher.wait_with_output().expect("it ends");
    assert!(result.status.success(), "{result:?}");
    assert!(
        String::from_utf8_lossy(&result.stdout).contains("out: through the sandbox"),
        "{result:?}"
    );
    assert!(
        String::from_utf8_lossy(&result.stderr).contains("and errors"),
        "{result:?}"
    );
}

#[test]
#[ignore = "a role in another test"]
fn role_of_a_foreground_launcher() {
    let mut config = command("sh", &["-c", "printf 'out: '; cat; echo and errors >&2"]);
    config.stdio = Stdio::Foreground;
    assert_eq!(run(&config, &Names::default()).wait(None).expect("it ends"), 0);
}

#[test]
fn signals_are_passed_on() {
    in_sandbox("sandbox::signals_are_passed_on", || {
        let signals = Signals::hold().expect("signals");
        let ready = tempfile::NamedTempFile::new().expect("a temporary file");
        let script = format!(
            "trap 'exit 42' USR1; echo ready > {}; while :; do sleep 0.01; done",
            ready.path().display()
        );
        let mut running = run(&command("sh", &["-c", &script]), &Names::default());
        eventually("the trap is set", || {
            fs::read(ready.path()).is_ok_and(|text| !text.is_empty())
        });
        // To this thread, which holds the signal; to the process it could reach the test's other thread.
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGUSR1).expect("raised");
        assert_eq!(running.wait(Some(&signals)).expect("it ends"), 42);
    });
}

#[test]
fn a_command_can_be_put_beside_another() {
    if !namespaces_and_tap() {
        return;
    }
    let names = Names {
        hosts: vec![HostsEntry {
            address: ip("10.9.0.2"),
            names: vec!["box".into()],
        }],
        ..Names::default()
    };
    let mut running = run(&command("sleep", &["60"]), &names);
    let started = Liveness::of(running.pid()).expect("it runs").started();
    let netns = target_identity(running.pid());
    let enter = |entry: &Entry| -> Output {
        entry
            .through(&program())
            .expect("an entry")
            .output()
            .expect("the program starts")
    };
    let entry = Entry {
        pid: running.pid(),
        started: Some(started),
        command: "sh".into(),
        args: vec![
            "-c".into(),
            "hostname; id -u; tail -1 /etc/hosts; pwd; echo $WORD; readlink /proc/self/ns/net; exit 5".into(),
        ],
        environment: vec![("WORD".into(), "given".into())],
        directory: None,
    };
    let result = enter(&entry);
    let text = String::from_utf8_lossy(&result.stdout);
    let expected = format!("box\n0\n10.9.0.2\tbox\n/\ngiven\nnet:[{}]\n", netns.inode);
    assert_eq!(
        (result.status.code(), &*text),
        (Some(5), expected.as_str()),
        "{result:?}"
    );

    let missing = enter(&Entry {
        command: "/nonexistent/command".into(),
        ..entry.clone()
    });
    assert_eq!(missing.status.code(), Some(127), "{missing:?}");
    let reused = enter(&Entry {
        started: Some(started + 1),
        ..entry.clone()
    });
    assert_eq!(reused.status.code(), Some(125), "{reused:?}");
    assert!(
        String::from_utf8_lossy(&reused.stderr).contains("has ended"),
        "{reused:?}"
    );

    running.signal(libc::SIGKILL).expect("it runs");
    running.wait(None).expect("it ends");
    let ended = enter(&entry);
    assert_eq!(ended.status.code(), Some(125), "{ended:?}");
}

#[test]
fn the_hosts_root_enters_a_strangers_sandbox_as_its_root_or_not_at_all() {
    if !rustix::process::geteuid().is_root() {
        skip(format_args!("only root enters a stranger's sandbox"));
        return;
    }
    if !namespaces_and_tap() {
        return;
    }
    // What a stranger's sandbox is to us: a user namespace in which our own number means nothing.
    for (inside, expected) in [("0", Some("0 0\n")), ("1000", None)] {
        let mut sleep = Command::new("unshare")
            .args(["--user", "--net", "--mount", "sleep", "60"])
            .spawn()
            .expect("unshare runs");
        let pid = sleep.id();
        eventually("the namespaces are made", || {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
        });
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{file}"), format!("{inside} 100000 1")).expect("we are root");
        }
        let entry = Entry {
            pid,
            started: None,
            command: "sh".into(),
            args: vec!["-c".into(), "echo $(id -u) $(id -G)".into()],
            environment: Vec::new(),
            directory: None,
        };
        let through = entry.through(&program()).expect("an entry");
        let result = Command::new("setpriv")
            .args(["--groups", "4,27"])
            .arg(through.get_program())
            .args(through.get_args())
            .output();
        sleep.kill().expect("it runs");
        sleep.wait().expect("it ends");
        let result = result.expect("setpriv runs");
        let (output, errors) = (
            String::from_utf8_lossy(&result.stdout),
            String::from_utf8_lossy(&result.stderr),
        );
        match expected {
            Some(expected) => assert_eq!(output, expected, "{result:?}"),
            None => {
                assert_eq!((result.status.code(), &*output), (Some(125), ""), "{result:?}");
                assert!(
                    errors.contains("neither a number 0 nor one for our own 0"),
                    "{errors}"
                );
            }
        }
    }
}

#[test]
fn every_sandbox_has_a_network_namespace_of_its_own() {
    if !namespaces_and_tap() {
        return;
    }
    let (one, two) = (idle_sandbox(), idle_sandbox());
    let identities = [
        target_identity(one.pid()),
        target_identity(two.pid()),
        NetnsIdentity::current().expect("own"),
    ];
    for (i, left) in identities.iter().enumerate() {
        for right in &identities[i + 1..] {
            assert_ne!(left, right);
        }
    }
}

fn run(config: &LaunchConfig, names: &Names) -> Running {
    launcher()
        .prepare(config)
        .expect("a sandbox")
        .start(names)
        .expect("it starts")
}

/// Runs a shell script in a sandbox and returns what it wrote.
fn output(script: &str, names: &Names) -> String {
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut config = command("sh", &["-c", script]);
    config.stdio = Stdio::Detached {
        log: Some(log.path().into()),
    };
    let code = run(&config, names).wait(None).expect("it ends");
    let text = fs::read_to_string(log.path()).expect("the output");
    assert_eq!(code, 0, "{text}");
    text
}

fn target_identity(pid: u32) -> NetnsIdentity {
    let netns = vswitch::io::netns::NetnsTarget::Pid(pid)
        .open()
        .expect("a namespace");
    netns.identity().expect("stat")
}
