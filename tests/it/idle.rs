//! A daemon with nothing to do does nothing.

use std::{fs, thread, time::Duration};

use crate::support::daemon::Daemon;

#[test]
fn an_idle_daemon_sleeps() {
    let Some(mut daemon) = Daemon::start_with(&["--workers", "2"]) else {
        return;
    };
    for name in ["one", "two", "three"] {
        daemon.run(name, "");
    }
    daemon.ping("one", "172.17.0.1");
    // The containers' kernels speak up now and then after a start, and other work on the machine can only
    // make things look worse: the best of a few windows tells what the daemon itself does.
    let mut windows = Vec::new();
    while windows.len() < WINDOWS {
        let before = effort(daemon.pid());
        thread::sleep(WINDOW);
        let after = effort(daemon.pid());
        let spent = (after.0 - before.0, after.1 - before.1);
        if spent.0 <= TICKS && spent.1 <= SWITCHES {
            return;
        }
        windows.push(spent);
    }
    panic!("ticks and context switches in windows of {WINDOW:?}: {windows:?}");
}

/// CPU time of a process in clock ticks, and how often its threads have gone to sleep.
fn effort(pid: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // utime and stime are the 14th and 15th field; the second may contain spaces (proc_pid_stat(5)).
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .expect("a command")
        .1
        .split_whitespace()
        .collect();
    let ticks = |field: usize| fields[field - 3].parse::<u64>().expect("a number");
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let switches = threads.map(|thread| {
        let path = thread.expect("an entry").path().join("status");
        let status = fs::read_to_string(path).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok())
            .unwrap_or(0)
    });
    (ticks(14) + ticks(15), switches.sum())
}

const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: usize = 8;

/// 2 of 100 ticks a second: a loop that spins takes all of them.
const TICKS: u64 = 2;

/// A timer of 20 ms in one thread would wake 50 times.
const SWITCHES: u64 = 20;
