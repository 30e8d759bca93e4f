//! What the tracker reads of a segment: once, defensively.

use vswitch_wire::{TcpFlags, TcpOption, TcpSegment};

use super::seq::SeqNum;
use crate::DropReason;

/// What the tracker reads of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) class: Class,
    /// Whether the acknowledgment number means something.
    pub(crate) has_ack: bool,
    pub(crate) sequence: SeqNum,
    pub(crate) acknowledgment: SeqNum,
    /// What follows the last number that it takes: SYN and FIN take one each (N-TCP-26).
    pub(crate) end: SeqNum,
    /// The highest right edge of its SACK blocks, if that is beyond the acknowledgment number.
    pub(crate) sack_edge: Option<SeqNum>,
    /// As it stands there, not scaled.
    pub(crate) window: u16,
    /// Of a SYN: what it offers.
    pub(crate) scale: Scale,
    /// Of a SYN: whether it offers SACK.
    pub(crate) sack_permitted: bool,
}

/// What a segment is by its flags; the first that fits (nat-conformance §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Rst,
    SynAck,
    Syn,
    Fin,
    Ack,
}

/// A window scale option, or that there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale(u8);

impl Segment {
    /// Reads a segment whose lengths were checked; options that make no sense end the reading of options (N-WIN-2).
    ///
    /// The payload counts whole, which for a super-frame is that of all its segments (N-WIN-7).
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] for flags that no segment has (N-TCP-3).
    #[inline]
    pub(crate) fn read(segment: &TcpSegment<'_>) -> Result<Self, DropReason> {
        let header = segment.header();
        let flags = header.flags();
        let class = Class::of(flags).ok_or(DropReason::Invalid)?;
        let sequence = SeqNum(header.sequence());
        let mut read = Self {
            class,
            has_ack: flags.contains(TcpFlags::ACK),
            sequence,
            acknowledgment: SeqNum(header.acknowledgment()),
            end: sequence + segment.sequence_len() as u32,
            sack_edge: None,
            window: header.window(),
            scale: Scale::NONE,
            sack_permitted: false,
        };
        match segment.option_bytes() {
            // Most segments have no options, or a timestamp only: RFC 7323 appendix A says how that is written.
            [] | [1, 1, 8, 10, _, _, _, _, _, _, _, _] => {}
            _ => read.read_options(segment),
        }
        Ok(read)
    }

    /// The options of `segment`, up to the first that makes no sense.
    fn read_options(&mut self, segment: &TcpSegment<'_>) {
        let begins = matches!(self.class, Class::Syn | Class::SynAck);
        for option in segment.options().map_while(Result::ok) {
            match option {
                TcpOption::Sack(blocks) if self.has_ack && !begins => {
                    let edges = blocks
                        .iter()
                        .map(|&[.., a, b, c, d]| SeqNum(u32::from_be_bytes([a, b, c, d])));
                    let highest = edges.fold(self.acknowledgment, SeqNum::max);
                    self.sack_edge = (highest != self.acknowledgment).then_some(highest);
                }
                TcpOption::SackPermitted if begins => self.sack_permitted = true,
                TcpOption::WindowScale(shift) if begins => self.scale = Scale::offered(shift),
                _ => {}
            }
        }
    }
}

impl Class {
    /// Of valid flags; `None` for others (N-TCP-3). PSH, ECE and CWR are of no account.
    #[inline]
    const fn of(flags: TcpFlags) -> Option<Self> {
        const IGNORED: TcpFlags = TcpFlags(TcpFlags::PSH.0 | TcpFlags::ECE.0 | TcpFlags::CWR.0);
        const SYN: u8 = TcpFlags::SYN.0;
        const FIN: u8 = TcpFlags::FIN.0;
        const RST: u8 = TcpFlags::RST.0;
        const ACK: u8 = TcpFlags::ACK.0;
        const URG: u8 = TcpFlags::URG.0;
        const SYN_URG: u8 = SYN | URG;
        const SYN_ACK: u8 = SYN | ACK;
        const RST_ACK: u8 = RST | ACK;
        const FIN_ACK: u8 = FIN | ACK;
        const FIN_ACK_URG: u8 = FIN | ACK | URG;
        const ACK_URG: u8 = ACK | URG;
        match flags.without(IGNORED).0 {
            ACK | ACK_URG => Some(Self::Ack),
            FIN_ACK | FIN_ACK_URG => Some(Self::Fin),
            SYN | SYN_URG => Some(Self::Syn),
            SYN_ACK => Some(Self::SynAck),
            RST | RST_ACK => Some(Self::Rst),
            _ => None,
        }
    }
}

impl Scale {
    /// No option: windows are not scaled, either way.
    pub(crate) const NONE: Self = Self(0);
    /// The largest shift (RFC 7323 §2.3, N-WIN-1).
    pub(crate) const MAX_SHIFT: u8 = 14;

    /// By an option, whose shift is cut to 14.
    pub(crate) const fn offered(shift: u8) -> Self {
        let shift = if shift > Self::MAX_SHIFT {
            Self::MAX_SHIFT
        } else {
            shift
        };
        Self(OFFERED | shift)
    }

    /// Whether there was an option.
    pub(crate) const fn is_offered(self) -> bool {
        self.0 & OFFERED != 0
    }

    /// How far windows are shifted; 0 without an option.
    #[inline]
    pub(crate) const fn shift(self) -> u8 {
        self.0 & !OFFERED
    }

    /// As a byte of a snapshot.
    pub(super) const fn byte(self) -> u8 {
        self.0
    }

    /// From a byte of a snapshot; `None` if it is none of [`byte`](Self::byte)'s.
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::NONE),
            _ if byte & OFFERED != 0 && byte & !OFFERED <= Self::MAX_SHIFT => Some(Self(byte)),
            _ => None,
        }
    }
}

/// Bit of a [`Scale`] that was offered; the shift is below it.
const OFFERED: u8 = 0x80;
