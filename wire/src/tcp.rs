//! TCP segments and their options (RFC 9293 §3.1, RFC 7323, RFC 2018).

use std::{fmt, ops::BitOr};

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    network_endian::{U16, U32},
};

use crate::{Malformed, checksum};

/// The fixed 20 bytes of a TCP header.
///
/// Any 20 bytes are one: only [`TcpSegment::parse`] says that the data offset fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    src_port: U16,
    dst_port: U16,
    sequence: U32,
    acknowledgment: U32,
    data_offset: u8,
    flags: TcpFlags,
    window: U16,
    checksum: U16,
    urgent: U16,
}

impl TcpHeader {
    /// Bytes of a header without options.
    pub const LEN: usize = 20;
    /// Bytes of the longest header: fifteen words.
    pub const MAX_LEN: usize = 60;
    /// Where the checksum field is in the header, as `csum_offset` of a vnet header.
    pub const CHECKSUM_OFFSET: u16 = 16;

    /// A header with no checksum for `options_len` bytes of options. `None` unless that is a multiple of 4
    /// up to 40.
    pub fn new(src_port: u16, dst_port: u16, options_len: usize) -> Option<Self> {
        if !options_len.is_multiple_of(4) || options_len > Self::MAX_LEN - Self::LEN {
            return None;
        }
        Some(Self {
            src_port: U16::new(src_port),
            dst_port: U16::new(dst_port),
            sequence: U32::new(0),
            acknowledgment: U32::new(0),
            data_offset: (((Self::LEN + options_len) / 4) << 4) as u8,
            flags: TcpFlags::default(),
            window: U16::new(0),
            checksum: U16::new(0),
            urgent: U16::new(0),
        })
    }

    /// The fixed header at the start of `bytes`, for rewriting in place, and what follows it.
    ///
    /// # Errors
    /// [`Malformed::Truncated`]; nothing else is checked, [`TcpSegment::parse`] does that.
    pub fn parse_mut(bytes: &mut [u8]) -> Result<(&mut Self, &mut [u8]), Malformed> {
        Self::mut_from_prefix(bytes).map_err(|_| Malformed::Truncated)
    }

    /// Source port.
    pub fn src_port(&self) -> u16 {
        self.src_port.get()
    }

    /// Destination port.
    pub fn dst_port(&self) -> u16 {
        self.dst_port.get()
    }

    /// Sequence number of the first byte, or of the SYN.
    pub fn sequence(&self) -> u32 {
        self.sequence.get()
    }

    /// Acknowledgment number; meaningful with [`TcpFlags::ACK`].
    pub fn acknowledgment(&self) -> u32 {
        self.acknowledgment.get()
    }

    /// Bytes of the header with options, 0–60.
    pub fn header_len(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }

    /// Control bits.
    pub fn flags(&self) -> TcpFlags {
        self.flags
    }

    /// Window, unscaled.
    pub fn window(&self) -> u16 {
        self.window.get()
    }

    /// The checksum field.
    pub fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// Urgent pointer; meaningful with [`TcpFlags::URG`].
    pub fn urgent(&self) -> u16 {
        self.urgent.get()
    }

    /// Replaces the source port, not the checksum.
    pub fn set_src_port(&mut self, port: u16) {
        self.src_port.set(port);
    }

    /// Replaces the destination port, not the checksum.
    pub fn set_dst_port(&mut self, port: u16) {
        self.dst_port.set(port);
    }

    /// Replaces the sequence number, not the checksum.
    pub fn set_sequence(&mut self, sequence: u32) {
        self.sequence.set(sequence);
    }

    /// Replaces the acknowledgment number, not the checksum.
    pub fn set_acknowledgment(&mut self, acknowledgment: u32) {
        self.acknowledgment.set(acknowledgment);
    }

    /// Replaces the control bits, not the checksum.
    pub fn set_flags(&mut self, flags: TcpFlags) {
        self.flags = flags;
    }

    /// Replaces the window, not the checksum.
    pub fn set_window(&mut self, window: u16) {
        self.window.set(window);
    }

    /// Replaces the checksum field as is.
    pub fn set_checksum(&mut self, checksum: u16) {
        self.checksum.set(checksum);
    }
}

/// The control bits of a segment.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgment number is meaningful.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is meaningful.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits of either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The bits that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in "FSRPAUEC".chars().enumerate() {
            if self.0 & (1 << bit) != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpFlags({self})")
    }
}

/// A segment whose data offset fits its buffer.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    header: &'a TcpHeader,
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> TcpSegment<'a> {
    /// Reads a segment from the payload of an IP packet.
    ///
    /// # Errors
    /// [`Malformed::Truncated`], [`Malformed::HeaderLength`] where the data offset is below 20 bytes,
    /// [`Malformed::Length`] where it lies beyond the buffer.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest) = TcpHeader::ref_from_prefix(bytes).map_err(|_| Malformed::Truncated)?;
        let options_len = header
            .header_len()
            .checked_sub(TcpHeader::LEN)
            .ok_or(Malformed::HeaderLength)?;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Malformed::Length)?;
        Ok(Self {
            header,
            options,
            payload,
        })
    }

    /// The fixed header.
    pub fn header(&self) -> &'a TcpHeader {
        self.header
    }

    /// The options; an iterator that ends after the first malformed one.
    pub fn options(&self) -> TcpOptions<'a> {
        TcpOptions { rest: self.options }
    }

    /// The bytes of the options, 0–40.
    pub fn option_bytes(&self) -> &'a [u8] {
        self.options
    }

    /// What the segment carries.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Sequence numbers that the segment takes: its payload, SYN and FIN.
    pub fn sequence_len(&self) -> usize {
        let flags = self.header.flags;
        self.payload.len()
            + usize::from(flags.contains(TcpFlags::SYN))
            + usize::from(flags.contains(TcpFlags::FIN))
    }

    /// Whether the checksum is right for `pseudo_header` (a sum).
    pub fn has_valid_checksum(&self, pseudo_header: u32) -> bool {
        let sum = pseudo_header
            + checksum::sum(self.header.as_bytes())
            + checksum::sum(self.options)
            + checksum::sum(self.payload);
        checksum::fold(sum) == 0xffff
    }
}

/// One option of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpOption<'a> {
    /// Maximum segment size in bytes (RFC 9293 §3.7.1); SYN only.
    MaximumSegmentSize(u16),
    /// Any other option: its kind and its data.
    Other {
        /// The option's number.
        kind: u8,
        /// What follows kind and length.
        data: &'a [u8],
    },
    /// Blocks of a selective acknowledgment (RFC 2018 §3): 8 bytes each, left and right edge.
    Sack(&'a [[u8; 8]]),
    /// Selective acknowledgment permitted (RFC 2018 §2); SYN only.
    SackPermitted,
    /// Timestamps (RFC 7323 §3).
    Timestamps {
        /// TSval.
        value: u32,
        /// TSecr.
        echo: u32,
    },
    /// Window scale as sent (RFC 7323 §2), which a receiver limits to 14; SYN only.
    WindowScale(u8),
}

/// Iterator over the options of a segment; padding is skipped.
#[derive(Clone, Debug)]
pub struct TcpOptions<'a> {
    rest: &'a [u8],
}

impl<'a> TcpOptions<'a> {
    /// Over bytes that were cut from a header otherwise.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for TcpOptions<'a> {
    type Item = Result<TcpOption<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match *self.rest {
                [] | [END, ..] => {
                    self.rest = &[];
                    return None;
                }
                [NO_OPERATION, ref rest @ ..] => self.rest = rest,
                [kind, len, ..] if len >= 2 && usize::from(len) <= self.rest.len() => {
                    let (option, rest) = self.rest.split_at(len.into());
                    self.rest = rest;
                    return Some(Ok(TcpOption::read(kind, &option[2..])));
                }
                _ => {
                    self.rest = &[];
                    return Some(Err(Malformed::OptionLength));
                }
            }
        }
    }
}

impl<'a> TcpOption<'a> {
    /// An option whose length is not its kind's is an unknown one.
    fn read(kind: u8, data: &'a [u8]) -> Self {
        match (kind, data) {
            (2, &[a, b]) => Self::MaximumSegmentSize(u16::from_be_bytes([a, b])),
            (3, &[shift]) => Self::WindowScale(shift),
            (4, []) => Self::SackPermitted,
            (5, _) if data.as_chunks::<8>().1.is_empty() => Self::Sack(data.as_chunks().0),
            (8, &[a, b, c, d, e, f, g, h]) => Self::Timestamps {
                value: u32::from_be_bytes([a, b, c, d]),
                echo: u32::from_be_bytes([e, f, g, h]),
            },
            _ => Self::Other { kind, data },
        }
    }
}

/// End of the option list (RFC 9293 §3.2).
const END: u8 = 0;
/// Padding between options (RFC 9293 §3.2).
const NO_OPERATION: u8 = 1;

#[cfg(test)]
mod tests;
