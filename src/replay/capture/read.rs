//! Reads captures, one packet at a time. Memory is bounded by one packet and the descriptions of interfaces.

use std::io::{self, ErrorKind, Read};

use super::{
    CaptureError, Fault, Interface, LinkType, MAX_CAPTURED, MAX_INTERFACES, Timestamp, block,
    description::{Described, Options, Order, Unit},
};

/// Reads a capture from its beginning.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    format: Format,
    order: Order,
    interfaces: Vec<Described>,
    /// Packets that were begun.
    packet: u64,
    last: Timestamp,
    buffer: Vec<u8>,
}

/// A captured packet with what is in front of it.
#[derive(Debug)]
pub struct Record<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// Where it was captured.
    pub interface: &'a Interface,
    /// The number of the interface in its section.
    pub interface_id: u32,
    /// When; as the packet before it if the file does not say.
    pub time: Timestamp,
    /// What was captured of it.
    pub bytes: &'a mut [u8],
    /// How long it was.
    pub len: u32,
}

impl<R: Read> Reader<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    ///
    /// It is no capture, or cannot be read.
    pub fn new(mut source: R) -> Result<Self, CaptureError> {
        let begun = begin(&mut source).map_err(|fault| CaptureError { packet: 0, fault })?;
        let (format, order, interfaces) = begun;
        Ok(Self {
            source,
            format,
            order,
            interfaces,
            packet: 0,
            last: Timestamp::default(),
            buffer: Vec::new(),
        })
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    ///
    /// The file is damaged or cannot be read. There is no use in reading on.
    pub fn read(&mut self) -> Result<Option<Record<'_>>, CaptureError> {
        let read = match self.format {
            Format::Pcap => self.read_pcap(),
            Format::Pcapng => self.read_pcapng(),
        };
        let head = read.map_err(|fault| CaptureError {
            packet: self.packet + 1,
            fault,
        })?;
        let Some(Head {
            interface_id,
            time,
            len,
        }) = head
        else {
            return Ok(None);
        };
        self.packet += 1;
        self.last = time;
        Ok(Some(Record {
            number: self.packet,
            // Whoever makes a head has looked the interface up.
            interface: &self.interfaces[interface_id as usize].interface,
            interface_id,
            time,
            bytes: &mut self.buffer,
            len,
        }))
    }

    fn read_pcap(&mut self) -> Result<Option<Head>, Fault> {
        let Some(header) = read_or_end::<16>(&mut self.source)? else {
            return Ok(None);
        };
        let [seconds, part, captured, len] = self.order.words(&header);
        self.read_packet(captured)?;
        let time = self.interfaces[0].classic_time(seconds, part);
        Ok(Some(Head {
            interface_id: 0,
            time,
            len,
        }))
    }

    /// Reads blocks until one has a packet.
    fn read_pcapng(&mut self) -> Result<Option<Head>, Fault> {
        loop {
            let Some(start) = read_or_end::<8>(&mut self.source)? else {
                return Ok(None);
            };
            let [kind, len] = self.order.words(&start);
            if kind == block::SECTION {
                // Its bytes are the same in both orders; its length is not.
                self.order = read_section(&mut self.source, [start[4], start[5], start[6], start[7]])?;
                self.interfaces.clear();
                continue;
            }
            let mut rest = Body::new(len)?;
            let head = match kind {
                block::INTERFACE => self.read_interface(&mut rest).map(|()| None),
                block::ENHANCED_PACKET => self.read_enhanced(&mut rest).map(Some),
                block::SIMPLE_PACKET => self.read_simple(&mut rest).map(Some),
                block::PACKET => self.read_obsolete(&mut rest).map(Some),
                _ => Ok(None),
            }?;
            skip(&mut self.source, rest.0)?;
            let end = read_or_end::<4>(&mut self.source)?.ok_or(Fault::Cut)?;
            if self.order.words::<1>(&end) != [len] {
                return Err(Fault::Lengths);
            }
            if head.is_some() {
                return Ok(head);
            }
        }
    }

    fn read_interface(&mut self, rest: &mut Body) -> Result<(), Fault> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Fault::TooManyInterfaces);
        }
        if rest.0 > MAX_DESCRIPTION {
            return Err(Fault::TooLongDescription(rest.0));
        }
        let len = rest.0;
        rest.take(len)?;
        self.fill(len)?;
        let Some((fixed, options)) = self.buffer.split_first_chunk::<8>() else {
            return Err(Fault::Lengths);
        };
        let link = self.order.half([fixed[0], fixed[1]]);
        let [snaplen] = self.order.words(&[fixed[4], fixed[5], fixed[6], fixed[7]]);
        let mut described = Described::new(LinkType(link), snaplen, Unit::Decimal(6));
        for (option, value) in Options(options, self.order) {
            described.learn(option, value, self.order);
        }
        self.interfaces.push(described);
        Ok(())
    }

    fn read_enhanced(&mut self, rest: &mut Body) -> Result<Head, Fault> {
        let fixed = self.fixed::<20>(rest)?;
        let [interface_id, high, low, captured, len] = self.order.words(&fixed);
        let time = self.described(interface_id)?.time(high, low);
        rest.take(captured)?;
        self.read_packet(captured)?;
        Ok(Head {
            interface_id,
            time,
            len,
        })
    }

    /// A packet block, as it was before enhanced ones: its interface has 16 bits, a count of drops the others.
    fn read_obsolete(&mut self, rest: &mut Body) -> Result<Head, Fault> {
        let fixed = self.fixed::<20>(rest)?;
        let [_, high, low, captured, len] = self.order.words(&fixed);
        let interface_id = self.order.half([fixed[0], fixed[1]]).into();
        let time = self.described(interface_id)?.time(high, low);
        rest.take(captured)?;
        self.read_packet(captured)?;
        Ok(Head {
            interface_id,
            time,
            len,
        })
    }

    /// A packet of the first interface, without a time, as long as the snap length lets it be.
    fn read_simple(&mut self, rest: &mut Body) -> Result<Head, Fault> {
        let fixed = self.fixed::<4>(rest)?;
        let [len] = self.order.words(&fixed);
        let captured = match self.described(0)?.snaplen {
            0 => len,
            snaplen => len.min(snaplen),
        };
        rest.take(captured)?;
        self.read_packet(captured)?;
        Ok(Head {
            interface_id: 0,
            time: self.last,
            len,
        })
    }

    fn fixed<const N: usize>(&mut self, rest: &mut Body) -> Result<[u8; N], Fault> {
        rest.take(N as u32)?;
        read_or_end(&mut self.source)?.ok_or(Fault::Cut)
    }

    fn described(&self, id: u32) -> Result<&Described, Fault> {
        let described = self.interfaces.get(id as usize);
        described.ok_or(Fault::UnknownInterface(id))
    }

    fn read_packet(&mut self, captured: u32) -> Result<(), Fault> {
        if captured > MAX_CAPTURED {
            return Err(Fault::TooLong(captured));
        }
        self.fill(captured)
    }

    fn fill(&mut self, len: u32) -> Result<(), Fault> {
        self.buffer.clear();
        self.buffer.resize(len as usize, 0);
        self.source.read_exact(&mut self.buffer).map_err(cut_or_io)
    }
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Pcap,
    Pcapng,
}

/// What is known of a packet before its bytes.
struct Head {
    interface_id: u32,
    time: Timestamp,
    len: u32,
}

/// Bytes of a block's body that were not read yet.
struct Body(u32);

impl Body {
    /// Of a block of `len` bytes with its own two lengths and its type.
    fn new(len: u32) -> Result<Self, Fault> {
        if !len.is_multiple_of(4) {
            return Err(Fault::Lengths);
        }
        len.checked_sub(12).map(Self).ok_or(Fault::Lengths)
    }

    fn take(&mut self, len: u32) -> Result<(), Fault> {
        self.0 = self.0.checked_sub(len).ok_or(Fault::Lengths)?;
        Ok(())
    }
}

/// Reads up to where packets or blocks follow.
fn begin(source: &mut impl Read) -> Result<(Format, Order, Vec<Described>), Fault> {
    let first = read_or_end::<8>(source).map_err(|fault| match fault {
        // Too short for anything.
        Fault::Cut => Fault::NotACapture,
        other => other,
    })?;
    let first = first.ok_or(Fault::NotACapture)?;
    let magic = [first[0], first[1], first[2], first[3]];
    let (order, unit) = match magic {
        [0x0a, 0x0d, 0x0d, 0x0a] => {
            let order = read_section(source, [first[4], first[5], first[6], first[7]])?;
            return Ok((Format::Pcapng, order, Vec::new()));
        }
        [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, Unit::Decimal(6)),
        [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, Unit::Decimal(6)),
        [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, Unit::Decimal(9)),
        [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, Unit::Decimal(9)),
        _ => return Err(Fault::NotACapture),
    };
    let (major, minor) = (order.half([first[4], first[5]]), order.half([first[6], first[7]]));
    if major != 2 {
        return Err(Fault::Version(major, minor));
    }
    let rest = read_or_end::<16>(source)?.ok_or(Fault::Cut)?;
    let [_, _, snaplen, network] = order.words(&rest);
    // The upper half tells whether frames have a check sequence, which Linux never captures.
    let link = LinkType((network & 0xffff) as u16);
    Ok((Format::Pcap, order, vec![Described::new(link, snaplen, unit)]))
}

/// Reads the rest of a section header, whose length is given as it stands there; the order of the section.
fn read_section(source: &mut impl Read, len: [u8; 4]) -> Result<Order, Fault> {
    let magic = read_or_end::<4>(source)?.ok_or(Fault::Cut)?;
    let order = match u32::from_be_bytes(magic) {
        block::BYTE_ORDER => Order::Big,
        swapped if swapped.swap_bytes() == block::BYTE_ORDER => Order::Little,
        _ => return Err(Fault::NotACapture),
    };
    let [len] = order.words(&len);
    let mut rest = Body::new(len)?;
    // Byte order, version, and the section's length, which may be unknown and is of no use.
    rest.take(16)?;
    let fixed = read_or_end::<12>(source)?.ok_or(Fault::Cut)?;
    let (major, minor) = (order.half([fixed[0], fixed[1]]), order.half([fixed[2], fixed[3]]));
    if major != 1 {
        return Err(Fault::Version(major, minor));
    }
    skip(source, rest.0)?;
    let end = read_or_end::<4>(source)?.ok_or(Fault::Cut)?;
    if order.words::<1>(&end) == [len] {
        Ok(order)
    } else {
        Err(Fault::Lengths)
    }
}

/// Exactly `N` bytes; `None` if there are none at all.
fn read_or_end<const N: usize>(source: &mut impl Read) -> Result<Option<[u8; N]>, Fault> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match source.read(&mut bytes[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(Fault::Cut),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(Fault::Io(error)),
        }
    }
    Ok(Some(bytes))
}

fn skip(source: &mut impl Read, len: u32) -> Result<(), Fault> {
    let skipped = io::copy(&mut source.by_ref().take(len.into()), &mut io::sink())?;
    if skipped == u64::from(len) {
        Ok(())
    } else {
        Err(Fault::Cut)
    }
}

fn cut_or_io(error: io::Error) -> Fault {
    match error.kind() {
        ErrorKind::UnexpectedEof => Fault::Cut,
        _ => Fault::Io(error),
    }
}

/// An interface's name, description and filter are a few hundred bytes.
const MAX_DESCRIPTION: u32 = 65_536;
