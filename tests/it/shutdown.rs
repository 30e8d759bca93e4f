//! How the daemon starts, refuses to start, and ends.

use std::{
    fs,
    io::Write,
    os::unix::net::{UnixDatagram, UnixStream},
    process::Command,
};

use rustix::process::Signal;

use crate::support::{
    attacher,
    daemon::{Daemon, Outcome, PATIENCE, exit_code},
    program, within,
};

#[test]
fn both_signals_end_the_daemon_and_leave_no_devices() {
    for signal in [Signal::TERM, Signal::INT] {
        let Some(mut daemon) = Daemon::start() else { return };
        daemon.ok("network create --subnet 10.83.0.0/24 lan");
        daemon.run("one", "--network lan --ip 10.83.0.2");
        daemon.run("two", "--network lan --network bridge");
        let targets = ["one", "two"].map(|name| daemon.target(name));
        let has = |target, interface| {
            let probed = attacher().probe(target, interface);
            probed.expect("probed").is_some()
        };
        assert!(has(&targets[0], "eth0") && has(&targets[1], "eth0") && has(&targets[1], "eth1"));
        assert!(daemon.socket().exists());

        let status = daemon.stop(signal);
        assert_eq!(exit_code(status), 0, "{signal:?}: {}", daemon.log());
        assert!(!daemon.socket().exists());
        assert!(daemon.sandbox_lives("one") && daemon.sandbox_lives("two"));
        for (target, interface) in [(0, "eth0"), (1, "eth0"), (1, "eth1")] {
            assert!(!has(&targets[target], interface), "{interface} is left");
        }
        let log = daemon.log();
        let complaint = log
            .lines()
            // Whether the host allows pings is not the daemon's doing.
            .filter(|line| !line.contains("ping_group_range"))
            .find(|line| line.contains("ERROR") || line.contains("WARN"));
        assert_eq!(complaint, None);

        daemon.restart();
        assert_eq!(daemon.ps(), [""; 0]);
        daemon.run("heir", "--network lan --ip 10.83.0.2");
        daemon.ping("heir", "10.83.0.1");
    }
}

#[test]
fn clients_that_say_nothing_more_do_not_prevent_the_end() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("one", "");
    let target = daemon.target("one");
    let clients = [
        "",
        "GET /info HTT",
        "GET /v1.47/events HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /networks/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{",
    ]
    .map(|request| {
        let mut client = UnixStream::connect(daemon.socket()).expect("it listens");
        client.write_all(request.as_bytes()).expect("it reads");
        client
    });
    // Their connections have been accepted when that of a later one has.
    daemon.ok("info");
    assert_eq!(exit_code(daemon.stop(Signal::TERM)), 0);
    assert_eq!(attacher().probe(&target, "eth0").expect("probed"), None);
    drop(clients);
}

#[test]
fn a_second_signal_ends_the_clean_up() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("one", "");
    // The daemon waits for requests under way before it cleans up.
    let mut silent = UnixStream::connect(daemon.socket()).expect("it listens");
    silent.write_all(b"GET /info HTT").expect("it reads");
    daemon.ok("info");
    daemon.signal(Signal::TERM);
    within(PATIENCE, "it stops", || {
        daemon.log().contains("SIGTERM: stopping")
    });
    let status = daemon.stop(Signal::INT);
    assert_eq!(exit_code(status), 1, "{}", daemon.log());
    drop(silent);
    // As after any other sudden end, the next daemon takes over.
    daemon.restart();
    daemon.ping("one", "172.17.0.1");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_undisturbed() {
    let Some(mut daemon) = Daemon::start() else { return };
    daemon.run("one", "");
    let elsewhere = tempfile::tempdir().expect("a temporary directory");

    let other_state = elsewhere.path().join("state");
    let refused = daemon.second(&daemon.socket(), &other_state);
    assert_eq!(refused.code, 3, "{refused:?}");
    let socket = daemon.socket().display().to_string();
    assert!(
        refused.stderr.contains(&socket) && refused.stderr.contains("another vswitchd"),
        "{refused:?}"
    );

    let other_socket = elsewhere.path().join("api.sock");
    let refused = daemon.second(&other_socket, &daemon.state_dir());
    assert_eq!(refused.code, 3, "{refused:?}");
    let state = daemon.state_dir().display().to_string();
    assert!(
        refused.stderr.contains(&state) && refused.stderr.contains("another vswitchd"),
        "{refused:?}"
    );
    assert!(!other_socket.exists());

    assert_eq!(daemon.ps(), ["one"]);
    daemon.ping("one", "172.17.0.1");
    assert_eq!(exit_code(daemon.stop(Signal::TERM)), 0);
}

#[test]
fn a_bad_configuration_is_refused_with_all_its_problems() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("vswitchd.toml");
    let run = |text: &str| {
        fs::write(&file, text).expect("our directory");
        let mut command = Command::new(program());
        for variable in ["HOST", "STATE_DIR", "WORKERS", "POLL", "LOG_LEVEL"] {
            command.env_remove(format!("VSWITCH_{variable}"));
        }
        let outcome = Outcome::of(command.arg("--config").arg(&file));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
        outcome.stderr
    };
    let text = run(
        "host = 'tcp://1.2.3.4:5'\nstate-dir = 'here'\nworkers = 0\nlog-level = 'loud'\n\
         default-address-pools = [{ base = '10.8.0.0/14', size = 8 }]\n",
    );
    for part in [
        "host: ",
        "state-dir: ",
        "workers: 0 ",
        "log-level: loud ",
        "default-address-pools[0]: ",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let text = run("wokers = 2\n");
    assert!(
        text.contains("wokers") && text.contains(&*file.to_string_lossy()),
        "{text}"
    );
    let text = run("workers = \n");
    assert!(text.contains("line 1"), "{text}");
    fs::remove_dir_all(dir.path()).expect("our directory");
    let mut command = Command::new(program());
    let outcome = Outcome::of(command.arg("--config").arg(&file));
    assert_eq!(outcome.code, 2);
    assert!(
        outcome.stderr.contains(&*file.to_string_lossy()) && outcome.stderr.contains("No such file"),
        "{outcome:?}"
    );
}

#[test]
fn the_service_manager_hears_of_start_and_stop() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("an option");
    let heard = || {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))];
    let Some(mut daemon) = Daemon::start_in(dir, &[], &environment) else {
        return;
    };
    assert_eq!(heard(), "READY=1");
    daemon.ok("info");
    assert_eq!(exit_code(daemon.stop(Signal::TERM)), 0);
    assert_eq!(heard(), "STOPPING=1");
}
