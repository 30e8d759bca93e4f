//! Frames made by etherparse, which is not our code.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketHeaders, TcpHeader, UdpHeader};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use crate::{IpVersion, VnetHeader};

pub(crate) const SRC4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const DST4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const SRC6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub(crate) const DST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);

/// A TCP or UDP frame, for [`Recipe::complete`] or [`Recipe::partial`].
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) tags: usize,
    pub(crate) version: IpVersion,
    /// IPv6 only: a hop-by-hop and a destination options header, 8 bytes each.
    pub(crate) extensions: bool,
    pub(crate) protocol: Protocol,
    pub(crate) id: u16,
    pub(crate) payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp { flags: u8, sequence: u32, options: bool },
    Udp,
}

impl Recipe {
    /// Untagged, PSH and ACK, no options.
    pub(crate) fn tcp(version: IpVersion, payload_len: usize) -> Self {
        let protocol = Protocol::Tcp {
            flags: 0x18,
            sequence: 0x1000,
            options: false,
        };
        Self {
            tags: 0,
            version,
            extensions: false,
            protocol,
            id: 0x4849,
            payload: pattern(payload_len),
        }
    }

    /// Untagged.
    pub(crate) fn udp(version: IpVersion, payload_len: usize) -> Self {
        Self {
            protocol: Protocol::Udp,
            ..Self::tcp(version, payload_len)
        }
    }

    /// Offset of the IP header.
    pub(crate) fn l3(&self) -> usize {
        14 + 4 * self.tags
    }

    /// Offset of the transport header.
    pub(crate) fn l4(&self) -> usize {
        self.l3()
            + match self.version {
                IpVersion::V4 => 20,
                IpVersion::V6 => 40 + if self.extensions { 16 } else { 0 },
            }
    }

    /// Bytes of all headers.
    pub(crate) fn header_len(&self) -> usize {
        self.l4()
            + match self.protocol {
                Protocol::Tcp { options: false, .. } => 20,
                Protocol::Tcp { options: true, .. } => 32,
                Protocol::Udp => 8,
            }
    }

    pub(crate) fn checksum_offset(&self) -> usize {
        match self.protocol {
            Protocol::Tcp { .. } => 16,
            Protocol::Udp => 6,
        }
    }

    /// With checksums that etherparse computed.
    pub(crate) fn complete(&self) -> Vec<u8> {
        let mut frame = vec![2, 0x42, 10, 0, 0, 1, 2, 0x42, 10, 0, 0, 2];
        for tag in 0..self.tags {
            let protocol = if tag + 1 < self.tags {
                [0x88, 0xa8]
            } else {
                [0x81, 0x00]
            };
            frame.extend_from_slice(&protocol);
            frame.extend_from_slice(&[0x20, 100 + tag as u8]);
        }
        let l4 = self.transport_header();
        let l4_len = l4.len() + self.payload.len();
        let number = match self.protocol {
            Protocol::Tcp { .. } => etherparse::IpNumber::TCP,
            Protocol::Udp => etherparse::IpNumber::UDP,
        };
        match self.version {
            IpVersion::V4 => {
                let mut header =
                    Ipv4Header::new(l4_len as u16, 64, number, SRC4.octets(), DST4.octets()).unwrap();
                header.identification = self.id;
                header.dont_fragment = true;
                header.header_checksum = header.calc_header_checksum();
                frame.extend_from_slice(&[0x08, 0x00]);
                frame.extend_from_slice(&header.to_bytes());
            }
            IpVersion::V6 => {
                let extensions: &[u8] = match self.extensions {
                    true => &[60, 0, 1, 4, 0, 0, 0, 0, number.0, 0, 1, 4, 0, 0, 0, 0],
                    false => &[],
                };
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: (extensions.len() + l4_len) as u16,
                    next_header: if self.extensions {
                        etherparse::IpNumber(0)
                    } else {
                        number
                    },
                    hop_limit: 64,
                    source: SRC6.octets(),
                    destination: DST6.octets(),
                };
                frame.extend_from_slice(&[0x86, 0xdd]);
                frame.extend_from_slice(&header.to_bytes());
                frame.extend_from_slice(extensions);
            }
        }
        frame.extend_from_slice(&l4);
        frame.extend_from_slice(&self.payload);
        frame
    }

    /// With the sum of the pseudo-header in the checksum field, as a guest with offloads sends it.
    pub(crate) fn partial(&self) -> Vec<u8> {
        let mut frame = self.complete();
        let l4_len = (frame.len() - self.l4()) as u16;
        let mut pseudo_header = match self.version {
            IpVersion::V4 => [SRC4.octets(), DST4.octets()].concat(),
            IpVersion::V6 => [SRC6.octets(), DST6.octets()].concat(),
        };
        pseudo_header.extend_from_slice(&l4_len.to_be_bytes());
        pseudo_header.extend_from_slice(match self.protocol {
            Protocol::Tcp { .. } => &[0, 6],
            Protocol::Udp => &[0, 17],
        });
        let place = self.l4() + self.checksum_offset();
        frame[place..place + 2].copy_from_slice(&super::textbook_sum(&pseudo_header).to_be_bytes());
        frame
    }

    /// What Linux puts before [`Recipe::partial`]: `flags` 1 and the place of the checksum.
    pub(crate) fn vnet(&self) -> Vnet {
        Vnet {
            flags: 1,
            gso_type: 0,
            header_len: 0,
            gso_size: 0,
            start: self.l4() as u16,
            offset: self.checksum_offset() as u16,
        }
    }

    /// The same for a super-frame with segments of `size`.
    pub(crate) fn vnet_gso(&self, size: u16) -> Vnet {
        let gso_type = match (self.protocol, self.version) {
            (Protocol::Tcp { .. }, IpVersion::V4) => 1,
            (Protocol::Tcp { .. }, IpVersion::V6) => 4,
            (Protocol::Udp, _) => 5,
        };
        Vnet {
            gso_type,
            header_len: self.header_len() as u16,
            gso_size: size,
            ..self.vnet()
        }
    }

    fn transport_header(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::Tcp {
                flags,
                sequence,
                options,
            } => {
                let mut header = TcpHeader::new(40000, 80, sequence, 0xffff);
                header.acknowledgment_number = 0x0102_0304;
                header.fin = flags & 1 != 0;
                header.syn = flags & 2 != 0;
                header.rst = flags & 4 != 0;
                header.psh = flags & 8 != 0;
                header.ack = flags & 0x10 != 0;
                header.urg = flags & 0x20 != 0;
                header.ece = flags & 0x40 != 0;
                header.cwr = flags & 0x80 != 0;
                if options {
                    header
                        .set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9])
                        .unwrap();
                }
                header.checksum = match self.version {
                    IpVersion::V4 => {
                        header.calc_checksum_ipv4_raw(SRC4.octets(), DST4.octets(), &self.payload)
                    }
                    IpVersion::V6 => {
                        header.calc_checksum_ipv6_raw(SRC6.octets(), DST6.octets(), &self.payload)
                    }
                }
                .unwrap();
                header.to_bytes().to_vec()
            }
            Protocol::Udp => {
                let header = match self.version {
                    IpVersion::V4 => {
                        let ip = Ipv4Header {
                            source: SRC4.octets(),
                            destination: DST4.octets(),
                            ..Ipv4Header::default()
                        };
                        UdpHeader::with_ipv4_checksum(40000, 53, &ip, &self.payload)
                    }
                    IpVersion::V6 => {
                        let ip = Ipv6Header {
                            source: SRC6.octets(),
                            destination: DST6.octets(),
                            ..Ipv6Header::default()
                        };
                        UdpHeader::with_ipv6_checksum(40000, 53, &ip, &self.payload)
                    }
                };
                header.unwrap().to_bytes().to_vec()
            }
        }
    }
}

/// The fields of a vnet header, to change one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnet {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    pub(crate) header_len: u16,
    pub(crate) gso_size: u16,
    pub(crate) start: u16,
    pub(crate) offset: u16,
}

impl Vnet {
    /// Laid out by hand, little-endian, as a TAP does.
    pub(crate) fn header(&self) -> VnetHeader {
        let mut bytes = vec![self.flags, self.gso_type];
        for field in [self.header_len, self.gso_size, self.start, self.offset] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        VnetHeader::read_from_bytes(bytes.as_bytes()).unwrap()
    }
}

/// Bytes in which each 16-bit word differs from its neighbours.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// Any frame with a payload of `payload_len`.
pub(crate) fn any_recipe(payload_len: std::ops::Range<usize>) -> impl Strategy<Value = Recipe> {
    let protocol = prop_oneof![
        (any::<u8>(), any::<u32>(), any::<bool>()).prop_map(|(flags, sequence, options)| Protocol::Tcp {
            flags,
            sequence,
            options
        }),
        Just(Protocol::Udp),
    ];
    let version = prop_oneof![Just(IpVersion::V4), Just(IpVersion::V6)];
    let payload = proptest::collection::vec(any::<u8>(), payload_len);
    (0..3usize, version, any::<bool>(), protocol, any::<u16>(), payload).prop_map(
        |(tags, version, extensions, protocol, id, payload)| Recipe {
            tags,
            version,
            extensions,
            protocol,
            id,
            payload,
        },
    )
}

/// Parses a whole frame with etherparse and asserts that all its checksums are right.
pub(crate) fn verified(frame: &[u8]) -> PacketHeaders<'_> {
    use etherparse::{NetHeaders, TransportHeader};

    let headers = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = headers.payload.slice();
    let (found, computed) = match (headers.net.as_ref().unwrap(), headers.transport.as_ref().unwrap()) {
        (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
            (tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).unwrap())
        }
        (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
            (udp.checksum, udp.calc_checksum_ipv4(ip, payload).unwrap())
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
            (tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).unwrap())
        }
        (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
            (udp.checksum, udp.calc_checksum_ipv6(ip, payload).unwrap())
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    };
    assert_eq!(found, computed, "transport checksum");
    if let Some(NetHeaders::Ipv4(ip, _)) = &headers.net {
        assert_eq!(
            ip.header_checksum,
            ip.calc_header_checksum(),
            "IPv4 header checksum"
        );
    }
    headers
}
