//! Traffic that leaves the sandbox's network.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

/// Has so many MiB sent back by an echo service, compares every byte, and holds the connection until the
/// input ends.
pub(super) fn echo(address: &str, mebibytes: &str) -> Result<()> {
    let address: SocketAddr = address.parse().context("not an address and port")?;
    let mebibytes: usize = mebibytes.parse().context("not a number of MiB")?;
    let sent = pattern(mebibytes << 20);
    let mut stream =
        TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    thread::scope(|scope| {
        let writer = scope.spawn(|| (&stream).write_all(&sent).context("send"));
        let compared = expect(&stream, &sent);
        if compared.is_err() {
            // Nobody reads on: the writer need not wait for room.
            let _ = stream.shutdown(Shutdown::Both);
        }
        let written = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        compared.and(written)
    })?;
    println!(
        "{mebibytes} MiB there and back over TCP in {:.2} s, every byte as it was sent",
        start.elapsed().as_secs_f64()
    );
    io::stdout().flush()?;

    io::copy(&mut io::stdin(), &mut io::sink())?;
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "more came back than was sent");
    println!("closed by both ends");
    Ok(())
}

/// Reads what must come.
fn expect(mut stream: &TcpStream, expected: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let mut left = expected;
    while !left.is_empty() {
        let limit = buffer.len().min(left.len());
        let len = stream.read(&mut buffer[..limit]).context("receive")?;
        ensure!(len > 0, "the connection ended {} bytes too early", left.len());
        let (now, later) = left.split_at(len);
        ensure!(
            buffer[..len] == *now,
            "other bytes came back than were sent, after {} good ones",
            expected.len() - left.len()
        );
        left = later;
    }
    Ok(())
}

/// Has datagrams of these sizes, separated by commas, sent back by an echo service, and compares them.
pub(super) fn datagrams(address: &str, sizes: &str) -> Result<()> {
    let address: SocketAddr = address.parse().context("not an address and port")?;
    let socket = connected(address, PATIENCE)?;
    let mut buffer = vec![0; 1 << 16];
    for size in sizes.split(',') {
        let sent = pattern(size.parse().context("not a number of bytes")?);
        let start = Instant::now();
        socket.send(&sent).context("send a datagram")?;
        let len = socket
            .recv(&mut buffer)
            .with_context(|| format!("no answer to {size} bytes"))?;
        ensure!(buffer[..len] == sent, "another datagram came back than was sent");
        println!(
            "a datagram of {size} bytes there and back over UDP in {:.3} ms",
            start.elapsed().as_secs_f64() * 1e3
        );
    }
    Ok(())
}

/// Tries an address where neither TCP nor UDP may find anybody.
pub(super) fn expect_no_service(address: &str) -> Result<()> {
    let address: SocketAddr = address.parse().context("not an address and port")?;
    let tcp = TcpStream::connect_timeout(&address, DOUBT).map(drop);
    expect_failure("TCP", address, tcp)?;
    let socket = connected(address, DOUBT)?;
    let udp = socket.send(&[0x76]).and_then(|_| socket.recv(&mut [0]).map(drop));
    expect_failure("UDP", address, udp)
}

fn expect_failure(protocol: &str, address: SocketAddr, outcome: io::Result<()>) -> Result<()> {
    let reason = match outcome {
        Ok(()) => bail!("{address} answered over {protocol} although it must be closed"),
        // Timeouts of connect and of receive (socket(7), SO_RCVTIMEO).
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            "no answer".to_owned()
        }
        Err(error) => error.to_string(),
    };
    println!("{protocol} to {address}: {reason}, as it must be");
    Ok(())
}

/// A UDP socket that hears of errors, which only connected ones do (udp(7)).
fn connected(address: SocketAddr, patience: Duration) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a UDP socket")?;
    socket
        .connect(address)
        .with_context(|| format!("find a route to {address}"))?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

/// Bytes of which no aligned four occur twice, so that nothing lost, doubled or moved goes unnoticed.
fn pattern(len: usize) -> Vec<u8> {
    // An odd factor maps the numbers of 32 bits one to one (2^32 divided by the golden ratio).
    let words = (1_u32..).map(|number| number.wrapping_mul(0x9e37_79b9));
    words.flat_map(u32::to_be_bytes).take(len).collect()
}

/// How long a service may take to do its part, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for somebody who should not be there.
const DOUBT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::TcpListener};

    use super::*;

    #[test]
    fn no_two_parts_of_the_pattern_are_alike() {
        let bytes = pattern(1 << 16);
        assert_eq!(bytes.len(), 1 << 16);
        let words: HashSet<_> = bytes.chunks(4).collect();
        assert_eq!(words.len(), 1 << 14);
        assert_eq!(pattern(7), bytes[..7]);
    }

    #[test]
    fn a_service_that_answers_is_no_closed_one() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let error = expect_no_service(&address).expect_err("somebody listens");
        assert!(
            error.to_string().contains("although it must be closed"),
            "{error}"
        );
    }

    #[test]
    fn other_bytes_and_too_few_are_noticed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("it is bound");
        for (came, complaint) in [(&b"abcx"[..], "other bytes"), (b"abc", "too early")] {
            let mut server = TcpStream::connect(address).expect("it listens");
            let (stream, _) = listener.accept().expect("somebody came");
            server.write_all(came).expect("it reads");
            drop(server);
            let error = expect(&stream, b"abcd").expect_err(complaint);
            assert!(error.to_string().contains(complaint), "{error}");
        }
    }
}
