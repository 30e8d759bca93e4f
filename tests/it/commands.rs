//! `run`, `exec`, `attach` and `detach` with a real daemon.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::process::{Pid, Signal, kill_process};
use vswitch::demo::AGENT;

use crate::support::{
    agent::Role,
    daemon::{Daemon, Outcome, PATIENCE, exit_code, text},
    ends_within, idle_sandbox, net, program, skip, target, within,
};

#[test]
fn run_passes_the_exit_code_and_forgets_the_sandbox() {
    let Some(daemon) = Daemon::start() else { return };
    for code in [0, 1, 7, 255] {
        let (variable, words) = Role::Exit { code }.command();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let args = [&["run", "--name", "job", "-e", &variable, "--"], &words[..]].concat();
        let outcome = daemon.vswitch(&args);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (code, ""));
        // At once: the name and the address are free for the next one.
        assert_eq!(daemon.ps(), [""; 0]);
        assert_eq!(daemon.fdb("bridge").len(), 1, "the gateway");
    }
    for (command, code) in [("/nonexistent/command", 127), ("/etc/passwd", 126)] {
        let outcome = daemon.vswitch(&["run", "--name", "job", command]);
        assert_eq!(outcome.code, code, "{outcome:?}");
        assert!(outcome.stderr.contains(command), "{outcome:?}");
        assert_eq!(daemon.ps(), [""; 0]);
    }
}

#[test]
fn run_passes_signals_to_the_command() {
    let Some(daemon) = Daemon::start() else { return };
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let program = program();
        let program = program.to_str().expect("UTF-8");
        let mut client = daemon
            .client(&["run", "--name", "job", "--", program, AGENT, "wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let mut line = String::new();
        let output = client.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut line).expect("it speaks");
        assert_eq!(line, "ready\n");
        assert_eq!(daemon.ps(), ["job"]);
        let pid = Pid::from_raw(client.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("our child");
        let status = ends_within(&mut client, PATIENCE).expect("it ends");
        assert_eq!(exit_code(status), code);
        assert_eq!(daemon.ps(), [""; 0]);
    }
}

#[test]
fn without_a_daemon_nothing_is_run_and_what_runs_goes_on() {
    let Some(mut daemon) = Daemon::start() else { return };
    let program = program();
    let program = program.to_str().expect("UTF-8");
    let mut client = daemon
        .client(&["run", "--name", "job", "--", program, AGENT, "wait"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let mut line = String::new();
    let mut output = BufReader::new(client.stdout.take().expect("a pipe"));
    output.read_line(&mut line).expect("it speaks");
    daemon.kill9();
    for args in [&["run", "--", "true"][..], &["exec", "job", "true"]] {
        let outcome = daemon.vswitch(args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (125, ""), "{outcome:?}");
        let reason = format!("no daemon answers at unix://{}", daemon.socket().display());
        assert!(outcome.stderr.contains(&reason), "{outcome:?}");
    }
    assert!(matches!(client.try_wait(), Ok(None)), "the command goes on");
    let pid = Pid::from_raw(client.id().cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM).expect("our child");
    let status = ends_within(&mut client, PATIENCE).expect("it ends");
    assert_eq!(exit_code(status), 143);
    let mut said = String::new();
    let mut errors = client.stderr.take().expect("a pipe");
    errors.read_to_string(&mut said).expect("UTF-8");
    assert!(
        said.contains("warning: the sandbox could not be detached"),
        "{said}"
    );
    daemon.restart();
    assert_eq!(daemon.ps(), [""; 0]);
}

#[test]
fn exec_runs_beside_the_command_and_passes_its_exit_code() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("box", "");
    for code in [0, 3] {
        let (variable, words) = Role::Exit { code }.command();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = daemon.vswitch(&[&["exec", "-e", &variable, "box", "--"], &words[..]].concat());
        assert_eq!(outcome.code, code, "{outcome:?}");
    }
    let id = text(&daemon.inspect("box")["Id"]);
    daemon.ping(&id[..12], "172.17.0.1");
    let outcome = daemon.vswitch(&["exec", "box", "/nonexistent/command"]);
    assert_eq!(outcome.code, 127, "{outcome:?}");
    let outcome = daemon.vswitch(&["exec", "nosuch", "true"]);
    assert_eq!(outcome.code, 125, "{outcome:?}");
    assert_eq!(daemon.ps(), ["box"]);
}

#[test]
fn a_detached_commands_output_goes_to_its_file() {
    let Some(daemon) = Daemon::start() else { return };
    let log = tempfile::NamedTempFile::new().expect("a temporary file");
    let program = program();
    let (log, program) = (
        log.path().to_str().expect("UTF-8"),
        program.to_str().expect("UTF-8"),
    );
    let words = format!("run -d --name job --log-file {log} -- {program} {AGENT} ping 172.17.0.1");
    let id = daemon.ok(&words);
    assert_eq!(id.trim_end().len(), 64, "{id}");
    within(PATIENCE, "it ends and is forgotten", || daemon.ps().is_empty());
    let said = std::fs::read_to_string(log).expect("its output");
    assert_eq!(said.matches("answer from 172.17.0.1: seq=").count(), 3, "{said}");
}

#[test]
fn sandboxes_that_start_together_have_addresses_of_their_own() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.ok("network create --subnet 10.89.0.0/24 lan");
    let names = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    daemon.run_together(&names, "--network lan");
    let address =
        |name: &&str| text(&daemon.inspect(name)["NetworkSettings"]["Networks"]["lan"]["IPAddress"]);
    let mut addresses: Vec<String> = names.iter().map(address).collect();
    addresses.sort();
    let expected: Vec<String> = (2..10).map(|host| format!("10.89.0.{host}")).collect();
    assert_eq!(addresses, expected);
    for address in &addresses {
        daemon.ping("s0", address);
    }
}

#[test]
fn namespaces_of_others_are_attached_by_process_and_by_path() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("peer", "");
    let by_pid = idle_sandbox();
    let by_path = idle_sandbox();
    let path = format!("/proc/{}/ns/net", by_path.pid());
    daemon.ok(&format!("attach --pid {} --name by-pid", by_pid.pid()));
    daemon.ok(&format!("attach --netns {path} --name by-path"));
    assert_eq!(daemon.ps(), ["by-path", "by-pid", "peer"]);
    for (sandbox, name, address) in [
        (&by_pid, "by-pid", "172.17.0.3"),
        (&by_path, "by-path", "172.17.0.4"),
    ] {
        daemon.ping("peer", address);
        let eth0 = crate::support::attacher().probe(&target(sandbox), "eth0");
        let eth0 = eth0.expect("probed").expect("it is attached");
        assert_eq!(eth0.addresses, [net(&format!("{address}/16"))]);
        let networks = daemon.inspect(name)["NetworkSettings"]["Networks"].take();
        assert_eq!(networks["bridge"]["IPAddress"], address);
    }
    daemon.ping("by-pid", "172.17.0.2");
    let outcome = daemon.vswitch(&["exec", "by-path", "true"]);
    assert_eq!(outcome.code, 125);
    assert!(
        outcome.stderr.contains(&format!("nsenter --net={path}")),
        "{outcome:?}"
    );

    daemon.ok("detach by-pid by-path");
    assert_eq!(daemon.ps(), ["peer"]);
    for sandbox in [&by_pid, &by_path] {
        let eth0 = crate::support::attacher().probe(&target(sandbox), "eth0");
        assert_eq!(eth0.expect("probed"), None);
    }
    daemon.no_ping("peer", "172.17.0.3");

    // What was attached and then dies is forgotten without being asked.
    daemon.ok(&format!("attach --netns {path} --name by-path"));
    daemon.ok(&format!("attach --pid {} --name by-pid", by_pid.pid()));
    drop((by_pid, by_path));
    within(PATIENCE, "both are forgotten", || daemon.ps() == ["peer"]);
}

#[test]
fn a_mounted_namespace_outlives_processes_until_it_is_unmounted() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("peer", "");
    let sandbox = idle_sandbox();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("netns");
    std::fs::write(&path, "").expect("a file to mount on");
    let source = format!("/proc/{}/ns/net", sandbox.pid());
    let bind = MsFlags::MS_BIND;
    if let Err(error) = mount(Some(source.as_str()), &path, None::<&str>, bind, None::<&str>) {
        skip(format_args!("mount a namespace: {error}"));
        return;
    }
    drop(sandbox);
    let attached = daemon.vswitch(&[
        "attach",
        "--netns",
        path.to_str().expect("UTF-8"),
        "--name",
        "box",
    ]);
    let answered = daemon.demo_agent("peer", &["ping", "172.17.0.3"]);
    let restarted = {
        daemon.kill9();
        daemon.restart();
        daemon.demo_agent("peer", &["ping", "172.17.0.3"])
    };
    umount2(&path, MntFlags::MNT_DETACH).expect("unmounted");
    let all: Vec<&Outcome> = vec![&attached, &answered, &restarted];
    assert!(all.iter().all(|outcome| outcome.code == 0), "{all:?}");
    within(PATIENCE, "the namespace is forgotten", || daemon.ps() == ["peer"]);
}
