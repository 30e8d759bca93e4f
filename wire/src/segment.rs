//! The work that an [`Offload`] left undone, done in software, for receivers that cannot do it.
//!
//! [`Segmenter`] cuts a super-frame (B-OFF-2, B-OFF-3) and never touches its payload: each segment is a
//! rewritten copy of the headers and a slice of the frame, to be written with one `writev`.
//! [`complete_checksum`] finishes a partial checksum (B-OFF-5).

use crate::{
    GsoKind, IpVersion, Ipv4Header, Ipv6Header, MAX_GSO_HEADER, Offload, PartialChecksum, TcpFlags,
    TcpHeader, UdpHeader, checksum,
    transport::{L4, Transport},
};

/// Cuts one super-frame into frames with complete checksums.
///
/// Each has the headers of the super-frame with its own lengths; the IPv4 id and the TCP sequence number
/// advance, FIN and PSH stay only on the last, CWR only on the first. All other fields and options are
/// repeated. The transport checksum starts from the partial sum in the frame, so a sum over the wrong
/// addresses stays wrong and is noticed by the receiver.
///
/// ```
/// # use vswitch_wire::{Offload, segment::{OffloadMismatch, Segmenter}};
/// # fn send(_: &[u8], _: &[u8]) {}
/// # fn cut(frame: &[u8], offload: &Offload) -> Result<(), OffloadMismatch> {
/// let mut segments = Segmenter::new(frame, offload)?;
/// while let Some(segment) = segments.next_segment() {
///     send(segment.header, segment.payload);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Segmenter<'f> {
    /// The headers of the next segment: those of the super-frame, rewritten at each step.
    header: [u8; MAX_GSO_HEADER],
    transport: Transport,
    /// Payload that is not given yet.
    rest: &'f [u8],
    /// Bytes of payload in each segment but the last.
    size: usize,
    /// Whether no segment was given yet.
    first: bool,
    /// The pseudo-header's sum without its length.
    pseudo_header: u32,
    /// Of the super-frame; TCP only.
    flags: TcpFlags,
}

/// One frame cut from a super-frame: `header` and `payload` in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'s, 'f> {
    /// Ethernet header to the end of the transport header; valid until the next segment.
    pub header: &'s [u8],
    /// Part of the super-frame.
    pub payload: &'f [u8],
}

impl Segment<'_, '_> {
    /// Bytes of the frame.
    pub fn frame_len(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}

/// The offload is not that of the frame. It cannot be, for an offload that
/// [`VnetHeader::validate`](crate::VnetHeader::validate) gave for the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the offload is not that of the frame")]
pub struct OffloadMismatch;

impl<'f> Segmenter<'f> {
    /// Prepares to cut `frame`.
    ///
    /// # Errors
    /// `offload` asks for no segmentation, or does not fit the frame.
    pub fn new(frame: &'f [u8], offload: &Offload) -> Result<Self, OffloadMismatch> {
        let (Some(gso), Some(partial)) = (offload.gso, offload.checksum) else {
            return Err(OffloadMismatch);
        };
        let transport = locate(frame, partial)?;
        let kind_matches = match gso.kind {
            GsoKind::TcpV4 => transport.protocol == L4::Tcp && transport.version == IpVersion::V4,
            GsoKind::TcpV6 => transport.protocol == L4::Tcp && transport.version == IpVersion::V6,
            GsoKind::Udp => transport.protocol == L4::Udp,
        };
        let header_len = transport.payload;
        if !kind_matches || usize::from(gso.header_len) != header_len || gso.size == 0 {
            return Err(OffloadMismatch);
        }
        let mut header = [0; MAX_GSO_HEADER];
        header
            .get_mut(..header_len)
            .ok_or(OffloadMismatch)?
            .copy_from_slice(&frame[..header_len]);

        let total_len = (transport.end - transport.l4) as u16;
        let partial_sum = read16(&header, partial.place());
        let flags = match transport.protocol {
            L4::Tcp => TcpFlags(header[transport.l4 + TCP_FLAGS]),
            L4::Udp => TcpFlags::default(),
        };
        Ok(Self {
            header,
            transport,
            rest: &frame[header_len..transport.end],
            size: gso.size.into(),
            first: true,
            pseudo_header: u32::from(partial_sum) + u32::from(!total_len),
            flags,
        })
    }

    /// How many segments are still to come.
    pub fn remaining(&self) -> usize {
        self.rest.len().div_ceil(self.size)
    }

    /// The next segment, or `None` after the last.
    pub fn next_segment(&mut self) -> Option<Segment<'_, 'f>> {
        if self.rest.is_empty() {
            return None;
        }
        let (payload, rest) = self.rest.split_at(self.size.min(self.rest.len()));
        if !self.first {
            self.advance();
        }
        self.write_lengths(payload.len());
        if self.transport.protocol == L4::Tcp {
            self.write_flags(rest.is_empty());
        }
        self.write_checksum(payload);
        self.rest = rest;
        self.first = false;
        Some(Segment {
            header: &self.header[..self.transport.payload],
            payload,
        })
    }

    /// From one segment to the one after it, which follows a full one.
    fn advance(&mut self) {
        let Transport { l3, l4, .. } = self.transport;
        if self.transport.version == IpVersion::V4 {
            let id = read16(&self.header, l3 + IPV4_ID);
            write16(&mut self.header, l3 + IPV4_ID, id.wrapping_add(1));
        }
        if self.transport.protocol == L4::Tcp {
            let place = l4 + TCP_SEQUENCE;
            let high = u32::from(read16(&self.header, place));
            let low = u32::from(read16(&self.header, place + 2));
            let sequence = ((high << 16) | low).wrapping_add(self.size as u32);
            self.header[place..place + 4].copy_from_slice(&sequence.to_be_bytes());
        }
    }

    /// All lengths below fit 16 bits: none exceeds that of the super-frame, which was such a field.
    fn write_lengths(&mut self, payload_len: usize) {
        let Transport { l3, l4, payload, .. } = self.transport;
        let end = payload + payload_len;
        match self.transport.version {
            IpVersion::V4 => {
                write16(&mut self.header, l3 + IPV4_TOTAL_LEN, (end - l3) as u16);
                write16(&mut self.header, l3 + IPV4_CHECKSUM, 0);
                let header_len = usize::from(self.header[l3] & 0x0f) * 4;
                let sum = checksum::sum(&self.header[l3..l3 + header_len]);
                write16(&mut self.header, l3 + IPV4_CHECKSUM, checksum::finish(sum));
            }
            IpVersion::V6 => {
                let len = end - l3 - Ipv6Header::LEN;
                write16(&mut self.header, l3 + IPV6_PAYLOAD_LEN, len as u16);
            }
        }
        if self.transport.protocol == L4::Udp {
            write16(&mut self.header, l4 + UDP_LEN, (end - l4) as u16);
        }
    }

    fn write_flags(&mut self, last: bool) {
        let mut flags = self.flags;
        if !self.first {
            flags = flags.without(TcpFlags::CWR);
        }
        if !last {
            flags = flags.without(TcpFlags::FIN | TcpFlags::PSH);
        }
        self.header[self.transport.l4 + TCP_FLAGS] = flags.0;
    }

    fn write_checksum(&mut self, payload: &[u8]) {
        let place = self.transport.l4 + usize::from(checksum_offset(self.transport.protocol));
        write16(&mut self.header, place, 0);
        let header = &self.header[self.transport.l4..self.transport.payload];
        // Both transport headers are even, so the payload's words are aligned.
        let len = (header.len() + payload.len()) as u32;
        let sum = self.pseudo_header + len + checksum::sum(header) + checksum::sum(payload);
        write16(&mut self.header, place, finish(self.transport.protocol, sum));
    }
}

/// Finishes a partial checksum in place. The frame then needs no [`PartialChecksum`] any more.
///
/// # Errors
/// The frame has no whole TCP segment or UDP datagram with its checksum there; it is left as it was.
pub fn complete_checksum(frame: &mut [u8], partial: PartialChecksum) -> Result<(), OffloadMismatch> {
    let checksum = completed_checksum(frame, partial)?;
    write16(frame, partial.place(), checksum);
    Ok(())
}

/// The value that [`complete_checksum`] would write at [`PartialChecksum::place`], for frames that are
/// shared.
///
/// # Errors
/// As [`complete_checksum`].
pub fn completed_checksum(frame: &[u8], partial: PartialChecksum) -> Result<u16, OffloadMismatch> {
    let transport = locate(frame, partial)?;
    Ok(finish(
        transport.protocol,
        checksum::sum(&frame[transport.l4..transport.end]),
    ))
}

/// Gives only places where the transport header with its checksum field lies within the frame.
fn locate(frame: &[u8], partial: PartialChecksum) -> Result<Transport, OffloadMismatch> {
    let transport = Transport::locate(frame).map_err(|_| OffloadMismatch)?;
    if usize::from(partial.start) != transport.l4 || partial.offset != checksum_offset(transport.protocol) {
        return Err(OffloadMismatch);
    }
    Ok(transport)
}

const fn checksum_offset(protocol: L4) -> u16 {
    match protocol {
        L4::Tcp => TcpHeader::CHECKSUM_OFFSET,
        L4::Udp => UdpHeader::CHECKSUM_OFFSET,
    }
}

const fn finish(protocol: L4, sum: u32) -> u16 {
    match protocol {
        L4::Tcp => checksum::finish(sum),
        L4::Udp => checksum::finish_udp(sum),
    }
}

fn read16(bytes: &[u8], place: usize) -> u16 {
    u16::from_be_bytes([bytes[place], bytes[place + 1]])
}

fn write16(bytes: &mut [u8], place: usize, value: u16) {
    bytes[place..place + 2].copy_from_slice(&value.to_be_bytes());
}

/// Places of fields in their headers.
const IPV4_TOTAL_LEN: usize = 2;
const IPV4_ID: usize = 4;
const IPV4_CHECKSUM: usize = 10;
const IPV6_PAYLOAD_LEN: usize = 4;
const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;
const UDP_LEN: usize = 4;

const _: () = assert!(MAX_GSO_HEADER >= 22 + Ipv4Header::MAX_LEN + TcpHeader::MAX_LEN);

#[cfg(test)]
mod tests;
