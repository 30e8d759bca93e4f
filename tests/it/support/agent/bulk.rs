//! Streams whose every byte is known.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use super::{super::daemon::PATIENCE, input_ended, say};

pub(super) fn sink() -> io::Result<String> {
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

pub(super) fn source(to: SocketAddr, limit: Option<u64>) -> io::Result<String> {
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
pub(super) fn fill(buffer: &mut [u8], offset: u64) {
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

/// Bytes written at once.
const CHUNK: usize = 64 << 10;

/// A sink reports each time that so many bytes have come.
const REPORT: u64 = 1 << 20;
