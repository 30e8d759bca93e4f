use std::{
    io::Write,
    net::{TcpListener, TcpStream},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// A host socket and its peer.
fn connected() -> (HostSocket, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let to = listener.local_addr().expect("an address");
    let socket = HostSocket::open(to, &Source::default(), 0).expect("a socket");
    socket.connect(to).expect("it listens");
    (socket, listener.accept().expect("it connects").0)
}

/// Waits until the queue holds `len` bytes.
fn arrived(socket: &HostSocket, len: u64) {
    for _ in 0..PATIENCE {
        if rustix::io::ioctl_fionread(&socket.socket).expect("a socket") >= len {
            return;
        }
        wait(socket);
    }
    panic!("not all arrives");
}

/// Waits for something to read, at most for a moment.
fn wait(socket: &HostSocket) {
    let mut fds = [PollFd::new(&socket.socket, PollFlags::IN)];
    let moment = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    poll(&mut fds, Some(&moment)).expect("a descriptor");
}

/// Looks at a socket, a hundredth of a second apart when nothing is there.
const PATIENCE: u32 = 100_000;

#[test]
fn r_tx_2_peeks_are_the_same_with_and_without_an_offset_in_the_kernel() {
    for is_old in [false, true] {
        let (mut socket, mut peer) = connected();
        if is_old {
            // What kernels before 6.9 have.
            if let Peek::Offset(_) = socket.peek {
                IntOption::PEEK_OFFSET
                    .set(socket.as_fd(), -1)
                    .expect("it knows the option");
            }
            socket.peek = Peek::Skip;
        }
        peer.write_all(b"0123456789").expect("a connection");
        arrived(&socket, 10);
        // Smaller than what is skipped, as a large window is larger than the scratch.
        let (mut into, mut waste) = ([0; 4], [0; 3]);
        let mut peek = |socket: &mut HostSocket, offset| {
            let len = socket.peek(offset, &mut into, &mut waste)?;
            io::Result::Ok(into[..len].to_vec())
        };
        assert_eq!(peek(&mut socket, 0).expect("data"), b"0123");
        assert_eq!(peek(&mut socket, 4).expect("data"), b"4567");
        assert_eq!(peek(&mut socket, 8).expect("data"), b"89");
        socket.discard(5).expect("they are there");
        assert_eq!(peek(&mut socket, 3).expect("data"), b"89");
        // A retransmission goes back.
        assert_eq!(peek(&mut socket, 0).expect("data"), b"5678");
        socket.discard(5).expect("they are there");
        let error = peek(&mut socket, 0).expect_err("nothing is left");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(peer);
        wait(&socket);
        assert_eq!(peek(&mut socket, 0).expect("the end"), b"");
    }
}

#[test]
fn r_rx_11_urgent_data_stays_in_its_place() {
    let (mut socket, mut peer) = connected();
    peer.write_all(b"abcde").expect("a connection");
    rustix::net::send(&peer, b"U", SendFlags::OOB).expect("a connection");
    peer.write_all(b"fgh").expect("a connection");
    arrived(&socket, 9);
    let mut stream = Vec::new();
    let mut into = [0; 4];
    while stream.len() < 9 {
        let len = socket
            .peek(stream.len() as u32, &mut into, &mut [])
            .expect("data");
        stream.extend_from_slice(&into[..len]);
    }
    assert_eq!(stream, b"abcdeUfgh");
    socket.discard(9).expect("all of it is there");
}

/// The kernel counts the SYN of those who connect only (R-RX-4 needs the number of the stream's bytes).
#[test]
fn what_a_peer_has_acknowledged_counts_the_syn_at_both_ends() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = listener.local_addr().expect("it is bound");
    let connecting = std::net::TcpStream::connect(to).expect("somebody listens");
    let (accepted, _) = listener.accept().expect("somebody connects");
    let connecting = HostSocket::adopt(connecting.into()).expect("a TCP socket");
    let accepted = HostSocket::accepted(accepted.into(), Vec::new()).expect("a TCP socket");
    assert_eq!(connecting.room().peer_acked, 1);
    assert_eq!(accepted.room().peer_acked, 1);
}

#[test]
fn r_tx_9_a_peek_tells_whether_anything_is_left() {
    let (mut socket, mut peer) = connected();
    let mut into = [0; 8];
    let mut peek = |socket: &mut HostSocket, offset| socket.peek(offset, &mut into, &mut []);
    peer.write_all(b"0123456789").expect("a connection");
    arrived(&socket, 10);
    assert_eq!(peek(&mut socket, 0).expect("data"), 8);
    assert!(!socket.is_drained);
    assert_eq!(peek(&mut socket, 8).expect("data"), 2);
    assert!(socket.is_drained, "nothing is left, and more will be told");
    socket.discard(10).expect("they are there");
    peer.write_all(b"last").expect("a connection");
    drop(peer);
    arrived(&socket, 4);
    while peek(&mut socket, 0).expect("data") < 4 || socket.is_drained {
        // The end may be later than the data.
        wait(&socket);
    }
    assert_eq!(peek(&mut socket, 4).expect("the end"), 0);
}
