//! What damage, malice and bad luck make of packets.

use super::{
    corpus::addresses,
    random::Random,
    site::{EXTERNAL, HOSTS, PORTS, SERVERS, SPECIAL},
    sums,
};

/// Changes a packet in one to three ways; `other` is one to take parts of. Most have right checksums afterwards, so that the
/// engine looks further than these.
pub(crate) fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..random.pick(&[1, 1, 1, 2, 3]) {
        if bytes.len() < 20 {
            break;
        }
        change(random, bytes, other);
    }
    match random.below(8) {
        0 => {}
        1 => sums::mend_header(bytes),
        _ => sums::mend(bytes),
    }
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let is_v4 = bytes[0] >> 4 == 4;
    match random.below(15) {
        0 => flip(random, bytes, usize::MAX),
        1 => flip(random, bytes, 64),
        2 => {
            let len = random.index(bytes.len());
            bytes.truncate(len);
            fix_len(random, bytes);
        }
        3 => {
            let more = random.pick(&[1, 4, 8, 40, 1500]);
            bytes.resize(bytes.len() + more, random.byte());
            fix_len(random, bytes);
        }
        4 => {
            let at = random.index(bytes.len().min(64));
            bytes[at] = random.pick(&[0, 1, 2, 0x7f, 0x80, 0xfe, 0xff]);
        }
        5 => {
            let at = random.index(bytes.len().min(64) - 1) & !1;
            let len = bytes.len() as u16;
            let value = random.pick(&[
                0,
                1,
                8,
                0x7fff,
                0xffff,
                len,
                len - 1,
                len + 1,
                len.wrapping_sub(40),
            ]);
            bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
        6 => {
            // A part of another packet at the same place.
            let end = bytes.len().min(other.len());
            let from = random.index(end.max(1));
            let to = from + random.index(end - from.min(end) + 1);
            if let (Some(to_part), Some(part)) = (bytes.get_mut(from..to), other.get(from..to)) {
                to_part.copy_from_slice(part);
            }
        }
        7 => set_address(random, bytes, is_v4),
        8 => {
            let at = if is_v4 { 9 } else { 6 };
            bytes[at] = random.pick(&[0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 136, 255]);
        }
        9 => {
            let at = if is_v4 { 8 } else { 7 };
            bytes[at] = random.pick(&[0, 1, 1, 2, 255]);
        }
        10 if is_v4 => {
            let value = random.pick(&[0x2000, 0x4000, 0x2001, 0x1fff, 0x3fff, 1, 2, 0x4000, 0x8000]);
            bytes[6..8].copy_from_slice(&u16::to_be_bytes(value));
        }
        11 => {
            let Some(place) = sums::locate(bytes).filter(|place| place.end - place.start >= 4) else {
                return;
            };
            let at = place.start + random.pick(&[0, 2]);
            let port = match random.once_in(3) {
                true => 0,
                false => random.pick(PORTS),
            };
            bytes[at..at + 2].copy_from_slice(&port.to_be_bytes());
        }
        12 if is_v4 => insert_options(random, bytes),
        12 => insert_extension(random, bytes),
        13 => {
            // Flags and lengths of the transport header.
            let Some(place) = sums::locate(bytes).filter(|place| place.end - place.start >= 20) else {
                return;
            };
            let at = place.start + random.pick(&[4, 5, 8, 12, 13, 13, 13, 14, 15]);
            bytes[at] = random.byte();
        }
        _ if is_v4 => bytes[6] |= 0x40,
        _ => {}
    }
}

fn flip(random: &mut Random, bytes: &mut [u8], among: usize) {
    let bit = random.index(bytes.len().min(among) * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// Makes the header's length that of the bytes, mostly.
fn fix_len(random: &mut Random, bytes: &mut [u8]) {
    if random.once_in(4) || bytes.len() < 20 {
        return;
    }
    let len = bytes.len();
    match bytes[0] >> 4 {
        4 => bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes()),
        6 if len >= 40 => bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes()),
        _ => {}
    }
}

fn set_address(random: &mut Random, bytes: &mut [u8], is_v4: bool) {
    let version = usize::from(!is_v4);
    let zone = random.index(HOSTS.len());
    let address = match random.below(4) {
        0 => random.pick(SPECIAL[version]),
        1 => random.pick(HOSTS[zone][version]),
        2 => random.pick(EXTERNAL[version]),
        _ => random.pick(SERVERS[version]),
    };
    // What has neither header stays as it is.
    if addresses(bytes).is_none() {
        return;
    }
    let is_src = random.once_in(2);
    match (address, is_v4) {
        (std::net::IpAddr::V4(address), true) => {
            let at = if is_src { 12 } else { 16 };
            bytes[at..at + 4].copy_from_slice(&address.octets());
        }
        (std::net::IpAddr::V6(address), false) => {
            let at = if is_src { 8 } else { 24 };
            bytes[at..at + 16].copy_from_slice(&address.octets());
        }
        _ => {}
    }
}

fn insert_options(random: &mut Random, bytes: &mut Vec<u8>) {
    let options: &[u8] = random.pick(&[
        &[7, 7, 4, 0, 0, 0, 0, 0][..],
        &[131, 7, 4, 198, 51, 100, 4, 0],
        &[137, 7, 4, 198, 51, 100, 4, 0],
        &[68, 8, 5, 0, 0, 0, 0, 0],
        &[1, 1, 1, 0],
        &[7, 0, 0, 0],
        &[7, 200, 4, 0],
    ]);
    if bytes[0] != 0x45 {
        return;
    }
    bytes[0] += options.len() as u8 / 4;
    bytes.splice(20..20, options.iter().copied());
    let len = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
}

fn insert_extension(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.len() < 40 {
        return;
    }
    let (kind, mut header) = match random.below(6) {
        0 => (0, vec![0, 0, 1, 4, 0, 0, 0, 0]),
        1 => (60, vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        2 => (43, vec![0, 2, 0, 1, 0, 0, 0, 0]),
        3 => (43, vec![0, 0, 4, 0, 0, 0, 0, 0]),
        // An atomic fragment (RFC 6946).
        4 => (44, vec![0, 0, 0, 0, 0, 0, 0, 9]),
        _ => (
            51,
            vec![
                0, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            ],
        ),
    };
    if kind == 43 && header[1] == 2 {
        header.resize(24, 1);
    }
    header[0] = std::mem::replace(&mut bytes[6], kind);
    let len = header.len();
    bytes.splice(40..40, header);
    let payload = u16::from_be_bytes([bytes[4], bytes[5]]).wrapping_add(len as u16);
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
}
