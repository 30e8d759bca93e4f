//! What happened, for people and for tcpdump.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    compare::{Layout, word},
    plan::Side,
    router::Passage,
};

/// A packet in one line.
pub(super) fn packet(bytes: &[u8]) -> String {
    let Some(layout) = Layout::of(bytes) else {
        return format!("no IP packet, {} bytes", bytes.len());
    };
    let at = layout.transport;
    let port = |offset| word(bytes, at + offset).map_or_else(|| "?".to_owned(), |port| port.to_string());
    let (ttl, id) = match bytes[0] >> 4 {
        4 => (bytes[8], word(bytes, 4).unwrap_or_default()),
        _ => (bytes[7], 0),
    };
    let mut text = String::new();
    let _ = match layout.protocol {
        6 | 17 | 132 => write!(text, "{}:{}>{}:{} ", layout.src, port(0), layout.dst, port(2)),
        _ => write!(text, "{}>{} ", layout.src, layout.dst),
    };
    let long = |offset| {
        u64::from(word(bytes, at + offset).unwrap_or(0)) << 16
            | u64::from(word(bytes, at + offset + 2).unwrap_or(0))
    };
    let _ = match (layout.protocol, bytes.get(at), bytes.get(at + 13)) {
        (6, _, Some(flags)) => write!(
            text,
            "T[{}] seq={} ack={} win={}",
            flag_names(*flags),
            long(4),
            long(8),
            port(14)
        ),
        (17, ..) => write!(text, "U len={}", port(4)),
        (1 | 58, Some(kind), _) if layout.is_error(bytes) => {
            let quoted = bytes.get(at + 8..).map_or_else(String::new, packet);
            write!(
                text,
                "I {kind}/{} ({quoted})",
                bytes.get(at + 1).copied().unwrap_or_default()
            )
        }
        (1 | 58, Some(kind), _) => write!(text, "I {kind} id={}", port(4)),
        (protocol, kind, _) => write!(text, "P{protocol} {:?}", kind.map(|_| bytes.get(at + 12))),
    };
    if let Some((offset, more)) = layout.fragment {
        let _ = write!(text, " frag {offset}{}", if more { "+" } else { "" });
    }
    let _ = write!(text, " ttl={ttl} id={id:#x} {} bytes", bytes.len());
    text
}

/// What came of a packet.
pub(super) fn passage(passage: &Passage) -> String {
    let mut text = String::new();
    for (side, bytes) in &passage.outputs {
        let _ = write!(text, "{side:?}: {}; ", packet(bytes));
    }
    match passage.reason {
        Some(reason) => text + &format!("dropped: {reason}"),
        None if passage.outputs.is_empty() => "nothing".to_owned(),
        None => text,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The flags of a segment.
pub(super) fn flags(packet: &[u8]) -> String {
    let layout = Layout::of(packet).filter(|layout| layout.protocol == 6);
    let flags = layout.and_then(|layout| packet.get(layout.transport + 13));
    flags.map_or_else(String::new, |&flags| flag_names(flags))
}

fn flag_names(flags: u8) -> String {
    let names = ["F", "S", "R", "P", "A", "U", "E", "C"];
    let set = names.iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect()
}

/// Everything that was sent and received, as pcapng (draft-ietf-opsawg-pcapng): an interface for each place.
pub(super) struct Capture {
    bytes: Vec<u8>,
    packets: u32,
}

impl Capture {
    pub(super) fn new() -> Self {
        let mut capture = Self {
            bytes: Vec::new(),
            packets: 0,
        };
        // Section header: byte order, version 1.0, length not known.
        let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
        section.extend([1, 0, 0, 0]);
        section.extend([0xff; 8]);
        capture.block(0x0a0d_0d0a, &section);
        for name in PLACES {
            // LINKTYPE_RAW, no limit on the length; option 2 is the name.
            let mut interface = vec![101, 0, 0, 0, 0, 0, 0, 0, 2, 0, name.len() as u8, 0];
            interface.extend(name.as_bytes());
            interface.resize(interface.len().next_multiple_of(4), 0);
            interface.extend([0; 4]);
            capture.block(1, &interface);
        }
        capture
    }

    /// Notes a packet that was sent, and what came of it.
    pub(super) fn add(&mut self, side: Side, sent: [&[u8]; 2], passages: [&Passage; 2]) {
        for (router, (sent, passage)) in sent.into_iter().zip(passages).enumerate() {
            let place = |side: Side, out: usize| (router * 4 + out * 2 + side as usize) as u32;
            self.packet(place(side, 0), sent);
            for (side, packet) in &passage.outputs {
                self.packet(place(*side, 1), packet);
            }
        }
        self.packets += 1;
    }

    /// Writes it to a file.
    pub(super) fn save(&self, path: &Path) -> io::Result<PathBuf> {
        fs::write(path, &self.bytes)?;
        Ok(path.to_owned())
    }

    fn packet(&mut self, place: u32, packet: &[u8]) {
        let mut body = place.to_le_bytes().to_vec();
        // The number of the step, as milliseconds.
        let time = u64::from(self.packets) * 1000;
        body.extend(((time >> 32) as u32).to_le_bytes());
        body.extend((time as u32).to_le_bytes());
        body.extend((packet.len() as u32).to_le_bytes());
        body.extend((packet.len() as u32).to_le_bytes());
        body.extend(packet);
        body.resize(body.len().next_multiple_of(4), 0);
        self.block(6, &body);
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let length = (body.len() as u32 + 12).to_le_bytes();
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
    }
}

/// Interfaces of a capture: what each router was sent, and what came out, inside and outside.
const PLACES: [&str; 8] = [
    "oracle-in-inside",
    "oracle-in-outside",
    "oracle-out-inside",
    "oracle-out-outside",
    "ours-in-inside",
    "ours-in-outside",
    "ours-out-inside",
    "ours-out-outside",
];
