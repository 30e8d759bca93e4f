//! Compares captures packet by packet, and says what differs in the words of the protocols.

mod fields;

use std::fmt::Write;

use self::fields::fields;

/// A field that need not be equal, because its sender chooses it freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The checksum of the IPv4 header, which follows from the others.
    IpChecksum,
    /// The identification in an IPv4 header or in an IPv6 fragment header.
    IpId,
}

impl Ignored {
    /// By the name that differences have for it.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ip.checksum" => Some(Self::IpChecksum),
            "ip.id" => Some(Self::IpId),
            _ => None,
        }
    }

    /// Where it is in a packet, if it is there.
    fn place(self, packet: &[u8]) -> Option<std::ops::Range<usize>> {
        let version = packet.first()? >> 4;
        match (self, version) {
            (Self::IpChecksum, 4) => Some(10..12),
            (Self::IpId, 4) => Some(4..6),
            (Self::IpId, 6) if packet.get(6) == Some(&FRAGMENT) => Some(44..48),
            _ => None,
        }
    }
}

/// What differs between two sequences of IP packets, in lines for people; `None` if nothing does.
pub fn differences(expected: &[Vec<u8>], actual: &[Vec<u8>], ignored: &[Ignored]) -> Option<String> {
    let mut text = String::new();
    let pairs = expected.iter().zip(actual).enumerate();
    for (index, (expected, actual)) in pairs {
        let (expected, actual) = (without(expected, ignored), without(actual, ignored));
        if expected != actual {
            let _ = writeln!(text, "packet {}:", index + 1);
            describe(&mut text, &expected, &actual);
        }
    }
    let common = expected.len().min(actual.len());
    for (packets, word) in [
        (&expected[common..], "missing"),
        (&actual[common..], "unexpected"),
    ] {
        for (index, packet) in packets.iter().enumerate() {
            let _ = writeln!(text, "packet {} is {word}:", common + index + 1);
            for (name, value) in fields(packet) {
                let _ = writeln!(text, "    {name} {value}");
            }
        }
    }
    (!text.is_empty()).then_some(text)
}

/// The packet with what is ignored as zeros.
fn without(packet: &[u8], ignored: &[Ignored]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    for field in ignored {
        let place = field.place(&packet);
        if let Some(bytes) = place.and_then(|place| packet.get_mut(place)) {
            bytes.fill(0);
        }
    }
    packet
}

/// Each field that differs, with both values, and the first line of bytes that does.
fn describe(text: &mut String, expected: &[u8], actual: &[u8]) {
    let (wanted, found) = (fields(expected), fields(actual));
    let value = |fields: &[(String, String)], name: &str| {
        let field = fields.iter().find(|(other, _)| other == name);
        field.map_or_else(|| "-".to_owned(), |(_, value)| value.clone())
    };
    let only_found = found
        .iter()
        .filter(|(name, _)| !wanted.iter().any(|(other, _)| other == name));
    for (name, _) in wanted.iter().chain(only_found) {
        let (wanted, found) = (value(&wanted, name), value(&found, name));
        if wanted != found {
            let _ = writeln!(text, "    {name}: expected {wanted}, got {found}");
        }
    }
    let bytes = expected.iter().zip(actual);
    let first = bytes.take_while(|(a, b)| a == b).count();
    let line = first / LINE * LINE;
    for (word, packet) in [("expected", expected), ("got", actual)] {
        let _ = write!(text, "    {word:>8} {line:04x} ");
        for byte in packet.iter().skip(line).take(LINE) {
            let _ = write!(text, " {byte:02x}");
        }
        let _ = writeln!(text);
    }
    let _ = writeln!(text, "    {:>14} {}^^", "", "   ".repeat(first - line));
}

/// Bytes of a line, as in every other hexadecimal view.
const LINE: usize = 16;

/// IPv6 fragment header (RFC 8200 §4.5).
const FRAGMENT: u8 = 44;

#[cfg(test)]
mod tests;
