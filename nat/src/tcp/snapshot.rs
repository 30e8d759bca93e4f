//! A connection as bytes, for a restart that keeps it (N-TBL-10).

use super::{
    Flags, Last, TcpState, TcpTrack,
    segment::{Class, Scale},
    seq::SeqNum,
    side::{Marks, Side},
};
use crate::{Direction, reader::Reader};

impl TcpTrack {
    /// Bytes of a snapshot.
    pub(crate) const SNAPSHOT_LEN: usize = 2 * SIDE_LEN + 19;

    /// Everything about it, windows included, in network byte order.
    pub(crate) fn save(&self) -> [u8; Self::SNAPSHOT_LEN] {
        let mut bytes = [0; Self::SNAPSHOT_LEN];
        let mut rest = Writer(&mut bytes);
        for side in &self.sides {
            rest.put(side.end.0.to_be_bytes());
            rest.put(side.max_end.0.to_be_bytes());
            rest.put(side.max_window.to_be_bytes());
            rest.put(side.max_ack.0.to_be_bytes());
            rest.put([side.scale.byte(), side.marks.0, side.repeats]);
        }
        let last = &self.last;
        rest.put(last.sequence.0.to_be_bytes());
        rest.put(last.acknowledgment.0.to_be_bytes());
        rest.put(last.end.0.to_be_bytes());
        rest.put(last.window.to_be_bytes());
        let class = last.class.map_or(NO_CLASS, |class| class as u8);
        rest.put([
            last.scale.byte(),
            class,
            self.spoke as u8,
            self.state as u8,
            self.flags.0,
        ]);
        bytes
    }

    /// From a snapshot; `None` if [`save`](Self::save) makes no such bytes.
    pub(crate) fn restore(bytes: &[u8; Self::SNAPSHOT_LEN]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let sides = [rest.side()?, rest.side()?];
        let [sequence, acknowledgment, end] = [rest.seq()?, rest.seq()?, rest.seq()?];
        let window = u16::from_be_bytes(rest.take()?);
        let [scale, class, spoke, state, flags] = rest.take()?;
        let last = Last {
            sequence,
            acknowledgment,
            end,
            window,
            scale: Scale::from_byte(scale)?,
            class: match class {
                NO_CLASS => None,
                number => Some(*CLASSES.get(usize::from(number))?),
            },
        };
        let spoke = match spoke {
            0 => Direction::Original,
            1 => Direction::Reply,
            _ => return None,
        };
        Some(Self {
            sides,
            last,
            spoke,
            state: *TcpState::ALL.get(usize::from(state))?,
            flags: Flags((flags & !Flags::ALL == 0).then_some(flags)?),
        })
    }
}

/// Puts values one after the other.
struct Writer<'a>(&'a mut [u8]);

impl Writer<'_> {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        let (head, tail) = std::mem::take(&mut self.0).split_at_mut(N);
        head.copy_from_slice(&value);
        self.0 = tail;
    }
}

impl Reader<'_> {
    fn seq(&mut self) -> Option<SeqNum> {
        self.take().map(|bytes| SeqNum(u32::from_be_bytes(bytes)))
    }

    fn side(&mut self) -> Option<Side> {
        let (end, max_end) = (self.seq()?, self.seq()?);
        let max_window = u32::from_be_bytes(self.take()?);
        let max_ack = self.seq()?;
        let [scale, marks, repeats] = self.take()?;
        let is_valid = max_window <= Side::MAX_WINDOW && marks & !Marks::ALL == 0;
        is_valid.then_some(Side {
            end,
            max_end,
            max_window,
            max_ack,
            scale: Scale::from_byte(scale)?,
            marks: Marks(marks),
            repeats,
        })
    }
}

const SIDE_LEN: usize = 4 * 4 + 3;

/// In place of a [`Class`].
const NO_CLASS: u8 = 0xff;

/// In the order of their numbers.
const CLASSES: [Class; 5] = [Class::Rst, Class::SynAck, Class::Syn, Class::Fin, Class::Ack];
