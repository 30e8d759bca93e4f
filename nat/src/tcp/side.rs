//! Windows: what one side has sent and may send, and where a segment lies in that (nat-conformance §5.2).

use super::{
    segment::{Class, Scale, Segment},
    seq::SeqNum,
};

/// What is known of one side of a connection as a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Side {
    /// What follows the highest number that it has sent. With [`Marks::FIN_SENT`] that number is the FIN's.
    pub(super) end: SeqNum,
    /// What follows the highest number that it may send by what the peer has allowed.
    pub(super) max_end: SeqNum,
    /// The largest window that it has offered, scaled; 0 for a side that has sent nothing, else at least 1.
    pub(super) max_window: u32,
    /// The highest number that it has acknowledged; until [`Marks::ACK_KNOWN`] the first number that its peer has sent.
    pub(super) max_ack: SeqNum,
    /// How it scales windows.
    pub(super) scale: Scale,
    pub(super) marks: Marks,
    /// How often its last segment was repeated (N-TCP-15).
    pub(super) repeats: u8,
}

/// Facts about a side, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(pub(super) u8);

/// Where a segment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// Inside of all four bounds.
    Inside,
    /// Before what the receiver waits for, or with an acknowledgment that is long known: passes, and says nothing.
    Old,
    /// Beyond what the receiver has allowed, by no more than one window: passes, and is not forgotten (N-WIN-3).
    Overshoot,
    /// Nowhere near.
    Outside,
}

impl Side {
    /// A side that has sent nothing.
    pub(super) const SILENT: Self = Self {
        end: SeqNum(0),
        max_end: SeqNum(0),
        max_window: 0,
        max_ack: SeqNum(0),
        scale: Scale::NONE,
        marks: Marks(0),
        repeats: 0,
    };

    /// The largest window there is: 65535 shifted by 14.
    pub(super) const MAX_WINDOW: u32 = 0xffff << Scale::MAX_SHIFT;

    /// A side that begins with this SYN or SYN+ACK, whose window is not scaled (N-WIN-1).
    pub(super) fn begun(syn: &Segment) -> Self {
        Self {
            end: syn.end,
            max_end: syn.end,
            max_window: u32::from(syn.window).max(1),
            scale: syn.scale,
            marks: match syn.sack_permitted {
                true => Marks(Marks::SACK),
                false => Marks(0),
            },
            ..Self::SILENT
        }
    }

    /// A side that is met in the middle of a connection: SACK is assumed, the scale is not known (N-WIN-4).
    pub(super) fn met(segment: &Segment) -> Self {
        let window = u32::from(segment.window).max(1);
        Self {
            end: segment.end,
            max_end: segment.end + window,
            max_window: window,
            max_ack: segment.acknowledgment,
            scale: Scale::NONE,
            marks: Marks(Marks::SACK | Marks::ACK_KNOWN),
            repeats: 0,
        }
    }

    /// Whether it has sent anything.
    pub(super) const fn has_spoken(&self) -> bool {
        self.max_window != 0
    }

    /// The sequence number of a RST that this side would send and its peer believe (RFC 5961 §3.2).
    pub(super) const fn next(&self, peer: &Self) -> SeqNum {
        match peer.marks.has(Marks::ACK_KNOWN) {
            true => peer.max_ack,
            false => self.end,
        }
    }

    /// Takes note of what it has sent.
    #[inline]
    pub(super) fn extend(&mut self, segment: &Segment) {
        if self.end.lt(segment.end) {
            self.end = segment.end;
            self.marks.set(Marks::UNACKNOWLEDGED);
        }
        // A FIN before the last number that was sent is none.
        if matches!(segment.class, Class::Fin) && self.end == segment.end {
            self.marks.set(Marks::FIN_SENT);
        }
    }
}

impl Marks {
    /// Its SYN offered SACK, so its peer's acknowledgments may have it.
    pub(super) const SACK: u8 = 1;
    /// It has acknowledged something.
    pub(super) const ACK_KNOWN: u8 = 1 << 1;
    /// Its peer has not acknowledged all that it has sent (N-TCP-13).
    pub(super) const UNACKNOWLEDGED: u8 = 1 << 2;
    /// It has sent FIN.
    pub(super) const FIN_SENT: u8 = 1 << 3;
    /// Its FIN was acknowledged.
    pub(super) const FIN_ACKED: u8 = 1 << 4;
    /// A RST of it was believed.
    pub(super) const RESET: u8 = 1 << 5;
    /// Its last FIN or RST was outside of its window (N-TCP-25).
    pub(super) const STRAYED: u8 = 1 << 6;
    /// All that have a meaning.
    pub(super) const ALL: u8 = (1 << 7) - 1;

    #[inline]
    pub(super) const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }

    #[inline]
    pub(super) const fn set(&mut self, mark: u8) {
        self.0 |= mark;
    }

    #[inline]
    pub(super) const fn clear(&mut self, mark: u8) {
        self.0 &= !mark;
    }
}

/// The acknowledgment number of a segment, and the highest number that it says to have received. Where it has none, that
/// of nothing new (N-WIN-6).
#[inline]
pub(super) fn acknowledged(receiver: &Side, segment: &Segment) -> (SeqNum, SeqNum) {
    // Some stacks set ACK in a RST and leave the number 0.
    let has_none = !segment.has_ack || (matches!(segment.class, Class::Rst) && segment.acknowledgment.0 == 0);
    if has_none {
        return (receiver.end, receiver.end);
    }
    let ack = segment.acknowledgment;
    match segment.sack_edge {
        Some(edge) if receiver.marks.has(Marks::SACK) => (ack, edge),
        _ => (ack, ack),
    }
}

/// Where a segment from `sender` lies.
#[inline]
pub(super) fn position(sender: &Side, receiver: &Side, segment: &Segment) -> Position {
    let (_, sack) = acknowledged(receiver, segment);
    // I to IV of nat-conformance §5.2, evaluated at once: nearly all segments pass all.
    let allowed = segment.sequence.le(sender.max_end);
    let fresh = !receiver.has_spoken() | (sender.end - receiver.max_window).le(segment.end);
    let seen = sack.le(receiver.end);
    let recent = (receiver.end - sender.max_window.max(MAX_ACK_WINDOW)).le(sack);
    if allowed & fresh & seen & recent {
        return Position::Inside;
    }
    match (allowed, seen) {
        (true, true) => Position::Old,
        (false, true) if fresh & recent & receiver.has_spoken() => {
            match segment.end - sender.max_end < receiver.max_window {
                true => Position::Overshoot,
                false => Position::Outside,
            }
        }
        _ => Position::Outside,
    }
}

/// Takes over what a segment says, no RST, that lies inside or that is believed wherever it lies.
#[inline]
pub(super) fn absorb(sender: &mut Side, receiver: &mut Side, segment: &Segment) {
    let (ack, sack) = acknowledged(receiver, segment);
    let window = match segment.class {
        // A SYN's window is never scaled (N-WIN-1).
        Class::Syn | Class::SynAck => u32::from(segment.window),
        _ => u32::from(segment.window) << sender.scale.shift(),
    };
    let reach = window.wrapping_add(sack - ack).min(Side::MAX_WINDOW);
    sender.max_window = sender.max_window.max(reach);
    sender.extend(segment);
    sender.marks.clear(Marks::STRAYED);
    if segment.has_ack {
        sender.max_ack = match sender.marks.has(Marks::ACK_KNOWN) {
            true => sender.max_ack.max(ack),
            false => ack,
        };
        sender.marks.set(Marks::ACK_KNOWN);
    }

    receiver.marks.clear(Marks::STRAYED);
    // Bytes that nobody has seen here were acknowledged: only where windows do not count (N-WIN-4).
    receiver.end = receiver.end.max(sack);
    if receiver.has_spoken() && sender.max_end.lt(segment.end) {
        // It was sent, so it was allowed: by an offer that is not known here.
        let more = segment.end - sender.max_end;
        receiver.max_window = receiver.max_window.saturating_add(more).min(Side::MAX_WINDOW);
    }
    // A window of 0 may be probed with one byte.
    receiver.max_end = receiver.max_end.max(sack + window.max(1));
    if segment.has_ack && receiver.end.le(ack) {
        receiver.marks.clear(Marks::UNACKNOWLEDGED);
        if receiver.marks.has(Marks::FIN_SENT) {
            receiver.marks.set(Marks::FIN_ACKED);
        }
    }
}

/// How far back an acknowledgment may lie where no larger window was offered: `MAXACKWINCONST` of Linux's
/// `nf_conntrack_proto_tcp.c`.
const MAX_ACK_WINDOW: u32 = 66_000;
