//! Checksums of whatever a fuzzer makes, and whether those of what leaves are right: by the textbook, with a reader of headers of
//! its own, so that it shares no fault with the engine.

/// The transport header of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) protocol: u8,
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Of how it was cut: offset in bytes, whether more follow.
    pub(crate) fragment: Option<(usize, bool)>,
}

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
pub(crate) const UDP_LITE: u8 = 136;

/// Where the transport header is; `None` where the headers before it make no sense.
pub(crate) fn locate(bytes: &[u8]) -> Option<Place> {
    match bytes.first()? >> 4 {
        4 => {
            let header = bytes.first_chunk::<20>()?;
            let start = usize::from(header[0] & 15) * 4;
            let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let cut = u16::from_be_bytes([header[6], header[7]]);
            let fits = start >= 20 && start <= end && end <= bytes.len();
            fits.then_some(Place {
                protocol: header[9],
                start,
                end,
                fragment: (cut & 0x3fff != 0).then_some((usize::from(cut & 0x1fff) * 8, cut & 0x2000 != 0)),
            })
        }
        6 => {
            let header = bytes.first_chunk::<40>()?;
            let end = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            let bytes = bytes.get(..end)?;
            let (mut protocol, mut start, mut fragment) = (header[6], 40, None);
            loop {
                let len = match protocol {
                    0 | 43 | 60 => (usize::from(*bytes.get(start + 1)?) + 1) * 8,
                    51 => (usize::from(*bytes.get(start + 1)?) + 2) * 4,
                    44 => {
                        let cut = u16::from_be_bytes([*bytes.get(start + 2)?, *bytes.get(start + 3)?]);
                        if cut & 0xfff9 != 0 {
                            fragment = Some((usize::from(cut & 0xfff8), cut & 1 != 0));
                        }
                        8
                    }
                    _ => {
                        return Some(Place {
                            protocol,
                            start,
                            end,
                            fragment,
                        });
                    }
                };
                protocol = *bytes.get(start)?;
                start += len;
                if start > end {
                    return None;
                }
                if fragment.is_some_and(|(offset, _)| offset > 0) {
                    return Some(Place {
                        protocol,
                        start,
                        end,
                        fragment,
                    });
                }
            }
        }
        _ => None,
    }
}

/// Makes all checksums right that can be found; those of fragments are of their datagram and stay.
pub(crate) fn mend(bytes: &mut [u8]) {
    mend_header(bytes);
    let Some(place) = locate(bytes).filter(|place| place.fragment.is_none()) else {
        return;
    };
    let Some((at, len)) = field(bytes, &place) else {
        return;
    };
    bytes[at..at + len].fill(0);
    match wanted(bytes, &place) {
        Some(Sum::Crc(crc)) => bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes()),
        Some(Sum::Ones(sum)) => {
            let sum = match (!sum, place.protocol) {
                (0, UDP | UDP_LITE) => 0xffff,
                (sum, _) => sum,
            };
            bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        None => {}
    }
}

/// Makes the checksum of an IPv4 header right.
pub(crate) fn mend_header(bytes: &mut [u8]) {
    if let [first, ..] = *bytes
        && first >> 4 == 4
        && let Some(header) = bytes.get_mut(..usize::from(first & 15) * 4)
        && header.len() >= 20
    {
        header[10..12].fill(0);
        let sum = !ones(header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// What is wrong with the lengths and checksums of a packet that leaves.
pub(crate) fn fault(bytes: &[u8]) -> Option<&'static str> {
    let Some(place) = locate(bytes) else {
        return Some("its headers make no sense");
    };
    if place.end != bytes.len() {
        return Some("its length is not that of its header");
    }
    if bytes[0] >> 4 == 4 && ones(&bytes[..usize::from(bytes[0] & 15) * 4], 0) != 0xffff {
        return Some("its header's checksum is wrong");
    }
    if place.fragment.is_some() {
        return None;
    }
    let (at, len) = field(bytes, &place)?;
    if len == 2 && bytes[at..at + 2] == [0, 0] && place.protocol == UDP {
        return None;
    }
    let is_right = match wanted(bytes, &place) {
        Some(Sum::Crc(_)) => {
            let mut copy = bytes.to_vec();
            copy[at..at + 4].fill(0);
            matches!(wanted(&copy, &place), Some(Sum::Crc(crc)) if crc.to_le_bytes() == bytes[at..at + 4])
        }
        Some(Sum::Ones(sum)) => sum == 0xffff,
        // A length in it is beyond the packet.
        None => false,
    };
    (!is_right).then_some("its transport checksum is wrong")
}

/// The folded sum of the pseudo-header: what a partial checksum is.
pub(crate) fn pseudo_header(bytes: &[u8], place: &Place, len: usize) -> u16 {
    let addresses = match bytes[0] >> 4 {
        4 => &bytes[12..20],
        _ => &bytes[8..40],
    };
    ones(addresses, u64::from(place.protocol) + len as u64)
}

enum Sum {
    Crc(u32),
    Ones(u16),
}

/// Where the checksum is and how long, of protocols that have one and packets that are long enough.
fn field(bytes: &[u8], place: &Place) -> Option<(usize, usize)> {
    let is_v4 = bytes[0] >> 4 == 4;
    let (offset, len, header) = match place.protocol {
        TCP => (16, 2, 20),
        UDP | UDP_LITE => (6, 2, 8),
        ICMP if is_v4 => (2, 2, 4),
        ICMPV6 if !is_v4 => (2, 2, 4),
        SCTP => (8, 4, 12),
        _ => return None,
    };
    (place.end - place.start >= header).then_some((place.start + offset, len))
}

/// What the sum of all that is covered comes to.
fn wanted(bytes: &[u8], place: &Place) -> Option<Sum> {
    let segment = &bytes[place.start..place.end];
    let sum = match place.protocol {
        SCTP => return Some(Sum::Crc(crc32c(segment))),
        ICMP => ones(segment, 0),
        UDP => {
            let len = usize::from(u16::from_be_bytes([segment[4], segment[5]]));
            let covered = segment.get(..len).filter(|_| len >= 8)?;
            ones(covered, pseudo_header(bytes, place, len).into())
        }
        UDP_LITE => {
            let covered = match usize::from(u16::from_be_bytes([segment[4], segment[5]])) {
                0 => segment,
                len => segment.get(..len).filter(|_| len >= 8)?,
            };
            ones(covered, pseudo_header(bytes, place, segment.len()).into())
        }
        _ => ones(segment, pseudo_header(bytes, place, segment.len()).into()),
    };
    Some(Sum::Ones(sum))
}

/// RFC 1071 §4.1.
fn ones(bytes: &[u8], start: u64) -> u16 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(high) << 8,
        _ => 0,
    });
    let mut sum = words.sum::<u64>() + start;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |register, &byte| {
        CRC[usize::from(register as u8 ^ byte)] ^ (register >> 8)
    })
}

static CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut register, mut bit) = (byte as u32, 0);
        while bit < 8 {
            register = (register >> 1) ^ (0x82f6_3b78 * (register & 1));
            bit += 1;
        }
        table[byte] = register;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// G1 and G10 of nat-conformance §16, captured on Linux.
    const GOLDEN: [&str; 2] = [
        "4500001d000100003f112765c6336401c63364021388003500091fb478",
        "6b8123450009113f20010db8000b0000000000000000000120010db8000b00000000000000000002138800350009189478",
    ];

    fn golden() -> impl Iterator<Item = Vec<u8>> {
        let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).expect("digits"), 16).expect("hex");
        GOLDEN
            .iter()
            .map(move |digits| digits.as_bytes().chunks(2).map(byte).collect())
    }

    #[test]
    fn every_flipped_bit_that_a_checksum_covers_is_found() {
        for right in golden() {
            assert_eq!(fault(&right), None);
            for bit in 0..right.len() * 8 {
                let mut damaged = right.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                // Nothing covers class, flow label and hop limit; and next header, which may say that there is no checksum.
                let is_open = right[0] >> 4 == 6 && matches!(bit / 8, 0..=3 | 6 | 7);
                assert!(is_open || fault(&damaged).is_some(), "bit {bit} of {right:02x?}");
            }
        }
    }

    #[test]
    fn what_was_mended_is_right() {
        for right in golden() {
            for protocol in [ICMP, TCP, UDP, ICMPV6, SCTP, UDP_LITE] {
                let mut packet = right.clone();
                let start = locate(&packet).expect("sound").start;
                packet.resize(packet.len() + 16, 3);
                match packet[0] >> 4 {
                    4 => (packet[3], packet[9]) = (packet[3] + 16, protocol),
                    _ => (packet[5], packet[6]) = (packet[5] + 16, protocol),
                }
                packet[start + 4..start + 6].copy_from_slice(&[0, 25]);
                mend(&mut packet);
                assert_eq!(fault(&packet), None, "{protocol}");
            }
        }
    }
}
