//! A container's services that tell whoever comes who that is, and those who come.

use std::{
    env,
    fmt::Display,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use rustix::io::{FdFlags, fcntl_setfd};

use super::{super::daemon::PATIENCE, Transport, datagrams, input_ended, or_kind, say};

/// Serves so many consecutive ports, TCP and UDP, for ever: tells each client its address, and the port that it came
/// to. Says `ready`, then the address of each TCP client and each UDP datagram's sender.
pub(super) fn introduce(at: SocketAddr, ports: u16) -> io::Result<String> {
    let bound = (0..ports).map(|offset| {
        let at = SocketAddr::new(at.ip(), at.port() + offset);
        Ok((TcpListener::bind(at)?, UdpSocket::bind(at)?))
    });
    let bound = bound.collect::<io::Result<Vec<_>>>()?;
    say("ready");
    thread::scope(|scope| {
        for (listener, socket) in &bound {
            scope.spawn(|| introduce_streams(listener));
            scope.spawn(|| introduce_datagrams(socket));
        }
    });
    Err(io::ErrorKind::Other.into())
}

fn introduce_streams(listener: &TcpListener) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    loop {
        let (mut stream, peer) = listener.accept()?;
        say(format_args!("tcp from {}", peer.ip().to_canonical()));
        // It speaks first. One that has gone again need not be told.
        let _ = stream.write_all(introduction(peer, port).as_bytes());
    }
}

fn introduce_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let port = socket.local_addr()?.port();
    let mut buffer = vec![0; 1 << 16];
    loop {
        // An error is one of an earlier datagram.
        let Ok((_, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        say(format_args!("udp from {}", peer.ip().to_canonical()));
        let _ = socket.send_to(introduction(peer, port).as_bytes(), peer);
    }
}

fn introduction(peer: SocketAddr, port: u16) -> String {
    format!(
        "{} {port}",
        SocketAddr::new(peer.ip().to_canonical(), peer.port())
    )
}

/// Who the server takes us for, `itself` if that is true, and the port that it knows; or how that failed.
pub(super) fn visit(to: SocketAddr, transport: Transport) -> io::Result<String> {
    let outcome = match transport {
        Transport::Tcp => visit_stream(to),
        Transport::Udp => visit_datagram(to),
    };
    Ok(or_kind(outcome))
}

fn visit_stream(to: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    // Whoever waits for our word has more patience.
    stream.set_read_timeout(Some(PATIENCE / 2))?;
    let own = stream.local_addr()?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(compare(&heard, own))
}

fn visit_datagram(to: SocketAddr) -> io::Result<String> {
    let socket = datagrams::connected(to)?;
    // Who is refused hears nothing.
    socket.set_read_timeout(Some(SILENCE))?;
    let own = socket.local_addr()?;
    socket.send(b"who am I?")?;
    let mut buffer = [0; 100];
    let len = socket.recv(&mut buffer)?;
    Ok(compare(&String::from_utf8_lossy(&buffer[..len]), own))
}

fn compare(heard: &str, own: SocketAddr) -> String {
    let Some((peer, port)) = heard.split_once(' ') else {
        return format!("heard {heard:?}");
    };
    match peer.parse::<SocketAddr>() {
        Ok(peer) if peer == own => format!("itself {port}"),
        Ok(peer) => format!("{} {port}", peer.ip()),
        Err(_) => format!("heard {heard:?}"),
    }
}

/// Has so many connections, says so, and does nothing with them until the input ends; says how many are left then.
pub(super) fn loiter(to: SocketAddr, connections: usize) -> io::Result<String> {
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        // Who is not let in tries no more than once.
        streams.extend(TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok());
    }
    say(streams.len());
    let ended = input_ended();
    while !ended.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(5));
    }
    let left = streams.into_iter().filter(|stream| {
        stream.set_nonblocking(true).is_ok()
            && matches!(stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    });
    Ok(left.count().to_string())
}

/// Whether a connection is made soon; how it failed else.
pub(super) fn reach(to: SocketAddr) -> io::Result<String> {
    let connected = TcpStream::connect_timeout(&to, SILENCE);
    Ok(or_kind(connected.map(|_| "connected")))
}

/// Becomes the command in [`COMMAND`], a word a line, with a listening socket as `systemd` hands one over.
pub(super) fn activate(at: SocketAddr) -> io::Result<String> {
    let listener = TcpListener::bind(at)?;
    fcntl_setfd(listener.as_fd(), FdFlags::empty())?;
    let words = env::var(COMMAND).map_err(other)?;
    let script = format!(
        "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"",
        listener.as_raw_fd()
    );
    let error = Command::new("sh")
        .args(["-c", &script, "sh"])
        .args(words.lines())
        .env_remove(super::ROLE)
        .env_remove(COMMAND)
        .exec();
    Err(error)
}

fn other(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// An answer that has not come by then does not come.
const SILENCE: Duration = Duration::from_secs(2);

/// Names the command of [`activate`].
pub(crate) const COMMAND: &str = "VSWITCH_TEST_COMMAND";
