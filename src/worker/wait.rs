//! How a worker passes the time when no port has a frame.

use std::{
    fs::File,
    num::NonZero,
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

/// How a worker waits for frames (`--poll`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize, serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// Look again for a few tens of microseconds after traffic while a core is free, then sleep.
    #[default]
    Adaptive,
    /// Never sleep: lowest latency, one core always in use.
    Busy,
    /// Sleep at once: lowest CPU use.
    Sleep,
}

/// Decides between looking again and sleeping.
///
/// Waking a sleeping thread on another core costs about 40 µs, several times what a frame needs to
/// cross the switch; looking again right after traffic saves that. It pays only while a core would
/// otherwise be idle: with every core busy, a worker that spins takes the time from the very
/// containers that it waits for.
#[derive(Debug)]
pub(crate) struct Wait {
    mode: PollMode,
    cores: Cores,
    spin_until: Option<Instant>,
}

impl Wait {
    pub(crate) fn new(mode: PollMode) -> Self {
        Self {
            mode,
            cores: Cores::new(),
            spin_until: None,
        }
    }

    /// Notes that frames were handled at `now`.
    pub(crate) fn note_traffic(&mut self, now: Instant) {
        self.spin_until = Some(now + SPIN);
    }

    /// Whether to look for readiness without sleeping.
    pub(crate) fn should_spin(&mut self, now: Instant) -> bool {
        match self.mode {
            PollMode::Busy => true,
            PollMode::Sleep => false,
            PollMode::Adaptive => match self.spin_until {
                Some(until) if now < until && self.cores.have_room(now) => true,
                _ => {
                    self.spin_until = None;
                    false
                }
            },
        }
    }
}

/// How long to look again after the last frame: about the cost of one sleep and wake-up across cores
/// (40–55 µs measured), the break-even point of spinning.
const SPIN: Duration = Duration::from_micros(50);

/// How long a reading of the run queue is believed.
const LOAD_VALID: Duration = Duration::from_micros(500);

/// Compares runnable threads with cores.
#[derive(Debug)]
struct Cores {
    /// `/proc/loadavg`, whose fourth field counts runnable threads at this instant; `None` where it
    /// cannot be read, which then counts as "no room".
    loadavg: Option<File>,
    count: usize,
    read_at: Option<Instant>,
    room: bool,
}

impl Cores {
    fn new() -> Self {
        Self {
            loadavg: File::open("/proc/loadavg").ok(),
            count: thread::available_parallelism().map_or(1, NonZero::get),
            read_at: None,
            room: false,
        }
    }

    fn have_room(&mut self, now: Instant) -> bool {
        if self
            .read_at
            .is_none_or(|at| now.saturating_duration_since(at) > LOAD_VALID)
        {
            self.read_at = Some(now);
            // The caller is one of the runnable threads and needs one of the cores.
            self.room = self
                .runnable()
                .is_some_and(|runnable| runnable <= self.count && self.count > 1);
        }
        self.room
    }

    fn runnable(&self) -> Option<usize> {
        let mut line = [0; 64];
        let len = self.loadavg.as_ref()?.read_at(&mut line, 0).ok()?;
        runnable_threads(&line[..len])
    }
}

/// The fourth field of `/proc/loadavg`, up to its slash (proc_loadavg(5)).
fn runnable_threads(line: &[u8]) -> Option<usize> {
    let field = line.split(|&byte| byte == b' ').nth(3)?;
    let count = field.split(|&byte| byte == b'/').next()?;
    std::str::from_utf8(count).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_queue_is_read_from_loadavg() {
        assert_eq!(runnable_threads(b"0.20 0.18 0.12 3/80 11206\n"), Some(3));
        for line in [
            &b""[..],
            b"0.20",
            b"0.20 0.18 0.12",
            b"a b c d",
            b"0.20 0.18 0.12 /80 1",
        ] {
            assert_eq!(runnable_threads(line), None);
        }
    }

    #[test]
    fn modes_do_what_they_say() {
        let now = Instant::now();
        let mut sleep = Wait::new(PollMode::Sleep);
        sleep.note_traffic(now);
        assert!(!sleep.should_spin(now));
        assert!(Wait::new(PollMode::Busy).should_spin(now));
    }

    #[test]
    fn adaptive_spins_only_for_a_while_after_traffic_and_only_with_room() {
        let now = Instant::now();
        let mut wait = Wait::new(PollMode::Adaptive);
        assert!(!wait.should_spin(now), "no traffic yet");
        for (room, expected) in [(true, true), (false, false)] {
            wait.note_traffic(now);
            wait.cores.read_at = Some(now);
            wait.cores.room = room;
            assert_eq!(wait.should_spin(now + Duration::from_micros(10)), expected);
        }
        wait.note_traffic(now);
        wait.cores.room = true;
        assert!(!wait.should_spin(now + SPIN), "the time is over");
    }
}
