//! Writes pcapng.

use std::io::{self, Write};

use super::{LinkType, Timestamp, block};

/// Writes a capture; interfaces are described before their first packet.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    interfaces: u32,
}

/// An interface of a capture that is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceId(u32);

impl<W: Write> Writer<W> {
    /// Begins a capture.
    ///
    /// # Errors
    ///
    /// Those of `sink`.
    pub fn new(sink: W) -> io::Result<Self> {
        let mut writer = Self { sink, interfaces: 0 };
        let byte_order = block::BYTE_ORDER.to_le_bytes();
        // Version 1.0, and a section as long as it will be.
        writer.block(block::SECTION, &[&byte_order, &[1, 0, 0, 0], &[0xff; 8]])?;
        Ok(writer)
    }

    /// Describes an interface, with timestamps in nanoseconds.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn add_interface(&mut self, name: &str, link: LinkType) -> io::Result<InterfaceId> {
        let name = &name.as_bytes()[..name.floor_char_boundary(usize::from(u16::MAX))];
        let name_len = (name.len() as u16).to_le_bytes();
        self.block(
            block::INTERFACE,
            &[
                &link.0.to_le_bytes(),
                // Reserved, and no limit of a packet's length.
                &[0; 6],
                &block::INTERFACE_NAME.to_le_bytes(),
                &name_len,
                name,
                padding(name.len()),
                &block::RESOLUTION.to_le_bytes(),
                &[1, 0, NANOSECONDS, 0, 0, 0],
                &block::OPTION_END.to_le_bytes(),
                &[0; 2],
            ],
        )?;
        let id = InterfaceId(self.interfaces);
        self.interfaces += 1;
        Ok(id)
    }

    /// Writes a packet, given in parts: the link header and what follows.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn write(&mut self, interface: InterfaceId, time: Timestamp, parts: [&[u8]; 2]) -> io::Result<()> {
        let len = parts[0].len() + parts[1].len();
        // What was read has a length of 32 bits, and nothing grows it that far.
        let wire_len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let [high, low] = [time.0 >> 32, time.0 & 0xffff_ffff].map(|half| (half as u32).to_le_bytes());
        let [header, packet] = parts;
        self.block(
            block::ENHANCED_PACKET,
            &[
                &interface.0.to_le_bytes(),
                &high,
                &low,
                &wire_len,
                &wire_len,
                header,
                packet,
                padding(len),
            ],
        )
    }

    /// Hands over what was held back.
    ///
    /// # Errors
    ///
    /// Those of the sink.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn block(&mut self, kind: u32, parts: &[&[u8]]) -> io::Result<()> {
        let body: usize = parts.iter().map(|part| part.len()).sum();
        let len = u32::try_from(body + 12).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.sink.write_all(&kind.to_le_bytes())?;
        self.sink.write_all(&len.to_le_bytes())?;
        for part in parts {
            self.sink.write_all(part)?;
        }
        self.sink.write_all(&len.to_le_bytes())
    }
}

/// What fills `len` bytes up to a whole word.
fn padding(len: usize) -> &'static [u8] {
    &[0; 3][..len.next_multiple_of(4) - len]
}

/// The power of ten of the parts of a second.
const NANOSECONDS: u8 = 9;
