//! The header that a TAP puts before a frame: `struct virtio_net_hdr` (linux/virtio_net.h), 10 bytes.
//!
//! The other side of a TAP is a container's kernel or a program in the container, so all fields are a
//! stranger's input. [`VnetHeader::validate`] holds them against the frame, which it parses itself, and
//! gives an [`Offload`] that later stages rely on.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U16};

use crate::{
    Gso, GsoKind, IpVersion, Offload, PartialChecksum, TcpHeader, UdpHeader, checksum,
    transport::{L4, Load, NoTransport, Transport},
};

/// What a TAP with `IFF_VNET_HDR`, a header size of 10 and little-endian fields reads and writes before
/// each frame. All zero means a plain frame.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct VnetHeader {
    flags: u8,
    gso_type: u8,
    header_len: U16,
    gso_size: U16,
    checksum_start: U16,
    checksum_offset: U16,
}

impl VnetHeader {
    /// Bytes of the header: the TAP's default size, without `num_buffers`.
    pub const LEN: usize = 10;

    /// A header for `offload`.
    #[inline]
    pub fn new(offload: &Offload) -> Self {
        let mut header = Self::default();
        if let Some(partial) = offload.checksum {
            header.flags = NEEDS_CSUM;
            header.checksum_start.set(partial.start);
            header.checksum_offset.set(partial.offset);
        } else if offload.data_valid {
            header.flags = DATA_VALID;
        }
        if let Some(gso) = offload.gso {
            header.gso_type = match gso.kind {
                GsoKind::TcpV4 => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            };
            if gso.ecn {
                header.gso_type |= GSO_ECN;
            }
            header.header_len.set(gso.header_len);
            header.gso_size.set(gso.size);
        }
        header
    }

    /// Holds the header against the frame that follows it (B-OFF-5, B-OFF-11).
    ///
    /// - All zero is a plain frame, which is not parsed.
    /// - `NEEDS_CSUM` must name the checksum field of a whole TCP segment or UDP datagram where our own
    ///   parse finds it: behind at most two VLAN tags and, in IPv6, extension headers. Linux asks for
    ///   little else through a TAP: ICMP is summed by its sender; SCTP's CRC32c needs `NETIF_F_SCTP_CRC`,
    ///   which a TAP does not offer, so the stack completes it first (`skb_csum_hwoffload_help`, net/core/dev.c),
    ///   as it does for fragments. What a container's own tunnel carries is refused here, and left to
    ///   [`VnetHeader::complete_inner`]. `DATA_VALID` beside it says nothing then, and is dropped.
    /// - A GSO type must fit the packet and needs `NEEDS_CSUM`. `hdr_len` is a hint that nothing relies on,
    ///   it must only not exceed the frame. A GSO frame whose payload fits one segment is an ordinary
    ///   frame, as `virtio_net_hdr_to_skb` (linux/virtio_net.h) has it.
    /// - `RSC_INFO` (which gives the checksum fields another meaning), the tunnel bits and unknown bits belong
    ///   to features that are never negotiated: such a frame is refused.
    ///
    /// # Errors
    /// The first thing that does not fit. The frame is to be dropped and the reason counted.
    #[inline]
    pub fn validate(&self, frame: &[u8]) -> Result<Offload, VnetError> {
        if frame.len() > MAX_FRAME {
            return Err(VnetError::FrameTooLong);
        }
        if *self == Self::default() {
            return Ok(Offload::NONE);
        }
        self.validate_offload(frame)
    }

    /// Completes the checksum that the header asks for inside a tunnel of the container's own; afterwards
    /// the frame needs nothing ([`Offload::NONE`]).
    ///
    /// Linux 6.18 leaves TCP and UDP inside VXLAN unfinished (seen: `csum_start` 84, the outer protocol UDP).
    /// The outer sum is right once the inner one is (`lco_csum`, linux/skbuff.h). Passing such a place on
    /// instead would have the receiver's kernel write where no guard has looked, so this comes before all
    /// judgement of the frame. The place must lie inside the packet by its IP length and behind the outer
    /// transport header; a packet of TCP, a fragment or a GSO frame carries no tunnel.
    ///
    /// # Errors
    /// The place is not such a one. The frame is unchanged.
    #[cold]
    pub fn complete_inner(&self, frame: &mut [u8]) -> Result<(), VnetError> {
        if self.flags & !DATA_VALID != NEEDS_CSUM || self.gso_type != 0 {
            return Err(VnetError::ChecksumPlace);
        }
        if usize::from(self.header_len.get()) > frame.len() || frame.len() > MAX_FRAME {
            return Err(VnetError::HeaderLength);
        }
        let (payload, end) = tunnel(frame)?;
        let start = usize::from(self.checksum_start.get());
        let place = start + usize::from(self.checksum_offset.get());
        if start < payload || place + 2 > end {
            return Err(VnetError::ChecksumPlace);
        }
        let sum = checksum::finish_udp(checksum::sum(&frame[start..end]));
        frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        Ok(())
    }

    fn validate_offload(&self, frame: &[u8]) -> Result<Offload, VnetError> {
        if self.flags & !(NEEDS_CSUM | DATA_VALID) != 0 {
            return Err(VnetError::UnknownFlags);
        }
        if usize::from(self.header_len.get()) > frame.len() {
            return Err(VnetError::HeaderLength);
        }
        if self.flags & NEEDS_CSUM == 0 {
            return match self.gso_type {
                0 => Ok(Offload {
                    data_valid: self.flags & DATA_VALID != 0,
                    ..Offload::NONE
                }),
                _ => Err(VnetError::ChecksumMissing),
            };
        }
        let partial = PartialChecksum {
            start: self.checksum_start.get(),
            offset: self.checksum_offset.get(),
        };
        if partial.place() + 2 > frame.len() {
            return Err(VnetError::ChecksumBeyondFrame);
        }
        let transport = Transport::locate(frame)?;
        let place = match transport.protocol {
            L4::Tcp => TcpHeader::CHECKSUM_OFFSET,
            L4::Udp => UdpHeader::CHECKSUM_OFFSET,
        };
        if usize::from(partial.start) != transport.l4 || partial.offset != place {
            return Err(VnetError::ChecksumPlace);
        }
        let gso = match self.gso_type {
            0 => None,
            _ => self.validate_gso(frame, &transport)?,
        };
        Ok(Offload {
            checksum: Some(partial),
            gso,
            data_valid: false,
        })
    }

    fn validate_gso(&self, frame: &[u8], transport: &Transport) -> Result<Option<Gso>, VnetError> {
        let (kind, max_segments) = match self.gso_type & !GSO_ECN {
            GSO_TCPV4 => (GsoKind::TcpV4, MAX_TCP_SEGMENTS),
            GSO_TCPV6 => (GsoKind::TcpV6, MAX_TCP_SEGMENTS),
            GSO_UDP_L4 => (GsoKind::Udp, MAX_UDP_SEGMENTS),
            GSO_UDP => return Err(VnetError::Ufo),
            kind if kind & GSO_UDP_TUNNEL != 0 => return Err(VnetError::Tunnel),
            _ => return Err(VnetError::UnknownGsoType),
        };
        let ecn = self.gso_type & GSO_ECN != 0;
        match (kind, transport.protocol, transport.version) {
            (GsoKind::TcpV4, L4::Tcp, IpVersion::V4) | (GsoKind::TcpV6, L4::Tcp, IpVersion::V6) => {}
            (GsoKind::Udp, L4::Udp, _) if !ecn => {}
            (GsoKind::Udp, L4::Udp, _) => return Err(VnetError::UnknownGsoType),
            _ => return Err(VnetError::TypeMismatch),
        }
        let size = self.gso_size.get();
        if size == 0 {
            return Err(VnetError::GsoSizeZero);
        }
        if transport.end != frame.len() || !transport.udp_length_matches(frame) {
            return Err(VnetError::LengthMismatch);
        }
        let payload_len = transport.end - transport.payload;
        if payload_len <= usize::from(size) {
            return Ok(None);
        }
        if payload_len.div_ceil(size.into()) > max_segments {
            return Err(VnetError::TooManySegments);
        }
        match u16::try_from(transport.payload) {
            Ok(header_len) if transport.payload <= MAX_GSO_HEADER => Ok(Some(Gso {
                kind,
                ecn,
                size,
                header_len,
            })),
            _ => Err(VnetError::HeadersTooLong),
        }
    }
}

/// Where in a frame the load of a tunnel may begin at the earliest, and where its packet ends.
fn tunnel(frame: &[u8]) -> Result<(usize, usize), VnetError> {
    match Transport::locate(frame) {
        Ok(Transport {
            protocol: L4::Udp,
            payload,
            end,
            ..
        }) => Ok((payload, end)),
        Ok(_) => Err(VnetError::ChecksumPlace),
        Err(NoTransport::Protocol) => {
            // GRE, IP in IP and the like: their header is at least as long as the checksum's own place needs.
            let load = Load::locate(frame)?;
            Ok((load.start + SMALLEST_TUNNEL, load.end))
        }
        Err(reason) => Err(reason.into()),
    }
}

/// Why a vnet header does not fit its frame: one variant a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum VnetError {
    /// The checksum field would lie beyond the frame.
    #[error("checksum field beyond the frame")]
    ChecksumBeyondFrame,
    /// A GSO type without `NEEDS_CSUM`.
    #[error("segmentation asked for without a checksum")]
    ChecksumMissing,
    /// The checksum is not where the packet's transport header has it.
    #[error("checksum field not where the transport header has it")]
    ChecksumPlace,
    /// A partial checksum in a fragment, which no receiver could complete.
    #[error("partial checksum in a fragment")]
    Fragment,
    /// Longer than 65 535 bytes of packet and an Ethernet header with two tags.
    #[error("frame too long")]
    FrameTooLong,
    /// A GSO type with a segment size of 0.
    #[error("segment size of zero")]
    GsoSizeZero,
    /// `hdr_len` beyond the frame.
    #[error("header length beyond the frame")]
    HeaderLength,
    /// Headers of a GSO frame longer than [`MAX_GSO_HEADER`].
    #[error("headers of a super-frame too long")]
    HeadersTooLong,
    /// The IP or UDP length of a GSO frame is not the frame's.
    #[error("length of a super-frame does not match its headers")]
    LengthMismatch,
    /// The network or transport header is malformed.
    #[error("malformed network or transport header")]
    Malformed,
    /// Offload asked for on a frame that carries neither IPv4 nor IPv6.
    #[error("offload asked for on a frame without IP")]
    NotIp,
    /// More segments than [`MAX_UDP_SEGMENTS`] or [`MAX_TCP_SEGMENTS`].
    #[error("too many segments")]
    TooManySegments,
    /// Offload asked for on a packet that carries neither TCP nor UDP.
    #[error("offload asked for on neither TCP nor UDP")]
    Transport,
    /// A tunnel GSO bit, which is never negotiated.
    #[error("tunnel segmentation was not negotiated")]
    Tunnel,
    /// The GSO type is not that of the packet.
    #[error("segmentation type does not match the packet")]
    TypeMismatch,
    /// UDP fragmentation (GSO type 3), which is never negotiated (B-OFF-4).
    #[error("UDP fragmentation was not negotiated")]
    Ufo,
    /// A flag bit other than `NEEDS_CSUM` and `DATA_VALID`.
    #[error("unknown flags")]
    UnknownFlags,
    /// A GSO type that does not exist, or ECN on anything but TCP.
    #[error("unknown segmentation type")]
    UnknownGsoType,
}

impl VnetError {
    /// Every reason, in the order of [`VnetError::index`].
    pub const ALL: [Self; 18] = [
        Self::ChecksumBeyondFrame,
        Self::ChecksumMissing,
        Self::ChecksumPlace,
        Self::Fragment,
        Self::FrameTooLong,
        Self::GsoSizeZero,
        Self::HeaderLength,
        Self::HeadersTooLong,
        Self::LengthMismatch,
        Self::Malformed,
        Self::NotIp,
        Self::TooManySegments,
        Self::Transport,
        Self::Tunnel,
        Self::TypeMismatch,
        Self::Ufo,
        Self::UnknownFlags,
        Self::UnknownGsoType,
    ];

    /// The place of this reason in an array of counters with as many places as [`VnetError::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl From<NoTransport> for VnetError {
    fn from(reason: NoTransport) -> Self {
        match reason {
            NoTransport::Fragment => Self::Fragment,
            NoTransport::Malformed(_) => Self::Malformed,
            NoTransport::NotIp => Self::NotIp,
            NoTransport::Protocol => Self::Transport,
        }
    }
}

/// Smallest header of a tunnel that is not UDP's: GRE without options (RFC 2784 §2).
const SMALLEST_TUNNEL: usize = 4;

/// Longest frame that is taken: the largest IP packet behind an Ethernet header and two tags (B-OFF-11).
pub const MAX_FRAME: usize = 65_535 + 22;
/// Longest headers of a super-frame, Ethernet to TCP options. Ethernet, two tags, IPv4 and TCP with all
/// options are 142 bytes; the rest is room for IPv6 extension headers.
pub const MAX_GSO_HEADER: usize = 256;
/// Most datagrams in a UDP super-frame: Linux's `UDP_MAX_SEGMENTS` (linux/udp.h).
pub const MAX_UDP_SEGMENTS: usize = 128;
/// Most segments in a TCP super-frame: 64 KiB at an MSS of 64. Ours, because a segment size of 1 would
/// otherwise make one write of a container cost the worker 65 535. Linux's smallest sending MSS of 48
/// (`tcp_min_snd_mss`) keeps below it up to 48 KiB.
pub const MAX_TCP_SEGMENTS: usize = 1024;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`.
const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_TCPV4`.
const GSO_TCPV4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_UDP`.
const GSO_UDP: u8 = 3;
/// `VIRTIO_NET_HDR_GSO_TCPV6`.
const GSO_TCPV6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`.
const GSO_UDP_L4: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_UDP_TUNNEL_IPV4` and `_IPV6`.
const GSO_UDP_TUNNEL: u8 = 0x60;
/// `VIRTIO_NET_HDR_GSO_ECN`.
const GSO_ECN: u8 = 0x80;

#[cfg(test)]
mod tests;
