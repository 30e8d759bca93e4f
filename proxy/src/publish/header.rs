//! Headers of the PROXY protocol (haproxy.org, `doc/proxy-protocol.txt`, sections 2.1 and 2.2).

use std::net::SocketAddr;

use super::ProxyProtocol;

impl ProxyProtocol {
    /// The header of a TCP connection of `client` to `server`, an address of the host. Both are of one version.
    pub(crate) fn header(self, client: SocketAddr, server: SocketAddr) -> Vec<u8> {
        match self {
            Self::V1 => text(client, server),
            Self::V2 => binary(client, server),
        }
    }
}

fn text(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let family = match client {
        SocketAddr::V4(_) => "TCP4",
        SocketAddr::V6(_) => "TCP6",
    };
    let (from, to) = (client.ip(), server.ip());
    format!(
        "PROXY {family} {from} {to} {} {}\r\n",
        client.port(),
        server.port()
    )
    .into_bytes()
}

fn binary(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(VERSION_2_PROXY);
    let addresses: Vec<u8> = match (client, server) {
        (SocketAddr::V4(client), SocketAddr::V4(server)) => {
            header.push(TCP_V4);
            [client.ip().octets(), server.ip().octets()].concat()
        }
        (SocketAddr::V6(client), SocketAddr::V6(server)) => {
            header.push(TCP_V6);
            [client.ip().octets(), server.ip().octets()].concat()
        }
        _ => {
            // Cannot be; a receiver takes it for "no address known".
            header.push(UNSPECIFIED);
            header.extend([0, 0]);
            return header;
        }
    };
    header.extend((addresses.len() as u16 + PORTS).to_be_bytes());
    header.extend(addresses);
    header.extend(client.port().to_be_bytes());
    header.extend(server.port().to_be_bytes());
    header
}

/// "\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A"
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// "the highest four bits contains the version"; the command PROXY is 1.
const VERSION_2_PROXY: u8 = 0x21;
/// AF_INET and STREAM; AF_INET6 and STREAM; AF_UNSPEC and UNSPEC.
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
/// Bytes of both ports.
const PORTS: u16 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: ProxyProtocol, client: &str, server: &str) -> Vec<u8> {
        let address = |text: &str| text.parse().expect("an address");
        version.header(address(client), address(server))
    }

    #[test]
    fn a_line_names_both_ends() {
        let line = header(ProxyProtocol::V1, "203.0.113.9:4711", "192.0.2.1:8080");
        assert_eq!(line, b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 8080\r\n");
        let line = header(ProxyProtocol::V1, "[2001:db8::9]:4711", "[2001:db8::1]:80");
        assert_eq!(line, b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n");
        let longest = header(
            ProxyProtocol::V1,
            "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
            "[2001:db8:1111:2222:3333:4444:5555:7777]:65535",
        );
        // "the maximum line lengths": 107 with the terminating zero, in the longest notation.
        assert!(longest.len() <= 107);
    }

    #[test]
    fn the_binary_header_is_as_the_specification_draws_it() {
        let v4 = header(ProxyProtocol::V2, "203.0.113.9:4711", "192.0.2.1:8080");
        let (start, rest) = v4.split_at(16);
        assert_eq!(start, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c");
        assert_eq!(rest, [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 0x1f, 0x90]);
        let v6 = header(ProxyProtocol::V2, "[2001:db8::9]:1", "[2001:db8::1]:2");
        assert_eq!((&v6[12..16], v6.len()), (&b"\x21\x21\x00\x24"[..], 16 + 36));
        assert_eq!(v6[48..], [0, 1, 0, 2]);
    }
}
