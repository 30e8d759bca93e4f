//! What differs for any packet: headers, addresses, errors, fragments, other protocols than TCP.

use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_nat::DropReason;

use super::{Aftermath, Row};
use crate::oracle::{
    compare::{Layout, adopt_ports, unfragmented, word},
    errors::is_error,
    flow::version,
    packet::{mend_header, sum},
    plan::{PREFIXES, Side, is_router, router},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "quoted header checksum",
        reason: "N-ICE-3: an error that quotes a damaged header is dropped; Linux mends nothing and passes it on",
        matches: |case| {
            case.is_dropped(DropReason::BadChecksum)
                && quote(case.packet()).is_some_and(|quote| quote[0] >> 4 == 4 && !has_right_header(quote))
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "port 0",
        reason: "N-PORT-13: nobody can answer port 0; Linux translates it",
        matches: |case| {
            let ports = ports(case.packet());
            case.is_dropped(DropReason::ZeroPort) && ports.is_some_and(|ports| ports.contains(&0))
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "source of another network",
        reason: "N-FWD-11: a network's hosts use its addresses; Linux does not ask without rp_filter",
        matches: |case| {
            let source = Layout::of(case.packet()).map(|layout| layout.src);
            case.is_dropped(DropReason::Spoofed)
                && case.step.side == Side::Inside
                && source.is_some_and(|source| !is_on(Side::Inside, source))
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "martian that Linux routes",
        reason: "N-FWD-10: 0/8, 240/4, 169.254/16, broadcasts of subnets, and the router's own addresses as a source",
        matches: |case| {
            let layout = Layout::of(case.packet());
            case.is_dropped(DropReason::Martian)
                && layout.is_some_and(|layout| [layout.src, layout.dst].into_iter().any(is_odd))
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "IPv6 datagram without checksum",
        reason: "N-CK-5: only declared tunnels may leave it out; Linux passes it on",
        matches: |case| {
            let layout = Layout::of(case.packet());
            case.is_dropped(DropReason::BadChecksum)
                && layout.is_some_and(|layout| {
                    layout.src.is_ipv6()
                        && layout.protocol == 17
                        && word(case.packet(), layout.transport + 6) == Some(0)
                })
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "authentication header",
        reason: "N-OP-2: what authenticates the addresses cannot be translated; Linux breaks it",
        matches: |case| {
            let is_dropped = case.reason.is_some() && case.ours.is_empty();
            is_dropped && Layout::of(case.packet()).is_some_and(|layout| layout.protocol == 51)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "neighbours by way of the router",
        reason: "N-FWD-10: hosts of a network reach each other by the switch; Linux routes and masquerades them",
        matches: |case| {
            let layout = Layout::of(case.packet());
            case.reason == Some(DropReason::NoRoute)
                && case.step.side == Side::Inside
                && layout.is_some_and(|layout| is_on(Side::Inside, layout.dst))
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "stamps of the router",
        reason: "N-FWD-8: options survive as they are; Linux adds its address to a recorded route, or a time",
        matches: |case| match (case.kernel, case.ours) {
            ([(side, kernel)], [(our_side, ours)]) if side == our_side => {
                let blank = |packet: &[u8]| {
                    let mut packet = packet.to_vec();
                    let end = usize::from(packet[0] & 15) * 4;
                    packet[20..end].fill(0);
                    mend_header(&mut packet);
                    packet
                };
                let has_stamps = matches!(case.packet().get(20), Some(7 | 68));
                kernel[0] == ours[0] && kernel[0] >> 4 == 4 && has_stamps && blank(kernel) == blank(ours)
            }
            _ => false,
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "implausible MTU",
        reason: "N-ICE-13: MTUs below 552, or 1280 of IPv6, are those of attacks; Linux passes them on",
        matches: |case| {
            let packet = case.packet();
            let Some(layout) = Layout::of(packet) else {
                return false;
            };
            let (kind, at) = (
                packet.get(layout.transport..layout.transport + 2),
                layout.transport,
            );
            let mtu = word(packet, at + 6).unwrap_or_default();
            case.is_dropped(DropReason::Invalid)
                && match (layout.protocol, kind) {
                    (1, Some([3, 4])) => mtu < 552,
                    (58, Some([2, _])) => mtu < 1280,
                    _ => false,
                }
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "error about what is not in flight",
        reason: "N-ICE-13: a quoted sequence number must be one that is not acknowledged; Linux does not look",
        matches: |case| case.is_dropped(DropReason::IcmpUnrelated) && case.step.is_in_flight == Some(false),
        aftermath: Aftermath::None,
    },
    Row {
        name: "multicast listener messages",
        reason: "N-INV-1: what begins no connection does not leave; Linux does not track these, and lets them go as they are",
        matches: |case| {
            let layout = Layout::of(case.packet());
            let kind = layout
                .filter(|layout| layout.protocol == 58)
                .map(|layout| case.packet().get(layout.transport));
            case.is_dropped(DropReason::Invalid)
                && case.step.side == Side::Inside
                && matches!(kind, Some(Some(130..=132 | 143)))
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "malformed options",
        reason: "N-INV-2: what contradicts itself is dropped; Linux reports the place",
        matches: |case| {
            case.is_dropped(DropReason::Malformed)
                && matches!(case.kernel, [(side, error)] if *side == case.step.side && has_type(error, 12))
                && case.packet()[0] & 15 > 5
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "address beyond its scope",
        reason: "N-V6-3: addresses of a link, of no host and of IPv4 do not cross; Linux routes some, and reports others",
        matches: |case| {
            let layout = Layout::of(case.packet());
            case.is_dropped(DropReason::Martian)
                && layout.is_some_and(|layout| {
                    [layout.src, layout.dst].into_iter().any(|address| match address {
                        IpAddr::V4(_) => false,
                        IpAddr::V6(v6) => {
                            v6.is_multicast() || v6.segments()[0] == 0xfe80 || v6.to_ipv4().is_some()
                        }
                    })
                })
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "routing header",
        reason: "N-V6-1: type 0 is refused even when nothing is left to visit; Linux passes that",
        matches: |case| {
            case.is_dropped(DropReason::SourceRoute)
                && matches!(case.packet(), [first, .., ] if first >> 4 == 6)
                && case.packet().get(6) == Some(&43)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "needless fragments",
        reason: "N-FR-10: of IPv6, what came in fragments leaves so; Linux sends it as one packet if that is no larger than \
                 the largest fragment",
        matches: |case| match (case.kernel, unfragmented(case.ours)) {
            ([(side, kernel)], Some((our_side, mut whole))) if *side == our_side => {
                let mut kernel = kernel.clone();
                adopt_ports(&mut kernel, &mut whole, case.chosen);
                kernel == whole
            }
            _ => false,
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "header in two fragments",
        reason: "N-FR-4: of IPv6, the first fragment has all headers; Linux puts them together nevertheless",
        matches: |case| {
            case.step.what == "tiny first fragment"
                && case.ours.is_empty()
                && matches!(case.reason, None | Some(DropReason::Malformed))
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "reporter of an error",
        reason: "N-ICE-5: the outer source stays who it is; Linux puts the peer there if it has changed the client's port",
        matches: |case| match (case.kernel, case.ours) {
            ([(Side::Inside, kernel)], [(Side::Inside, ours)]) if case.step.side == Side::Outside => {
                let (Some(theirs), Some(own)) = (Layout::of(kernel), Layout::of(ours)) else {
                    return false;
                };
                let sent = Layout::of(case.packet()).map(|layout| layout.src);
                let peer = quote(ours).and_then(Layout::of).map(|layout| layout.dst);
                let at = own.transport + 4;
                Some(own.src) == sent && Some(theirs.src) == peer && kernel.get(at..) == ours.get(at..)
            }
            _ => false,
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "second host to one peer",
        reason: "N-OP-2: dropped whatever else is wrong with it; Linux looks at the time to live before",
        matches: |case| {
            case.is_dropped(DropReason::Untranslatable)
                && matches!(case.kernel, [(side, error)] if *side == case.step.side && is_error(error))
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "SCTP chunk out of turn",
        reason: "N-OP-1: nothing but INIT, HEARTBEAT and SHUTDOWN ACK begins an association, and tags must be those agreed on; \
                 Linux lets more begin and end",
        matches: |case| {
            let is_sctp = Layout::of(case.packet()).is_some_and(|layout| layout.protocol == 132);
            is_sctp && case.reason == Some(DropReason::Invalid) && case.ours.is_empty()
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "checksum of a quoted SCTP packet",
        reason: "N-ICE-6: left as it was; Linux computes it of what is quoted, which is wrong",
        matches: |case| match (case.kernel, case.ours) {
            ([(side, kernel)], [(our_side, ours)]) if side == our_side && kernel.len() == ours.len() => {
                let Some(outer) = Layout::of(ours).filter(|layout| layout.is_error(ours)) else {
                    return false;
                };
                let Some(inner) = quote(ours)
                    .and_then(Layout::of)
                    .filter(|layout| layout.protocol == 132)
                else {
                    return false;
                };
                let sum = outer.transport + 2;
                let crc = outer.transport + 8 + inner.transport + 8;
                let differs = |at: usize| kernel[at] != ours[at];
                (0..ours.len())
                    .filter(|&at| differs(at))
                    .all(|at| (sum..sum + 2).contains(&at) || (crc..crc + 4).contains(&at))
            }
            _ => false,
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "short quote",
        reason: "N-OP-2: where addresses are all that counts, they are enough; Linux wants eight bytes of any protocol",
        matches: |case| {
            let quoted = quote(case.packet()).and_then(Layout::of);
            let is_bare = quoted.is_some_and(|quoted| !matches!(quoted.protocol, 1 | 6 | 17 | 58 | 132));
            is_bare
                && case.step.what == "error that quotes too little"
                && case.kernel.is_empty()
                && case.ours.len() == 1
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "short GRE",
        reason: "N-OP-2: four bytes are a header; Linux does not translate less than eight",
        matches: |case| {
            let layout = Layout::of(case.packet()).filter(|layout| layout.protocol == 47);
            let is_short = layout.is_some_and(|layout| layout.end < layout.transport + 8);
            is_short && case.kernel.is_empty() && case.ours.len() == 1
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "node information",
        reason: "N-ICQ-1: may be left out: the names of hosts are nobody's business outside",
        matches: |case| {
            let layout = Layout::of(case.packet()).filter(|layout| layout.protocol == 58);
            let kind = layout.and_then(|layout| case.packet().get(layout.transport));
            case.is_dropped(DropReason::Invalid) && matches!(kind, Some(139 | 140))
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "told before it is judged",
        reason: "N-FWD-1: whoever's packet has come too far hears so, whatever its segment is worth",
        matches: |case| {
            let is_late = matches!(case.reason, Some(DropReason::TimeExceeded | DropReason::Mtu));
            is_late && case.kernel.is_empty() && matches!(case.ours, [(side, _)] if *side == case.step.side)
        },
        aftermath: Aftermath::None,
    },
    Row {
        name: "who complains",
        reason: "N-FWD-2, N-FWD-5: errors come from the address that is next to the sender, and quote what it sent; Linux \
                 translates those about published ports, and sends those about large packets of IPv6 as the far side",
        matches: |case| {
            let ([(side, kernel)], [(our_side, ours)]) = (case.kernel, case.ours) else {
                return false;
            };
            let (Some(theirs), Some(own)) = (Layout::of(kernel), Layout::of(ours)) else {
                return false;
            };
            let at = own.transport;
            side == our_side
                && case.reason.is_some()
                && own.src == router(*side, version(own.src))
                && own.dst == theirs.dst
                // The same message about what was sent; of IPv6 the kernel has counted the hop already.
                && kernel.get(at..at + 2) == ours.get(at..at + 2)
                && kernel.get(at + 4..at + 8) == ours.get(at + 4..at + 8)
                && kernel.get(at + 16..) == ours.get(at + 16..)
                && quote(ours).is_some_and(|quote| case.step.packets[0].starts_with(quote))
        },
        aftermath: Aftermath::None,
    },
];

/// The packet that an ICMP error quotes.
fn quote(packet: &[u8]) -> Option<&[u8]> {
    let layout = Layout::of(packet).filter(|layout| layout.is_error(packet))?;
    packet
        .get(layout.transport + 8..)
        .filter(|quote| !quote.is_empty())
}

/// Whether it is an ICMP message of that type.
fn has_type(packet: &[u8], kind: u8) -> bool {
    let layout = Layout::of(packet).filter(|layout| layout.protocol == 1);
    layout.is_some_and(|layout| packet.get(layout.transport) == Some(&kind))
}

fn has_right_header(packet: &[u8]) -> bool {
    let length = usize::from(packet[0] & 15) * 4;
    packet.get(..length).is_some_and(|header| sum(header) == 0xffff)
}

/// Source and destination port.
fn ports(packet: &[u8]) -> Option<[u16; 2]> {
    let layout = Layout::of(packet).filter(|layout| matches!(layout.protocol, 6 | 17 | 132))?;
    Some([
        word(packet, layout.transport)?,
        word(packet, layout.transport + 2)?,
    ])
}

/// Whether an address is of a side's network.
fn is_on(side: Side, address: IpAddr) -> bool {
    let prefixes = PREFIXES[side as usize]
        .iter()
        .filter_map(|text| text.parse::<IpNet>().ok());
    prefixes.into_iter().any(|prefix| prefix.contains(&address))
}

/// Whether it is one of those that Linux routes nevertheless.
fn is_odd(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, .., last] = v4.octets();
            let of_subnet = [Side::Inside, Side::Outside]
                .iter()
                .any(|&side| is_on(side, address));
            first == 0
                || first >= 240
                || is_router(address)
                || [first, second] == [169, 254]
                || of_subnet && matches!(last, 0 | 255)
        }
        IpAddr::V6(_) => is_router(address),
    }
}
