//! Both ends of TCP connections.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockRef, Socket, Type};

use super::{super::daemon::PATIENCE, bulk::fill, ftp, input_ended, or_kind, say};

/// What a server does with each connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Service {
    /// Answers when the other end has finished and a pause is over.
    AnswerLate { pause: Duration },
    /// Finishes first, then says what it still hears.
    CloseFirst,
    /// Sends back what comes.
    Echo,
    /// Sends so much of the known stream while it reads the other end's.
    Exchange { send: u64 },
    /// Gives [`PAGE`] by FTP.
    Ftp,
    /// Speaks first; says what it hears then.
    Greet,
    /// Answers a request by [`PAGE`].
    Http,
    /// Says every byte that it hears, and answers then.
    Recite,
    /// Resets after the first byte.
    Reset,
    /// Reads the known stream in small portions with long pauses at first.
    SlowSink,
}

/// What a client does with its connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Dialogue {
    /// Speaks, finishes, and says the answer.
    AskAndFinish,
    /// Sends a byte and waits for a reset.
    AwaitReset,
    /// Has so much of the known stream sent back.
    Echo { bytes: u64 },
    /// Sends and receives so much of the known stream, both at once.
    Exchange { send: u64, receive: u64 },
    /// Waits until the server has finished and a pause is over, then speaks.
    FinishLate { pause: Duration },
    /// Listens; answers, and says what it has heard.
    Hear,
    /// Has a byte sent back and says `held`; when its input ends, another one.
    Hold,
    /// Has a byte sent back, then resets.
    Reset,
}

/// Serves for ever.
pub(super) fn serve(at: SocketAddr, service: &Service) -> io::Result<String> {
    let listener = TcpListener::bind(at)?;
    // Hundreds may come at once; the kernel's limit (somaxconn) is higher.
    SockRef::from(&listener).listen(1024)?;
    say(listener.local_addr()?.port());
    thread::scope(|scope| {
        loop {
            let (stream, peer) = listener.accept()?;
            say(format_args!("from {}", peer.ip().to_canonical()));
            scope.spawn(move || say(or_kind(service.serve(stream))));
        }
    })
}

impl Service {
    fn serve(&self, mut stream: TcpStream) -> io::Result<String> {
        match *self {
            Self::AnswerLate { pause } => {
                let heard = hear(&mut stream)?;
                thread::sleep(pause);
                write!(stream, "answer to {heard}")?;
                Ok(heard)
            }
            Self::CloseFirst => {
                stream.shutdown(Shutdown::Write)?;
                hear(&mut stream)
            }
            Self::Echo => {
                io::copy(&mut stream.try_clone()?, &mut stream)?;
                Ok("ended".to_owned())
            }
            Self::Exchange { send } => {
                let received = exchange(&stream, send)?;
                Ok(received.to_string())
            }
            Self::Ftp => ftp::serve(stream),
            Self::Greet => {
                stream.write_all(b"welcome")?;
                stream.shutdown(Shutdown::Write)?;
                hear(&mut stream)
            }
            Self::Http => {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    request.push(byte[0]);
                }
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{PAGE}",
                    PAGE.len()
                )?;
                Ok("served".to_owned())
            }
            Self::Recite => {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard)?;
                stream.write_all(b"heard")?;
                Ok(heard.escape_ascii().to_string())
            }
            Self::Reset => {
                stream.read_exact(&mut [0])?;
                reset(stream)
            }
            Self::SlowSink => slow_sink(&stream),
        }
    }
}

/// Has connections at once; how they went.
pub(super) fn dial(to: SocketAddr, dialogue: &Dialogue, connections: usize) -> io::Result<String> {
    let outcomes = Mutex::new(BTreeMap::<String, usize>::new());
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let word = or_kind(dialogue.hold(to));
                let mut outcomes = outcomes.lock().expect("no thread panics with it");
                *outcomes.entry(word).or_default() += 1;
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("no thread panics with it");
    if outcomes.len() == 1 {
        Ok(outcomes.into_keys().next().unwrap_or_default())
    } else {
        Ok(format!("{outcomes:?}"))
    }
}

impl Dialogue {
    fn hold(&self, to: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        match *self {
            Self::AskAndFinish => {
                stream.write_all(b"question")?;
                stream.shutdown(Shutdown::Write)?;
                hear(&mut stream)
            }
            Self::AwaitReset => {
                stream.write_all(b"x")?;
                hear(&mut stream)
            }
            Self::Echo { bytes } => {
                let received = exchange(&stream, bytes)?;
                Ok(received.to_string())
            }
            Self::Exchange { send, receive } => {
                let received = exchange(&stream, send)?;
                same(receive, received)
            }
            Self::FinishLate { pause } => {
                let heard = hear(&mut stream)?;
                thread::sleep(pause);
                stream.write_all(b"afterthought")?;
                Ok(heard)
            }
            Self::Hear => {
                let heard = hear(&mut stream)?;
                stream.write_all(b"thanks")?;
                Ok(heard)
            }
            Self::Hold => {
                bounce(&mut stream)?;
                say("held");
                let ended = input_ended();
                while !ended.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
                bounce(&mut stream)?;
                Ok("alive".to_owned())
            }
            Self::Reset => {
                bounce(&mut stream)?;
                reset(stream)
            }
        }
    }
}

/// Begins TCP connections, of which none is answered, to the hosts of a /16 in turn.
pub(super) fn syn_flood(network: Ipv4Addr, ended: &AtomicBool) -> io::Result<String> {
    let [a, b, ..] = network.octets();
    let mut begun = 0_u64;
    for host in (0..=u16::MAX).cycle() {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let [c, d] = host.to_be_bytes();
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        // It only begins.
        let _ = socket.connect(&SocketAddr::from(([a, b, c, d], 80)).into());
        begun += 1;
        if begun == 2000 {
            say(begun);
        }
        // Not all the machine's time: the point is what waits, not how fast it comes.
        thread::sleep(Duration::from_micros(200));
    }
    Ok(begun.to_string())
}

/// Sends so much of the known stream and finishes, while it reads the other end's; how much that was.
fn exchange(stream: &TcpStream, send: u64) -> io::Result<u64> {
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            give(stream, send)?;
            stream.shutdown(Shutdown::Write)
        });
        let received = take(stream, CHUNK, Duration::ZERO);
        sender.join().map_err(|_| io::ErrorKind::Other)??;
        received
    })
}

/// Sends so much of the known stream.
fn give(mut stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    while sent < bytes {
        let len = usize::try_from(bytes - sent).map_or(CHUNK, |left| left.min(CHUNK));
        fill(&mut buffer[..len], sent);
        stream.write_all(&buffer[..len])?;
        sent += len as u64;
    }
    Ok(())
}

/// Reads the known stream to its end, by portions with pauses after the first few; how much it was.
fn take(mut stream: &TcpStream, portion: usize, pause: Duration) -> io::Result<u64> {
    let (mut buffer, mut expected) = (vec![0; portion], vec![0; portion]);
    let mut received = 0;
    for round in 0_u32.. {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            break;
        }
        fill(&mut expected[..len], received);
        if buffer[..len] != expected[..len] {
            return Err(io::ErrorKind::InvalidData.into());
        }
        received += len as u64;
        if round < SLOW_ROUNDS && !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(received)
}

fn slow_sink(stream: &TcpStream) -> io::Result<String> {
    // So small that the window closes soon.
    SockRef::from(stream).set_recv_buffer_size(8192)?;
    take(stream, 1500, Duration::from_millis(20)).map(|received| received.to_string())
}

/// What comes until the other end finishes.
fn hear(stream: &mut TcpStream) -> io::Result<String> {
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

/// Has a byte sent back.
fn bounce(stream: &mut TcpStream) -> io::Result<()> {
    let begin = Instant::now();
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])?;
    if begin.elapsed() > PATIENCE {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

/// Ends a connection by a reset.
#[expect(clippy::needless_pass_by_value, reason = "closing it is what resets")]
fn reset(stream: TcpStream) -> io::Result<String> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok("reset".to_owned())
}

fn same(expected: u64, received: u64) -> io::Result<String> {
    if received == expected {
        return Ok("complete".to_owned());
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// What [`Service::Http`] answers.
pub(crate) const PAGE: &str = "from outside\n";

/// Bytes written and read at once.
const CHUNK: usize = 64 << 10;

/// So many reads of a slow reader are slow.
const SLOW_ROUNDS: u32 = 100;
