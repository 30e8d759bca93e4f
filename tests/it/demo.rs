//! `vswitch demo` when it is not left alone; that it works is checked by whoever runs it.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{client_program, daemon::PATIENCE, ends_within, namespaces_and_tap};

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    if !namespaces_and_tap() {
        return;
    }
    let temporary = tempfile::tempdir().expect("a temporary directory");
    for (signal, line) in [
        (Signal::INT, "A daemon of its own"),
        (Signal::TERM, "== Three sandboxes"),
        (Signal::HUP, "== alpha reaches beta"),
        // Delta's connection is open.
        (Signal::INT, "$ vswitch flows"),
    ] {
        let mut demo = Command::new(client_program())
            .arg("demo")
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines();
        assert!(
            lines.any(|text| text.is_ok_and(|text| text.starts_with(line))),
            "no {line}"
        );
        let pid = Pid::from_raw(demo.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it runs");
        // Read on: it must not stand still for us.
        lines.for_each(drop);
        let status = ends_within(&mut demo, PATIENCE).expect("it ends");
        assert_eq!(status.code(), Some(1), "{signal:?}: {status}");
        let error = std::io::read_to_string(demo.stderr.take().expect("a pipe")).expect("text");
        assert_eq!(error, "vswitch demo: interrupted\n", "{signal:?}");
        let left = fs::read_dir(temporary.path()).expect("ours").count();
        assert_eq!(left, 0, "{signal:?}");
    }
}
