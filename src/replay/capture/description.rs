//! What a capture says of its interfaces, in its byte order.

use super::{Interface, LinkType, Timestamp, block};

/// An interface with what its timestamps mean.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) interface: Interface,
    pub(super) snaplen: u32,
    unit: Unit,
    /// Seconds.
    offset: i64,
}

/// Parts of a second that a timestamp counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// As many as this power of 2.
    Binary(u8),
    /// As many as this power of 10.
    Decimal(u8),
}

impl Described {
    pub(super) fn new(link: LinkType, snaplen: u32, unit: Unit) -> Self {
        Self {
            interface: Interface { name: None, link },
            snaplen,
            unit,
            offset: 0,
        }
    }

    pub(super) fn learn(&mut self, option: u16, value: &[u8], order: Order) {
        match (option, value) {
            (block::INTERFACE_NAME, name) => {
                let name = String::from_utf8_lossy(name);
                self.interface.name = Some(name.trim_end_matches('\0').chars().take(MAX_NAME).collect());
            }
            (block::RESOLUTION, &[unit, ..]) => {
                self.unit = match unit & 0x80 {
                    0 => Unit::Decimal(unit),
                    _ => Unit::Binary(unit & 0x7f),
                };
            }
            (block::OFFSET, &[a, b, c, d, e, f, g, h]) => {
                self.offset = order.offset([a, b, c, d, e, f, g, h]);
            }
            _ => {}
        }
    }

    pub(super) fn classic_time(&self, seconds: u32, part: u32) -> Timestamp {
        let nanos = u64::from(part)
            * if matches!(self.unit, Unit::Decimal(9)) {
                1
            } else {
                1000
            };
        Timestamp(u64::from(seconds) * 1_000_000_000 + nanos)
    }

    /// What lies before 1970 or beyond 2554 becomes the nearest time that can be said.
    pub(super) fn time(&self, high: u32, low: u32) -> Timestamp {
        let units = u128::from(high) << 32 | u128::from(low);
        let nanos = match self.unit {
            Unit::Binary(power) => (units * 1_000_000_000).checked_shr(power.into()).unwrap_or(0),
            Unit::Decimal(power @ 0..=9) => units * 10_u128.pow(9 - u32::from(power)),
            Unit::Decimal(power) => match 10_u128.checked_pow(u32::from(power) - 9) {
                Some(divisor) => units / divisor,
                None => 0,
            },
        };
        // At most 2^64 · 10^9, which fits.
        let nanos = nanos as i128 + i128::from(self.offset) * 1_000_000_000;
        Timestamp(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// Options of a block; what does not fit ends them.
pub(super) struct Options<'a>(pub(super) &'a [u8], pub(super) Order);

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[a, b, c, d], rest) = self.0.split_first_chunk()?;
        let (option, len) = (self.1.half([a, b]), usize::from(self.1.half([c, d])));
        if option == block::OPTION_END {
            return None;
        }
        let value = rest.get(..len)?;
        self.0 = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((option, value))
    }
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Big,
    Little,
}

impl Order {
    pub(super) fn half(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        }
    }

    /// The first `N` words; 0 where bytes are missing.
    pub(super) fn words<const N: usize>(self, bytes: &[u8]) -> [u32; N] {
        let (words, _) = bytes.as_chunks();
        std::array::from_fn(|index| {
            let word = words.get(index).copied().unwrap_or_default();
            match self {
                Self::Big => u32::from_be_bytes(word),
                Self::Little => u32::from_le_bytes(word),
            }
        })
    }

    fn offset(self, bytes: [u8; 8]) -> i64 {
        match self {
            Self::Big => i64::from_be_bytes(bytes),
            Self::Little => i64::from_le_bytes(bytes),
        }
    }
}

/// `IFNAMSIZ` is 16; names of other systems are longer.
const MAX_NAME: usize = 256;
