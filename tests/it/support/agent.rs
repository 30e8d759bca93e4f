//! What this program does inside sandboxes of the daemon, or outside, when a test starts it there again.

mod bulk;
mod datagrams;
mod ftp;
mod resolver;
mod streams;
mod visitors;

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::Instant,
};

use serde::{Deserialize, Serialize};
use vswitch_wire::MacAddr;

pub(crate) use resolver::Transport;
pub(crate) use streams::{Dialogue, PAGE, Service};
pub(crate) use visitors::COMMAND;

use super::{daemon::PATIENCE, hostile};

/// What to do in a sandbox. A role speaks line by line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Role {
    /// Becomes the command that [`COMMAND`] names, with a listening socket (sd_listen_fds(3)).
    Activate { at: SocketAddr },
    /// Says how many milliseconds a TCP connection attempt took, then how it failed, or `connected`.
    Connect { to: SocketAddr },
    /// Sends datagrams of these sizes, each of which must come back; says how many have.
    Datagrams { to: SocketAddr, sizes: Vec<usize> },
    /// Has so many TCP connections at once; says how each went, once if all went the same way.
    Dial {
        to: SocketAddr,
        dialogue: Dialogue,
        connections: usize,
    },
    /// Ends at once with this exit code.
    Exit { code: i32 },
    /// Misbehaves on an interface until its input ends.
    Flood { interface: String, victim: Ipv4Addr },
    /// Serves so many TCP and UDP ports; tells each client its address and the port, and says whence each came.
    Introduce { at: SocketAddr, ports: u16 },
    /// Sends a frame of an unknown protocol to a station.
    Knock { interface: String, station: [u8; 6] },
    /// Has so many idle TCP connections until its input ends; says how many, then how many are left.
    Loiter { to: SocketAddr, connections: usize },
    /// Sends 20 000 packets that no sane host sends by a router to these destinations.
    Nonsense {
        interface: String,
        station: [u8; 6],
        to: Vec<SocketAddr>,
    },
    /// Asks a resolver for a name's IPv4 addresses; says the code, how many there are and the first,
    /// or how it failed.
    Query {
        server: SocketAddr,
        name: String,
        transport: Transport,
    },
    /// `connected`, or how a TCP connection attempt fails within two seconds.
    Reach { to: SocketAddr },
    /// Sends a datagram to where nobody listens; says how the socket hears of it.
    RefusedDatagram { to: SocketAddr },
    /// Says its port; answers queries over UDP and TCP by this address.
    Resolve { at: SocketAddr, answer: Ipv4Addr },
    /// Says its port; serves every TCP connection that comes, and says of each where it came from and how
    /// it ended.
    Serve { at: SocketAddr, service: Service },
    /// Says its port, then the number of each MiB that has come, then how much came in all; fails if
    /// anything was lost, doubled or changed.
    Sink,
    /// Sends datagrams and SYNs to a station, whose addresses they may not have come by: of loopback, for example.
    Smuggle {
        interface: String,
        station: [u8; 6],
        from: IpAddr,
        to: SocketAddr,
    },
    /// Sends until its input ends, or so many bytes; says how many it sent.
    Source { to: SocketAddr, limit: Option<u64> },
    /// Begins TCP connections, to one address after the other, until its input ends; says the first time
    /// how many it began and the last time, too.
    SynFlood { network: Ipv4Addr },
    /// Says its port; sends datagrams back, and says of each new sender who it is.
    UdpEcho { at: SocketAddr },
    /// Asks [`Role::Introduce`] who it is: `itself` or an address, and the container's port.
    Visit { to: SocketAddr, transport: Transport },
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
            Self::Activate { at } => visitors::activate(at),
            Self::Connect { to } => {
                let begin = Instant::now();
                let connected = TcpStream::connect_timeout(&to, PATIENCE);
                say(begin.elapsed().as_millis());
                Ok(or_kind(connected.map(|_| "connected")))
            }
            Self::Datagrams { to, sizes } => datagrams::exchange(to, &sizes),
            Self::Dial {
                to,
                dialogue,
                connections,
            } => streams::dial(to, &dialogue, connections),
            #[expect(
                clippy::disallowed_methods,
                reason = "the test harness has exit codes of its own"
            )]
            Self::Exit { code } => process::exit(code),
            Self::Flood { interface, victim } => {
                hostile::flood(&interface, victim, &input_ended()).map(|frames| frames.to_string())
            }
            Self::Introduce { at, ports } => visitors::introduce(at, ports),
            Self::Knock { interface, station } => {
                hostile::knock(&interface, MacAddr(station)).map(|()| "sent".to_owned())
            }
            Self::Loiter { to, connections } => visitors::loiter(to, connections),
            Self::Nonsense {
                interface,
                station,
                to,
            } => hostile::nonsense(&interface, MacAddr(station), &to).map(|packets| packets.to_string()),
            Self::Query {
                server,
                name,
                transport,
            } => Ok(or_kind(resolver::query(server, &name, transport))),
            Self::Reach { to } => visitors::reach(to),
            Self::RefusedDatagram { to } => datagrams::refused(to),
            Self::Resolve { at, answer } => resolver::serve(at, answer),
            Self::Serve { at, service } => streams::serve(at, &service),
            Self::Sink => bulk::sink(),
            Self::Smuggle {
                interface,
                station,
                from,
                to,
            } => hostile::smuggle(&interface, MacAddr(station), from, to).map(|()| "sent".to_owned()),
            Self::Source { to, limit } => bulk::source(to, limit),
            Self::SynFlood { network } => streams::syn_flood(network, &input_ended()),
            Self::UdpEcho { at } => datagrams::echo(at),
            Self::Visit { to, transport } => visitors::visit(to, transport),
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

/// The word, or the kind of the error.
fn or_kind(result: io::Result<impl Into<String>>) -> String {
    match result {
        Ok(word) => word.into(),
        Err(error) => format!("{:?}", error.kind()),
    }
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

pub(crate) const ROLE: &str = "VSWITCH_TEST_ROLE";

/// Begins what a role says.
pub(crate) const MARK: &str = "agent: ";
