//! Packets as bytes, right or wrong in any field.

use std::net::IpAddr;

use vswitch_wire::IpVersion;

/// Addresses and ports of a packet; an ICMP query has its identifier at the end of the host that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
}

impl Ends {
    pub(super) fn version(&self) -> IpVersion {
        if self.src.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        }
    }

    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let mut bytes = octets(self.src);
        bytes.extend(octets(self.dst));
        bytes.extend((length as u32).to_be_bytes());
        bytes.extend([0, 0, 0, protocol]);
        bytes
    }
}

/// What an IP header says beside addresses, protocol and length.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) ttl: u8,
    /// Type of service, or traffic class.
    pub(super) tos: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    /// IPv6.
    pub(super) label: u32,
    /// Options of IPv4, a multiple of four bytes.
    pub(super) options: Vec<u8>,
    /// Extension headers of IPv6: number, and all after the next header's.
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
}

impl Header {
    pub(super) fn plain(id: u16) -> Self {
        Self {
            ttl: 64,
            tos: 0,
            id,
            dont_fragment: false,
            label: 0,
            options: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// The packet with that content.
    pub(super) fn packet(&self, ends: &Ends, protocol: u8, content: &[u8]) -> Vec<u8> {
        match ends.version() {
            IpVersion::V4 => self.v4(ends, protocol, content),
            IpVersion::V6 => self.v6(ends, protocol, content),
        }
    }

    fn v4(&self, ends: &Ends, protocol: u8, content: &[u8]) -> Vec<u8> {
        let header = 20 + self.options.len();
        let mut bytes = vec![0x40 | (header / 4) as u8, self.tos];
        bytes.extend(((header + content.len()) as u16).to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend([u8::from(self.dont_fragment) << 6, 0, self.ttl, protocol, 0, 0]);
        bytes.extend(octets(ends.src));
        bytes.extend(octets(ends.dst));
        bytes.extend(&self.options);
        mend_header(&mut bytes);
        bytes.extend(content);
        bytes
    }

    fn v6(&self, ends: &Ends, protocol: u8, content: &[u8]) -> Vec<u8> {
        let mut chain = Vec::new();
        for (index, (_, body)) in self.extensions.iter().enumerate() {
            let next = self.extensions.get(index + 1);
            chain.push(next.map_or(protocol, |(number, _)| *number));
            chain.extend(body);
        }
        let first = self.extensions.first().map_or(protocol, |(number, _)| *number);
        let word = 6 << 28 | u32::from(self.tos) << 20 | self.label;
        let mut bytes = word.to_be_bytes().to_vec();
        bytes.extend(((chain.len() + content.len()) as u16).to_be_bytes());
        bytes.extend([first, self.ttl]);
        bytes.extend(octets(ends.src));
        bytes.extend(octets(ends.dst));
        bytes.extend(chain);
        bytes.extend(content);
        bytes
    }
}

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    /// A multiple of four bytes.
    pub(super) options: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl Segment {
    /// Bytes of sequence space that it takes.
    pub(super) fn length(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0)
    }
}

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;
pub(super) const URG: u8 = 32;

pub(super) fn tcp(ends: &Ends, segment: &Segment) -> Vec<u8> {
    let mut bytes = [ends.src_port.to_be_bytes(), ends.dst_port.to_be_bytes()].concat();
    bytes.extend(segment.seq.to_be_bytes());
    bytes.extend(segment.ack.to_be_bytes());
    bytes.extend([((20 + segment.options.len()) * 4) as u8, segment.flags]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&segment.options);
    bytes.extend(&segment.payload);
    checksummed(ends, 6, bytes, 16)
}

pub(super) fn udp(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [ends.src_port.to_be_bytes(), ends.dst_port.to_be_bytes()].concat();
    bytes.extend((8 + payload.len() as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let mut bytes = checksummed(ends, 17, bytes, 6);
    if bytes[6..8] == [0, 0] {
        bytes[6..8].fill(0xff);
    }
    bytes
}

/// ICMP of the packet's version: type, code, and all after the checksum.
pub(super) fn icmp(ends: &Ends, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let bytes = [&[kind, code, 0, 0], rest].concat();
    match ends.version() {
        IpVersion::V6 => checksummed(ends, 58, bytes, 2),
        IpVersion::V4 => {
            let mut bytes = bytes;
            let sum = !sum(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            bytes
        }
    }
}

pub(super) fn icmp_protocol(version: IpVersion) -> u8 {
    match version {
        IpVersion::V4 => 1,
        IpVersion::V6 => 58,
    }
}

/// One SCTP chunk in a packet with that verification tag.
pub(super) fn sctp(ends: &Ends, tag: u32, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = [ends.src_port.to_be_bytes(), ends.dst_port.to_be_bytes()].concat();
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend([kind, 0]);
    bytes.extend((4 + value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    mend_sctp(&mut bytes);
    bytes
}

/// Writes the right checksum into an SCTP packet.
pub(super) fn mend_sctp(bytes: &mut [u8]) {
    bytes[8..12].fill(0);
    let crc = crc32c(bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// Writes the right checksum into the header of IPv4.
pub(super) fn mend_header(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = !sum(&packet[..length]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// A packet's pieces: from byte to byte of what follows the IP header, each a multiple of eight but the last.
pub(super) fn piece(packet: &[u8], id: u32, [from, to]: [usize; 2]) -> Vec<u8> {
    let version_4 = packet[0] >> 4 == 4;
    let header = if version_4 {
        usize::from(packet[0] & 15) * 4
    } else {
        40
    };
    let content = &packet[header..];
    let (from, to) = (from.min(content.len()), to.min(content.len()));
    let more = u16::from(to < content.len());
    let mut bytes = packet[..header].to_vec();
    if version_4 {
        bytes[2..4].copy_from_slice(&((header + to - from) as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&(id as u16).to_be_bytes());
        let place = (from / 8) as u16 | more << 13 | u16::from(packet[6] & 0x40) << 8;
        bytes[6..8].copy_from_slice(&place.to_be_bytes());
        mend_header(&mut bytes);
    } else {
        bytes[4..6].copy_from_slice(&((8 + to - from) as u16).to_be_bytes());
        bytes.extend([packet[6], 0]);
        bytes[6] = 44;
        bytes.extend((from as u16 & 0xfff8 | more).to_be_bytes());
        bytes.extend(id.to_be_bytes());
    }
    bytes.extend(&content[from..to]);
    bytes
}

/// The one's complement sum (RFC 1071).
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low)));
    let total: u32 = words.sum();
    let total = (total >> 16) + (total & 0xffff);
    ((total >> 16) + (total & 0xffff)) as u16
}

fn checksummed(ends: &Ends, protocol: u8, mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let all = [ends.pseudo_header(protocol, bytes.len()), bytes.clone()].concat();
    bytes[at..at + 2].copy_from_slice(&(!sum(&all)).to_be_bytes());
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 9260 Appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}
