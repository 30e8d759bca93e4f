use std::net::Ipv6Addr;

use zerocopy::IntoBytes;

use super::*;
use crate::{checksum, tests::mutilate};

const MAC: MacAddr = MacAddr([2, 0x42, 10, 0, 0, 1]);

fn router() -> Ipv6Addr {
    "fe80::1".parse().unwrap()
}

fn host() -> Ipv6Addr {
    "fd00::2".parse().unwrap()
}

fn all_nodes() -> Ipv6Addr {
    "ff02::1".parse().unwrap()
}

/// A packet with this ICMPv6 message, whose checksum is filled in.
fn packet(src: Ipv6Addr, dst: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut header = Ipv6Header::new(src, dst, IpProtocol::ICMPV6, message.len()).unwrap();
    header.set_hop_limit(HOP_LIMIT);
    let mut packet = [header.as_bytes(), message].concat();
    packet[42..44].fill(0);
    let sum = icmpv6::pseudo_header(src, dst, message.len()) + checksum::sum(&packet[40..]);
    packet[42..44].copy_from_slice(&checksum::finish(sum).to_be_bytes());
    packet
}

fn parse(packet: &[u8]) -> Result<Option<NdpMessage<'_>>, Malformed> {
    NdpMessage::parse(&Ipv6Packet::parse(packet)?)
}

fn error(packet: &[u8]) -> Option<Malformed> {
    parse(packet).err()
}

/// Type, code, checksum, four bytes, and the rest.
fn message(kind: u8, rest: [u8; 4], parts: &[&[u8]]) -> Vec<u8> {
    [&[kind, 0, 0, 0][..], &rest, &parts.concat()].concat()
}

fn source_option() -> Vec<u8> {
    [&[1, 1][..], &MAC.0].concat()
}

fn prefix_option() -> Vec<u8> {
    let lifetimes = [0, 0, 0x0e, 0x10, 0, 0, 7, 8, 0, 0, 0, 0];
    let prefix: Ipv6Addr = "fd00::".parse().unwrap();
    [&[3, 4, 64, 0xc0][..], &lifetimes, &prefix.octets()].concat()
}

fn advertisement_of_router() -> Vec<u8> {
    let mtu = [5, 1, 0, 0, 0, 0, 5, 0xdc];
    message(
        134,
        [64, 0x80, 7, 8],
        &[&[0; 8], &source_option(), &mtu, &prefix_option()],
    )
}

#[test]
fn an_address_probe_is_what_we_read() {
    let mut out = [0; AddressProbe::LEN];
    let len = AddressProbe { target: host() }.emit(&mut out).unwrap();
    let bytes = packet(Ipv6Addr::UNSPECIFIED, solicited_node(host()), &out[..len]);
    assert_eq!(bytes[40..], out, "the checksum was right");
    let message = parse(&bytes).unwrap().unwrap();
    assert!(
        matches!(message, NdpMessage::NeighborSolicitation { target, .. } if target == host()),
        "{message:?}"
    );
    assert_eq!(message.source_mac(), None);
    assert!(
        AddressProbe { target: host() }
            .emit(&mut [0; AddressProbe::LEN - 1])
            .is_err()
    );
}

#[test]
fn what_we_emit_is_what_we_read() {
    let advertisement = NeighborAdvertisement {
        router: true,
        solicited: true,
        overrides: false,
        target: host(),
        mac: MAC,
    };
    let mut out = [0xa5; 40];
    let len = advertisement.emit(host(), router(), &mut out).unwrap();
    assert_eq!(len, NeighborAdvertisement::LEN);
    assert_eq!(out[len..], [0xa5; 8]);
    let bytes = packet(host(), router(), &out[..len]);
    assert_eq!(bytes[40..], out[..len], "the checksum was right");
    let message = parse(&bytes).unwrap().unwrap();
    let NdpMessage::NeighborAdvertisement {
        router,
        solicited,
        overrides,
        target,
        ..
    } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!(
        (router, solicited, overrides, target),
        (true, true, false, host())
    );
    assert_eq!((message.target_mac(), message.source_mac()), (Some(MAC), None));

    let solicitation = NeighborSolicitation {
        target: host(),
        mac: MAC,
    };
    let len = solicitation
        .emit(self::router(), solicited_node(host()), &mut out)
        .unwrap();
    let bytes = packet(self::router(), solicited_node(host()), &out[..len]);
    assert_eq!(bytes[40..], out[..len], "the checksum was right");
    let message = parse(&bytes).unwrap().unwrap();
    assert!(matches!(message, NdpMessage::NeighborSolicitation { target, .. } if target == host()));
    assert_eq!((message.target_mac(), message.source_mac()), (None, Some(MAC)));

    assert_eq!(solicitation.emit(host(), host(), &mut out[..31]), Err(NoRoom));
}

#[test]
fn a_router_advertisement_is_read() {
    let bytes = packet(router(), all_nodes(), &advertisement_of_router());
    let message = parse(&bytes).unwrap().unwrap();
    let NdpMessage::RouterAdvertisement {
        hop_limit,
        managed,
        other,
        lifetime,
        options,
    } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!((hop_limit, managed, other, lifetime), (64, true, false, 1800));
    let prefix = PrefixInformation {
        prefix: "fd00::".parse().unwrap(),
        len: 64,
        on_link: true,
        autonomous: true,
        valid_lifetime: 3600,
        preferred_lifetime: 1800,
    };
    let options: Vec<_> = options.map(Result::unwrap).collect();
    assert_eq!(
        options,
        [
            NdpOption::SourceLinkLayer(MAC),
            NdpOption::Mtu(1500),
            NdpOption::Prefix(prefix)
        ]
    );
}

#[test]
fn a_redirect_is_read() {
    let better: Ipv6Addr = "fe80::9".parse().unwrap();
    let quoted = [&[4, 2, 0, 0, 0, 0, 0, 0][..], b"quoted!!"].concat();
    let bytes = packet(
        router(),
        host(),
        &message(137, [0; 4], &[&better.octets(), &host().octets(), &quoted]),
    );
    let message = parse(&bytes).unwrap().unwrap();
    let NdpMessage::Redirect {
        target,
        destination,
        mut options,
    } = message
    else {
        panic!("{message:?}")
    };
    assert_eq!((target, destination), (better, host()));
    assert_eq!(options.next(), Some(Ok(NdpOption::RedirectedHeader(b"quoted!!"))));
}

#[test]
fn a_router_solicitation_is_read() {
    let bytes = packet(Ipv6Addr::UNSPECIFIED, all_nodes(), &message(133, [0; 4], &[]));
    assert!(matches!(
        parse(&bytes),
        Ok(Some(NdpMessage::RouterSolicitation { .. }))
    ));
    let bytes = packet(
        Ipv6Addr::UNSPECIFIED,
        all_nodes(),
        &message(133, [0; 4], &[&source_option()]),
    );
    assert_eq!(error(&bytes), Some(Malformed::Address));
}

#[test]
fn other_packets_are_none() {
    let echo = packet(router(), host(), &message(128, [0, 1, 0, 1], &[]));
    assert!(matches!(parse(&echo), Ok(None)));
    let mut udp = echo;
    udp[6] = 17;
    assert!(matches!(parse(&udp), Ok(None)));
}

/// RFC 4861 §6.1.2, one broken rule a case.
#[test]
fn invalid_advertisements_are_refused() {
    let good = packet(router(), all_nodes(), &advertisement_of_router());
    assert_eq!(error(&good), None);

    let mut forwarded = good.clone();
    forwarded[7] = 254;
    assert_eq!(error(&forwarded), Some(Malformed::HopLimit));

    let mut changed = good.clone();
    changed[60] ^= 1;
    assert_eq!(error(&changed), Some(Malformed::Checksum));

    let mut other_code = good[40..].to_vec();
    other_code[1] = 1;
    assert_eq!(
        error(&packet(router(), all_nodes(), &other_code)),
        Some(Malformed::Type)
    );

    let from_global = packet(host(), all_nodes(), &good[40..]);
    assert_eq!(error(&from_global), Some(Malformed::Address));

    let short = packet(router(), all_nodes(), &good[40..52]);
    assert_eq!(error(&short), Some(Malformed::Truncated));
}

#[test]
fn invalid_options_are_refused() {
    for (name, option) in [
        ("length zero", &[1, 0, 2, 0x42, 10, 0, 0, 1][..]),
        ("length beyond the message", &[1, 2, 2, 0x42, 10, 0, 0, 1]),
        ("half an option", &[1, 1, 2, 0x42]),
        ("one byte", &[1]),
    ] {
        let solicitation = message(133, [0; 4], &[&source_option(), option]);
        assert_eq!(
            error(&packet(host(), all_nodes(), &solicitation)),
            Some(Malformed::OptionLength),
            "{name}"
        );
        let mut options = NdpOptions::new(option);
        assert_eq!(options.next(), Some(Err(Malformed::OptionLength)), "{name}");
        assert_eq!(options.next(), None, "{name}");
    }
}

/// RFC 4861 §7.1.1 and §7.1.2.
#[test]
fn neighbor_messages_with_addresses_that_do_not_fit_are_refused() {
    let solicitation = |src, dst, target: Ipv6Addr, options: &[u8]| {
        error(&packet(
            src,
            dst,
            &message(135, [0; 4], &[&target.octets(), options]),
        ))
    };
    let any = Ipv6Addr::UNSPECIFIED;
    assert_eq!(solicitation(any, solicited_node(host()), host(), &[]), None);
    assert_eq!(solicitation(any, host(), host(), &[]), Some(Malformed::Address));
    assert_eq!(
        solicitation(any, solicited_node(host()), host(), &source_option()),
        Some(Malformed::Address)
    );
    assert_eq!(solicitation(router(), host(), host(), &source_option()), None);
    assert_eq!(
        solicitation(router(), host(), all_nodes(), &[]),
        Some(Malformed::Address)
    );

    let advertisement = |dst, flags, target: Ipv6Addr| {
        error(&packet(
            host(),
            dst,
            &message(136, [flags, 0, 0, 0], &[&target.octets()]),
        ))
    };
    assert_eq!(advertisement(all_nodes(), 0x20, host()), None);
    assert_eq!(advertisement(all_nodes(), 0x60, host()), Some(Malformed::Address));
    assert_eq!(advertisement(router(), 0x60, host()), None);
    assert_eq!(
        advertisement(router(), 0x60, all_nodes()),
        Some(Malformed::Address)
    );
}

/// RFC 7113: a guard that does not look behind extension headers is no guard. RFC 6980: fragments are
/// ignored.
#[test]
fn advertisements_behind_extension_headers_are_seen() {
    let plain = packet(router(), all_nodes(), &advertisement_of_router());
    let with = |kind: u8, extension: [u8; 8]| {
        let mut bytes = plain.clone();
        bytes.splice(40..40, extension);
        bytes[6] = kind;
        let len = (bytes.len() - 40) as u16;
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        bytes
    };
    let options = with(60, [58, 0, 1, 4, 0, 0, 0, 0]);
    assert!(matches!(
        parse(&options),
        Ok(Some(NdpMessage::RouterAdvertisement { .. }))
    ));
    let atomic_fragment = with(44, [58, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(error(&atomic_fragment), Some(Malformed::Fragment));
}

#[test]
fn groups_of_an_address() {
    let address: Ipv6Addr = "fe80::2aa:ff:fe28:9c5a".parse().unwrap();
    assert_eq!(
        solicited_node(address),
        "ff02::1:ff28:9c5a".parse::<Ipv6Addr>().unwrap()
    );
    assert_eq!(
        multicast_mac(solicited_node(address)).to_string(),
        "33:33:ff:28:9c:5a"
    );
}

#[test]
fn parsing_survives_mutilation() {
    for message in [
        advertisement_of_router(),
        message(
            137,
            [0; 4],
            &[
                &router().octets(),
                &host().octets(),
                &[4, 2, 0, 0, 0, 0, 0, 0],
                &[0; 8],
            ],
        ),
        message(135, [0; 4], &[&host().octets(), &source_option()]),
    ] {
        // With each checksum put right, so that what lies behind that check is reached.
        mutilate(&message, message.len(), |bytes| {
            if bytes.len() >= 4 {
                let bytes = packet(router(), all_nodes(), bytes);
                if let Ok(Some(message)) = parse(&bytes) {
                    let _ = (message.source_mac(), message.target_mac());
                }
            }
        });
    }
}
