//! A packet in one line.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use vswitch_wire::{
    FlowKey, Fragment, IcmpHeader, IpProtocol, Ipv4Packet, Ipv6Header, Ipv6Packet, Malformed, TcpFlags,
    TcpHeader,
};

/// What of a packet a person wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    len: usize,
    hops: u8,
    fragment: Option<Fragment>,
    protocol: IpProtocol,
    upper: Upper,
}

/// What is behind the IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Upper {
    /// An ICMP message other than echo: type, code, and what it is about.
    Icmp {
        kind: u8,
        code: u8,
        about: Option<FlowKey>,
    },
    /// Echo: type and identifier.
    Echo { kind: u8, id: u16, sequence: u16 },
    /// Neither ports nor anything else that is known.
    Other,
    Ports {
        src: u16,
        dst: u16,
        tcp: Option<TcpNote>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TcpNote {
    flags: TcpFlags,
    sequence: u32,
    acknowledgment: u32,
}

impl Summary {
    /// Of an IP packet; `None` if its addresses cannot even be read.
    pub fn of(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => {
                let read = Ipv4Packet::parse(packet)
                    .or_else(|_| Ipv4Packet::parse_quoted(packet))
                    .ok()?;
                let (header, upper) = (read.header(), read.upper_layer());
                Some(Self {
                    src: header.src().into(),
                    dst: header.dst().into(),
                    len: header.total_len().into(),
                    hops: header.ttl(),
                    fragment: upper.fragment,
                    protocol: upper.protocol,
                    upper: Upper::read(packet, upper.offset, upper.fragment, upper.protocol),
                })
            }
            6 => {
                let read = Ipv6Packet::parse(packet)
                    .or_else(|_| Ipv6Packet::parse_quoted(packet))
                    .ok()?;
                let header = read.header();
                let upper = read.upper_layer();
                let whole = Ipv6Header::LEN + usize::from(header.payload_len());
                Some(Self {
                    src: header.src().into(),
                    dst: header.dst().into(),
                    len: whole,
                    hops: header.hop_limit(),
                    fragment: upper.as_ref().ok().and_then(|upper| upper.fragment),
                    protocol: upper
                        .as_ref()
                        .map_or(header.next_header(), |upper| upper.protocol),
                    upper: upper.map_or(Upper::Other, |upper| {
                        Upper::read(packet, upper.offset, upper.fragment, upper.protocol)
                    }),
                })
            }
            _ => None,
        }
    }
}

impl Upper {
    fn read(packet: &[u8], offset: usize, fragment: Option<Fragment>, protocol: IpProtocol) -> Self {
        if fragment.is_some_and(|fragment| !fragment.is_first()) {
            return Self::Other;
        }
        let bytes = packet.get(offset..).unwrap_or_default();
        match (protocol, bytes) {
            (IpProtocol::ICMP | IpProtocol::ICMPV6, &[kind, code, _, _, a, b, c, d, ..]) => {
                let echo = match protocol {
                    IpProtocol::ICMP => [0, 8],
                    _ => [128, 129],
                };
                if echo.contains(&kind) {
                    return Self::Echo {
                        kind,
                        id: u16::from_be_bytes([a, b]),
                        sequence: u16::from_be_bytes([c, d]),
                    };
                }
                let quoted = FlowKey::parse_quoted(&bytes[IcmpHeader::LEN..]);
                Self::Icmp {
                    kind,
                    code,
                    about: quoted.ok(),
                }
            }
            (IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP, &[a, b, c, d, ..]) => Self::Ports {
                src: u16::from_be_bytes([a, b]),
                dst: u16::from_be_bytes([c, d]),
                tcp: (protocol == IpProtocol::TCP)
                    .then(|| TcpNote::read(bytes).ok())
                    .flatten(),
            },
            _ => Self::Other,
        }
    }
}

impl TcpNote {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut copy = [0; TcpHeader::LEN];
        copy.copy_from_slice(bytes.get(..TcpHeader::LEN).ok_or(Malformed::Truncated)?);
        let (header, _) = TcpHeader::parse_mut(&mut copy)?;
        Ok(Self {
            flags: header.flags(),
            sequence: header.sequence(),
            acknowledgment: header.acknowledgment(),
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, .. } = self;
        write!(f, "{} ", self.protocol)?;
        match &self.upper {
            Upper::Echo { kind, id, sequence } => {
                write!(f, "{src}>{dst} type {kind} id {id} seq {sequence}")?;
            }
            Upper::Icmp { kind, code, about } => {
                write!(f, "{src}>{dst} type {kind} code {code}")?;
                if let Some(key) = about {
                    write!(f, " about {} {}", key.protocol, Flow(key))?;
                }
            }
            Upper::Other => write!(f, "{src}>{dst}")?,
            &Upper::Ports {
                src: src_port,
                dst: dst_port,
                tcp,
            } => {
                write!(
                    f,
                    "{}>{}",
                    SocketAddr::new(*src, src_port),
                    SocketAddr::new(*dst, dst_port)
                )?;
                if let Some(note) = tcp {
                    write!(f, " {note}")?;
                }
            }
        }
        if let Some(Fragment { id, offset, more }) = self.fragment {
            write!(f, " fragment {id:#x} at {offset}{}", if more { "+" } else { "" })?;
        }
        write!(f, " ttl {} len {}", self.hops, self.len)
    }
}

/// The flow that an error is about.
struct Flow<'a>(&'a FlowKey);

impl fmt::Display for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowKey { src, dst, ports, .. } = self.0;
        match ports {
            Some(ports) => write!(
                f,
                "{}>{}",
                SocketAddr::new(*src, ports.src),
                SocketAddr::new(*dst, ports.dst)
            ),
            None => write!(f, "{src}>{dst}"),
        }
    }
}

impl fmt::Display for TcpNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (flag, letter) in [
            (TcpFlags::SYN, "S"),
            (TcpFlags::FIN, "F"),
            (TcpFlags::RST, "R"),
            (TcpFlags::PSH, "P"),
            (TcpFlags::ACK, "."),
            (TcpFlags::URG, "U"),
            (TcpFlags::ECE, "E"),
            (TcpFlags::CWR, "W"),
        ] {
            if self.flags.contains(flag) {
                f.write_str(letter)?;
            }
        }
        write!(f, "] seq {}", self.sequence)?;
        if self.flags.contains(TcpFlags::ACK) {
            write!(f, " ack {}", self.acknowledgment)?;
        }
        Ok(())
    }
}
