//! Packets to rewrite in tests. Their checksums are computed word by word, not by what is tested.

use vswitch_wire::{IpProtocol, IpVersion, Offload};

use super::{Integrity, Query, UDP_LITE, verify};
use crate::{Address, Ends, packet::Packet};

/// A packet, told by its fields.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) version: IpVersion,
    pub(crate) protocol: IpProtocol,
    pub(crate) ends: Ends,
    /// Type and code of a message of ICMP. If it is no query, the payload begins with the header's second word.
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) hops: u8,
    /// DSCP and ECN.
    pub(crate) class: u8,
    /// Identification, or flow label.
    pub(crate) id: u16,
    /// Options of IPv4, or one destination options header, in units of 8 bytes.
    pub(crate) extension: usize,
    pub(crate) payload: Vec<u8>,
}

/// Every protocol that something is rewritten of.
pub(crate) const PROTOCOLS: [(IpVersion, IpProtocol); 11] = [
    (IpVersion::V4, IpProtocol::TCP),
    (IpVersion::V4, IpProtocol::UDP),
    (IpVersion::V4, UDP_LITE),
    (IpVersion::V4, IpProtocol::SCTP),
    (IpVersion::V4, IpProtocol::ICMP),
    (IpVersion::V6, IpProtocol::TCP),
    (IpVersion::V6, IpProtocol::UDP),
    (IpVersion::V6, UDP_LITE),
    (IpVersion::V6, IpProtocol::SCTP),
    (IpVersion::V6, IpProtocol::ICMPV6),
    // GRE: without ports.
    (IpVersion::V4, IpProtocol(47)),
];

impl Sample {
    /// Any packet of that protocol; of ICMP any query.
    pub(crate) fn random(random: &mut Random, version: IpVersion, protocol: IpProtocol) -> Self {
        let payload = (0..random.below(40)).map(|_| random.next() as u8).collect();
        let kinds: &[u8] = match version {
            IpVersion::V4 => &[0, 8, 13, 14, 15, 16, 17, 18],
            IpVersion::V6 => &[128, 129],
        };
        Self {
            version,
            protocol,
            ends: random.ends(version),
            kind: kinds[random.below(kinds.len())],
            code: 0,
            hops: 3 + random.below(200) as u8,
            class: random.next() as u8,
            id: random.next() as u16,
            extension: random.below(4).saturating_sub(1),
            payload,
        }
    }

    /// The same with other ends and fewer hops: what is wanted of a translation.
    pub(crate) fn translated(&self, ends: Ends, hops: u8) -> Self {
        Self {
            ends,
            hops: self.hops - hops,
            ..self.clone()
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.header();
        let segment = self.segment();
        bytes.extend(segment);
        bytes
    }

    /// Where the transport header begins.
    pub(crate) fn transport(&self) -> usize {
        self.header().len()
    }

    fn header(&self) -> Vec<u8> {
        let len = self.segment().len() + self.extension * 8;
        let Ends { src, dst, .. } = &self.ends;
        match self.version {
            IpVersion::V4 => {
                let mut header = vec![0x45 + self.extension as u8 * 2, self.class];
                header.extend((20 + len as u16).to_be_bytes());
                header.extend(self.id.to_be_bytes());
                header.extend([0x40, 0, self.hops, self.protocol.0, 0, 0]);
                header.extend(src.low());
                header.extend(dst.low());
                header.resize(20 + self.extension * 8, 1);
                let checksum = !textbook_sum(&header);
                header[10..12].copy_from_slice(&checksum.to_be_bytes());
                header
            }
            IpVersion::V6 => {
                let first = 6 << 28 | u32::from(self.class) << 20 | u32::from(self.id);
                let mut header = first.to_be_bytes().to_vec();
                header.extend((len as u16).to_be_bytes());
                let next = match self.extension {
                    0 => self.protocol,
                    _ => IpProtocol::DESTINATION_OPTIONS,
                };
                header.extend([next.0, self.hops]);
                header.extend(src.octets());
                header.extend(dst.octets());
                if let Some(words) = self.extension.checked_sub(1) {
                    header.extend([self.protocol.0, words as u8]);
                    header.resize(40 + self.extension * 8, 0);
                }
                header
            }
        }
    }

    fn segment(&self) -> Vec<u8> {
        let Ends {
            src_port, dst_port, ..
        } = self.ends;
        let ports = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
        let (mut segment, field) = match self.protocol {
            IpProtocol::TCP => {
                let rest = [1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0xfa, 0xf0, 0, 0, 0, 0];
                ([&ports[..], &rest].concat(), 16)
            }
            IpProtocol::UDP => {
                let len = (8 + self.payload.len() as u16).to_be_bytes();
                ([&ports[..], &len, &[0, 0]].concat(), 6)
            }
            // Only the header is covered.
            UDP_LITE => ([&ports[..], &[0, 8, 0, 0]].concat(), 6),
            IpProtocol::SCTP => ([&ports[..], &[9, 8, 7, 6, 0, 0, 0, 0]].concat(), 8),
            IpProtocol::ICMP | IpProtocol::ICMPV6 => {
                let mut header = vec![self.kind, self.code, 0, 0];
                if let Some(query) = Query::of(self.version, self.kind) {
                    header.extend(query.identifier(&self.ends).to_be_bytes());
                    header.extend([0, 1]);
                }
                (header, 2)
            }
            _ => return self.payload.clone(),
        };
        segment.extend(&self.payload);
        if self.protocol == IpProtocol::SCTP {
            let crc = textbook_crc32c(&segment).to_le_bytes();
            segment[field..field + 4].copy_from_slice(&crc);
            return segment;
        }
        let mut covered = match self.protocol {
            IpProtocol::ICMP => Vec::new(),
            _ => self.pseudo_header(segment.len()),
        };
        covered.extend(match self.protocol {
            UDP_LITE => &segment[..8],
            _ => &segment,
        });
        let checksum = match (self.protocol, !textbook_sum(&covered)) {
            (IpProtocol::UDP | UDP_LITE, 0) => 0xffff,
            (_, checksum) => checksum,
        };
        segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        segment
    }

    pub(crate) fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let Ends { src, dst, .. } = &self.ends;
        let [_, _, a, b] = (len as u32).to_be_bytes();
        match self.version {
            IpVersion::V4 => [&src.low()[..], &dst.low(), &[0, self.protocol.0, a, b]].concat(),
            IpVersion::V6 => [
                &src.octets()[..],
                dst.octets(),
                &[0, 0, a, b, 0, 0, 0, self.protocol.0],
            ]
            .concat(),
        }
    }
}

/// An ICMP error of a type and code; `rest` is the second word of its header.
pub(crate) fn error(
    version: IpVersion,
    (src, dst): (Address, Address),
    (kind, code): (u8, u8),
    rest: [u8; 4],
    quote: &[u8],
) -> Sample {
    let mut payload = rest[..].to_vec();
    payload.extend(quote);
    let protocol = match version {
        IpVersion::V4 => IpProtocol::ICMP,
        IpVersion::V6 => IpProtocol::ICMPV6,
    };
    Sample {
        version,
        protocol,
        ends: Ends {
            src,
            dst,
            src_port: 0,
            dst_port: 0,
        },
        kind,
        code,
        hops: 64,
        class: 0xc0,
        id: 7,
        extension: 0,
        payload,
    }
}

/// Seeded; a failure says which.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn address(&mut self, version: IpVersion) -> Address {
        match version {
            IpVersion::V4 => Address::v4((self.next() as u32).to_be_bytes()),
            IpVersion::V6 => {
                let bits = u128::from(self.next()) << 64 | u128::from(self.next());
                Address::v6(bits.to_be_bytes())
            }
        }
    }

    pub(crate) fn ends(&mut self, version: IpVersion) -> Ends {
        Ends {
            src: self.address(version),
            dst: self.address(version),
            src_port: self.next() as u16,
            dst_port: self.next() as u16,
        }
    }
}

/// RFC 1071 §4.1, word by word.
pub(crate) fn textbook_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| low.into());
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// RFC 9260, appendix A, bit by bit.
fn textbook_crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |register, &byte| {
        (0..8).fold(register ^ u32::from(byte), |register, _| {
            (register >> 1) ^ (0x82f6_3b78 * (register & 1))
        })
    })
}

/// Bytes as the reference writes them.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits = digits.as_bytes().as_chunks::<2>().0;
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.iter().map(byte).collect()
}

/// Ends, as `A:5000>S:53` of the reference.
pub(crate) fn ends(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Ends {
    Ends {
        src: address(src),
        dst: address(dst),
        src_port,
        dst_port,
    }
}

pub(crate) fn address(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

/// That it parses and its transport checksum is right.
#[track_caller]
pub(crate) fn assert_sound(bytes: &[u8]) {
    let packet = Packet::parse(bytes).unwrap();
    assert_eq!(verify(bytes, &packet, &Offload::NONE), Ok(Integrity::Sound));
}

/// Calls `handle` with the sample cut at every length and with every bit flipped. It fails by panicking.
pub(crate) fn mutilate(sample: &[u8], handle: impl Fn(&mut [u8])) {
    for len in 0..=sample.len() {
        handle(&mut sample[..len].to_vec());
    }
    for bit in 0..sample.len() * 8 {
        let mut flipped = sample.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        handle(&mut flipped);
    }
}
