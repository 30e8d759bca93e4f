//! What this program does inside sandboxes of the daemon, when a test starts it there again.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use vswitch_wire::MacAddr;

use super::{daemon::PATIENCE, hostile};

/// What to do in a sandbox. A role speaks line by line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Says how a TCP connection attempt fails, or `connected`.
    Connect { to: SocketAddr },
    /// Ends at once with this exit code.
    Exit { code: i32 },
    /// Misbehaves on an interface until its input ends.
    Flood { interface: String, victim: Ipv4Addr },
    /// Sends a frame of an unknown protocol to a station.
    Knock { interface: String, station: [u8; 6] },
    /// Says its port, then the number of each MiB that has come, then how much came in all; fails if
    /// anything was lost, doubled or changed.
    Sink,
    /// Sends until its input ends, or so many bytes; says how many it sent.
    Source { to: SocketAddr, limit: Option<u64> },
}

impl Role {
    /// An environment variable and a command that make this program play the role.
    pub(crate) fn command(&self) -> (String, Vec<String>) {
        let role = serde_json::to_string(self).expect("plain data");
        let myself = env::current_exe().expect("own path");
        let words = [
            myself.to_str().expect("UTF-8"),
            "--exact",
            "support::agent::role_in_a_sandbox",
            "--ignored",
            "--nocapture",
        ];
        (format!("{ROLE}={role}"), words.map(str::to_owned).to_vec())
    }

    fn play(self) -> io::Result<String> {
        match self {
            Self::Connect { to } => Ok(match TcpStream::connect_timeout(&to, PATIENCE) {
                Ok(_) => "connected".to_owned(),
                Err(error) => format!("{:?}", error.kind()),
            }),
            #[expect(
                clippy::disallowed_methods,
                reason = "the test harness has exit codes of its own"
            )]
            Self::Exit { code } => process::exit(code),
            Self::Flood { interface, victim } => {
                hostile::flood(&interface, victim, &input_ended()).map(|frames| frames.to_string())
            }
            Self::Knock { interface, station } => {
                hostile::knock(&interface, MacAddr(station)).map(|()| "sent".to_owned())
            }
            Self::Sink => sink(),
            Self::Source { to, limit } => source(to, limit),
        }
    }
}

#[test]
#[ignore = "a role in other tests"]
fn role_in_a_sandbox() {
    let Ok(role) = env::var(ROLE) else { return };
    let role: Role = serde_json::from_str(&role).expect("a role");
    match role.play() {
        Ok(word) => say(word),
        Err(error) => panic!("{error}"),
    }
}

/// A role that is being played in a sandbox. Dropping it ends it.
pub(crate) struct Agent {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Agent {
    pub(super) fn spawn(mut command: Command) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client starts");
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let words = BufReader::new(stdout).lines().map_while(Result::ok);
            // The test harness speaks too, on lines and parts of lines of its own.
            for line in words.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned())) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            process,
            stdin,
            lines,
        }
    }

    /// What it says next.
    #[track_caller]
    pub(crate) fn word(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a word of the agent")
    }

    /// Ends its input.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stdin = None;
    }

    /// What it says last; it must succeed.
    #[track_caller]
    pub(crate) fn last_word(mut self) -> String {
        self.ask_to_stop();
        let mut last = None;
        while let Ok(word) = self.lines.recv_timeout(PATIENCE) {
            last = Some(word);
        }
        // Its output has ended, or it is stuck.
        let ended = super::ends_within(&mut self.process, PATIENCE);
        assert!(
            ended.is_some_and(|status| status.success()),
            "{last:?}, {ended:?}"
        );
        last.expect("it said something")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(super) fn say(word: impl std::fmt::Display) {
    println!("{MARK}{word}");
    let _ = io::stdout().flush();
}

/// A flag that is set when the input has ended.
fn input_ended() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let setter = Arc::clone(&ended);
    thread::spawn(move || {
        // An error ends it as well.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        setter.store(true, Ordering::Relaxed);
    });
    ended
}

fn sink() -> io::Result<String> {
    // Takes IPv4 as well; a kernel without IPv6 has only that.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    say(listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    let (mut received, mut next_report) = (0, REPORT);
    let (mut buffer, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(received.to_string());
        }
        fill(&mut expected[..len], received);
        if buffer[..len] != expected[..len] {
            return Err(io::Error::other(format!(
                "not what was sent, behind byte {received}"
            )));
        }
        received += len as u64;
        while received >= next_report {
            say(next_report / REPORT);
            next_report += REPORT;
        }
    }
}

fn source(to: SocketAddr, limit: Option<u64>) -> io::Result<String> {
    let ended = input_ended();
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    let deadline = Instant::now() + 2 * PATIENCE;
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    let goes_on = |sent| match limit {
        Some(limit) => sent < limit,
        None => !ended.load(Ordering::Relaxed),
    };
    while goes_on(sent) && Instant::now() < deadline {
        fill(&mut buffer, sent);
        stream.write_all(&buffer)?;
        sent += CHUNK as u64;
        // Not all the machine's time: other tests run beside this one.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(sent.to_string())
}

/// The bytes of the stream from an offset: a pattern whose period divides no power of two, so that lost or
/// doubled segments show.
fn fill(buffer: &mut [u8], offset: u64) {
    const PERIOD: usize = 65_521;
    static PATTERN: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let mut state: u32 = 0x7673_7769;
        let mut next = || {
            // Xorshift: Marsaglia, Journal of Statistical Software 8 (14), 2003.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        (0..PERIOD).map(|_| next()).collect()
    });
    let mut place = usize::try_from(offset % PERIOD as u64).expect("below the period");
    let mut rest = buffer;
    while !rest.is_empty() {
        let len = rest.len().min(PERIOD - place);
        let (now, later) = rest.split_at_mut(len);
        now.copy_from_slice(&PATTERN[place..place + len]);
        (rest, place) = (later, 0);
    }
}

const ROLE: &str = "VSWITCH_TEST_ROLE";

/// Begins what a role says.
pub(crate) const MARK: &str = "agent: ";

/// Bytes written at once.
const CHUNK: usize = 64 << 10;

/// A sink reports each time that so many bytes have come.
const REPORT: u64 = 1 << 20;
