//! A resolver that knows every name, and one who asks it (RFC 1035).

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use serde::{Deserialize, Serialize};

use super::{super::daemon::PATIENCE, datagrams, say};

/// How a query travels.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Answers every query: names that begin with `big` by [`MANY`] addresses, others by one.
pub(super) fn serve(at: SocketAddr, answer: Ipv4Addr) -> io::Result<String> {
    let listener = TcpListener::bind(at)?;
    let at = listener.local_addr()?;
    let socket = UdpSocket::bind(at)?;
    say(at.port());
    thread::spawn(move || {
        loop {
            // The listener's end ends the program as well.
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            thread::spawn(move || serve_stream(stream, answer));
        }
    });
    let mut buffer = [0; 4096];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer)?;
        if let Some(response) = respond(&buffer[..len], answer, Transport::Udp) {
            socket.send_to(&response, peer)?;
        }
    }
}

fn serve_stream(mut stream: TcpStream, answer: Ipv4Addr) -> io::Result<()> {
    loop {
        let query = read_message(&mut stream)?;
        let response = respond(&query, answer, Transport::Tcp).ok_or(io::ErrorKind::InvalidData)?;
        write_message(&mut stream, &response)?;
    }
}

fn respond(query: &[u8], answer: Ipv4Addr, transport: Transport) -> Option<Vec<u8>> {
    let header = query.get(..HEADER)?;
    let name = query.get(HEADER..)?;
    let name_len = name.iter().position(|&byte| byte == 0)? + 1;
    let question = name.get(..name_len + 4)?;
    let big = question.get(1..4) == Some(b"big");
    // A query with additional records has an OPT one; whoever sends it here takes 4096 bytes.
    let small = matches!(transport, Transport::Udp) && header[10..12] == [0, 0];
    let (flags, count) = match (big, small) {
        (true, true) => (RESPONSE | TRUNCATED, 0),
        (true, false) => (RESPONSE, MANY),
        (false, _) => (RESPONSE, 1),
    };
    let mut response = header[..2].to_vec();
    for word in [flags, 1, count, 0, 0] {
        response.extend(word.to_be_bytes());
    }
    response.extend(question);
    for number in 0..count {
        // A pointer to the question's name, A, IN, 60 s, 4 bytes.
        response.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        let address = Ipv4Addr::from_bits(answer.to_bits() + u32::from(number));
        response.extend(address.octets());
    }
    Some(response)
}

/// Asks; the response's code, how many addresses it has and the first.
pub(super) fn query(server: SocketAddr, name: &str, transport: Transport) -> io::Result<String> {
    let mut query = vec![0x76, 0x73, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let response = match transport {
        Transport::Tcp => {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write_message(&mut stream, &query)?;
            read_message(&mut stream)?
        }
        Transport::Udp => {
            let socket = datagrams::connected(server)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send(&query)?;
            let mut buffer = vec![0; 1 << 16];
            let len = socket.recv(&mut buffer)?;
            buffer.truncate(len);
            buffer
        }
    };
    let short = || io::Error::from(io::ErrorKind::InvalidData);
    if response.get(..2) != query.get(..2) {
        return Err(short());
    }
    let word = |at: usize| {
        let bytes = response.get(at..at + 2).ok_or_else(short)?;
        Ok::<_, io::Error>(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (flags, count) = (word(2)?, word(6)?);
    let first = match count {
        0 => String::new(),
        _ => {
            let record = response
                .get(query.len()..query.len() + RECORD)
                .ok_or_else(short)?;
            format!(
                " {}",
                Ipv4Addr::new(record[12], record[13], record[14], record[15])
            )
        }
    };
    let truncated = if flags & TRUNCATED == 0 { "" } else { " truncated" };
    Ok(format!("code {} count {count}{truncated}{first}", flags & 0xf))
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes(), message].concat())
}

/// Addresses of a name that begins with `big`: more than 512 bytes.
pub(crate) const MANY: u16 = 60;

const HEADER: usize = 12;

/// An address record whose name is a pointer.
const RECORD: usize = 16;

/// QR, RD, RA.
const RESPONSE: u16 = 0x8180;

const TRUNCATED: u16 = 0x0200;
