//! What is in front of a captured IP packet, and what is put in front of one that leaves.

use vswitch_wire::{EtherType, EthernetHeader, MacAddr, NetworkLayer};

use super::capture::LinkType;

/// The beginning of a captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    /// Where the IP packet begins.
    pub(super) offset: usize,
    /// The station that it was sent to, where the capture says that.
    pub(super) dst: Option<MacAddr>,
}

/// Why a captured frame is none of a router's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// The capture has its beginning only.
    Cut,
    /// It was sent to a group of stations, which is not routed (N-INV-4).
    Group,
    /// It carries something else.
    NotIp,
    /// It comes from no side of the router, or leaves it.
    OtherSide,
}

impl Skip {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cut, Self::Group, Self::NotIp, Self::OtherSide];

    /// A stable name for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cut => "skipped_cut",
            Self::Group => "skipped_group",
            Self::NotIp => "skipped_not_ip",
            Self::OtherSide => "skipped_other_side",
        }
    }

    /// Says it to somebody who wonders.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Cut => "the capture has only its beginning (capture with -s 0)",
            Self::Group => "sent to a group of stations",
            Self::NotIp => "not IP",
            Self::OtherSide => "arrives on no side of the configuration",
        }
    }
}

/// A packet with nothing in front of it.
const PLAIN: Result<Envelope, Skip> = Ok(Envelope { offset: 0, dst: None });

/// Finds the IP packet; `None` if frames of that kind are not known.
pub(super) fn open(link: LinkType, frame: &[u8]) -> Option<Result<Envelope, Skip>> {
    Some(match link {
        LinkType::ETHERNET => open_ethernet(frame),
        LinkType::LINUX_SLL => match frame.first_chunk::<SLL_LEN>() {
            Some(&[_, kind, .., high, low]) => open_cooked(kind, [high, low], SLL_LEN),
            None => Err(Skip::NotIp),
        },
        LinkType::LINUX_SLL2 => match frame.first_chunk::<SLL2_LEN>() {
            Some(&[high, low, _, _, _, _, _, _, _, _, kind, ..]) => open_cooked(kind, [high, low], SLL2_LEN),
            None => Err(Skip::NotIp),
        },
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => PLAIN,
        other if LinkType::RAW_DLT.contains(&other) => PLAIN,
        _ => return None,
    })
}

fn open_ethernet(frame: &[u8]) -> Result<Envelope, Skip> {
    let (header, _) = EthernetHeader::parse(frame).map_err(|_| Skip::NotIp)?;
    let network = NetworkLayer::parse(frame).map_err(|_| Skip::NotIp)?;
    if ![EtherType::IPV4, EtherType::IPV6].contains(&network.ethertype) {
        return Err(Skip::NotIp);
    }
    if header.dst.is_multicast() {
        return Err(Skip::Group);
    }
    Ok(Envelope {
        offset: network.offset,
        dst: Some(header.dst),
    })
}

/// What the kernel says of a packet that it shows without its frame: whom it was for, and its EtherType.
fn open_cooked(kind: u8, ethertype: [u8; 2], offset: usize) -> Result<Envelope, Skip> {
    let ethertype = EtherType::new(u16::from_be_bytes(ethertype));
    if ![EtherType::IPV4, EtherType::IPV6].contains(&ethertype) {
        return Err(Skip::NotIp);
    }
    match kind {
        TO_ALL | TO_GROUP => Err(Skip::Group),
        TO_OTHERS | OUTGOING => Err(Skip::OtherSide),
        _ => Ok(Envelope { offset, dst: None }),
    }
}

/// The Ethernet header of an answer to the station that sent a frame with this one.
pub(super) fn turned(header: &[u8]) -> Vec<u8> {
    let mut turned = header.to_vec();
    if let Ok((header, _)) = EthernetHeader::parse_mut(&mut turned) {
        std::mem::swap(&mut header.src, &mut header.dst);
    }
    turned
}

/// An Ethernet header for a packet that came without one. Both stations are made up.
pub(super) fn made_up(packet: &[u8]) -> Vec<u8> {
    let ethertype = match packet.first().map(|byte| byte >> 4) {
        Some(6) => EtherType::IPV6,
        _ => EtherType::IPV4,
    };
    let mut header = Vec::with_capacity(EthernetHeader::LEN);
    header.extend(MADE_UP_STATION.0);
    header.extend(MADE_UP_ROUTER.0);
    header.extend(ethertype.value().to_be_bytes());
    header
}

/// A packet without the padding that Ethernet put behind it (N-INV-3).
pub(super) fn trimmed(packet: &[u8]) -> &[u8] {
    let len = match *packet {
        [first, _, high, low, ..] if first >> 4 == 4 => u16::from_be_bytes([high, low]).into(),
        [first, _, _, _, high, low, ..] if first >> 4 == 6 => {
            40 + usize::from(u16::from_be_bytes([high, low]))
        }
        _ => packet.len(),
    };
    packet.get(..len).unwrap_or(packet)
}

/// Locally administered addresses, which no real station has.
const MADE_UP_STATION: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x02]);
const MADE_UP_ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0x01]);

/// Bytes of the header of [`LinkType::LINUX_SLL`], whose last two are the protocol, and of [`LinkType::LINUX_SLL2`],
/// whose first two are.
const SLL_LEN: usize = 16;
const SLL2_LEN: usize = 20;

/// `PACKET_BROADCAST` to `PACKET_OUTGOING` (linux/if_packet.h).
const TO_ALL: u8 = 1;
const TO_GROUP: u8 = 2;
const TO_OTHERS: u8 = 3;
const OUTGOING: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_behind_every_known_header() {
        let ethernet = |dst, rest: &[u8]| [&[dst, 2, 3, 4, 5, 6, 2, 0, 0, 0, 0, 1][..], rest].concat();
        let offset = |link, frame: &[u8]| open(link, frame).map(|opened| opened.map(|found| found.offset));
        assert_eq!(
            offset(LinkType::ETHERNET, &ethernet(2, &[8, 0, 0x45])),
            Some(Ok(14))
        );
        assert_eq!(
            offset(
                LinkType::ETHERNET,
                &ethernet(2, &[0x81, 0, 0, 5, 0x86, 0xdd, 0x60])
            ),
            Some(Ok(18))
        );
        assert_eq!(
            offset(LinkType::ETHERNET, &ethernet(2, &[8, 6, 0])),
            Some(Err(Skip::NotIp))
        );
        assert_eq!(
            offset(LinkType::ETHERNET, &ethernet(1, &[8, 0, 0x45])),
            Some(Err(Skip::Group))
        );
        let cooked = |kind: u8| [&[0, kind][..], &[0; 12], &[0x86, 0xdd], &[0x60]].concat();
        assert_eq!(offset(LinkType::LINUX_SLL, &cooked(0)), Some(Ok(16)));
        assert_eq!(
            offset(LinkType::LINUX_SLL, &cooked(4)),
            Some(Err(Skip::OtherSide))
        );
        assert_eq!(offset(LinkType::LINUX_SLL, &cooked(1)), Some(Err(Skip::Group)));
        assert_eq!(
            offset(LinkType::LINUX_SLL, &cooked(3)[..15]),
            Some(Err(Skip::NotIp))
        );
        let cooked = |kind: u8| [&[8, 0][..], &[0; 8], &[kind], &[0; 9], &[0x45]].concat();
        assert_eq!(offset(LinkType::LINUX_SLL2, &cooked(0)), Some(Ok(20)));
        assert_eq!(
            offset(LinkType::LINUX_SLL2, &cooked(4)),
            Some(Err(Skip::OtherSide))
        );
        assert_eq!(offset(LinkType::RAW, &[0x45]), Some(Ok(0)));
        assert_eq!(offset(LinkType(105), &[0x45]), None);
    }

    #[test]
    fn n_inv_3_padding_is_no_part_of_a_packet() {
        assert_eq!(trimmed(&[0x45, 0, 0, 5, 9, 0, 0]), [0x45, 0, 0, 5, 9]);
        let v6 = [&[0x60, 0, 0, 0, 0, 1][..], &[0; 34], &[7], &[0; 5]].concat();
        assert_eq!(trimmed(&v6).len(), 41);
        assert_eq!((trimmed(&[0x45]), trimmed(&[])), (&[0x45][..], &[][..]));
        assert_eq!(trimmed(&[0x45, 0, 0xff, 0xff]), [0x45, 0, 0xff, 0xff]);
    }
}
