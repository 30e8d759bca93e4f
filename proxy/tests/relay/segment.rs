//! Segments as a container sends them.

use vswitch_proxy::seq::SeqNum;
use vswitch_wire::{TcpFlags, TcpHeader, TcpSegment};
use zerocopy::IntoBytes;

/// A container's segment in the making; what is not said is an ACK with a large window.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) seq: SeqNum,
    pub(crate) ack: SeqNum,
    pub(crate) flags: TcpFlags,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// An acknowledgment without data.
    pub(crate) fn ack(seq: u32, ack: u32) -> Self {
        Self {
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags: TcpFlags::ACK,
            window: 60_000,
            options: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// A SYN that offers segments of `mss` bytes and no window scale.
    pub(crate) fn syn(seq: u32, mss: u16) -> Self {
        let [high, low] = mss.to_be_bytes();
        Self {
            flags: TcpFlags::SYN,
            options: vec![2, 4, high, low],
            ..Self::ack(seq, 0)
        }
    }

    /// A reset without acknowledgment.
    pub(crate) fn reset(seq: u32) -> Self {
        Self {
            flags: TcpFlags::RST,
            ..Self::ack(seq, 0)
        }
    }

    pub(crate) fn flags(mut self, flags: TcpFlags) -> Self {
        self.flags = flags;
        self
    }

    /// The same with FIN.
    pub(crate) fn fin(mut self) -> Self {
        self.flags = self.flags | TcpFlags::FIN;
        self
    }

    pub(crate) fn window(mut self, window: u16) -> Self {
        self.window = window;
        self
    }

    /// Option bytes, padded to whole words.
    pub(crate) fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// Payload of `len` bytes, each of which tells where in the stream from `start` it belongs.
    pub(crate) fn data(self, start: u32, len: usize) -> Self {
        let from = self.seq.0.wrapping_sub(start) as usize;
        self.payload(&pattern(from, len))
    }

    /// Bytes of the segment, from its header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4).min(40), 0);
        let mut header = TcpHeader::new(40_000, 80, options.len()).expect("whole words of options");
        header.set_sequence(self.seq.0);
        header.set_acknowledgment(self.ack.0);
        header.set_flags(self.flags);
        header.set_window(self.window);
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(options);
        bytes.extend(&self.payload);
        bytes
    }
}

/// `len` bytes of a stream from offset `from`; no offset looks like its neighbours.
pub(crate) fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte_at).collect()
}

/// The byte at `offset` of every test stream.
pub(crate) fn byte_at(offset: usize) -> u8 {
    let mixed = (offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// Reads what [`Segment::bytes`] made.
pub(crate) fn parse(bytes: &[u8]) -> TcpSegment<'_> {
    TcpSegment::parse(bytes).expect("made by a test")
}
