use vswitch_wire::{IpProtocol, Ipv6Header, TcpSegment, checksum};

use super::*;

#[test]
fn n_fwd_9_the_option_of_a_syn_is_only_lowered() {
    for (version, flags, mss, mtu, after) in [
        (0, 0x02, 1460, 1400, 1360),
        (0, 0x12, 1460, 1400, 1360),
        (0, 0x02, 1460, 1500, 1460),
        (0, 0x02, 536, 1400, 536),
        (0, 0x02, 0xffff, 1500, 1460),
        (0, 0x10, 1460, 1400, 1460),
        (0, 0x11, 1460, 1400, 1460),
        (0, 0x02, 1460, 40, 1460),
        (0, 0x02, 1460, 41, 1),
        (1, 0x02, 1440, 1400, 1340),
        (1, 0x12, 1440, 1500, 1440),
    ] {
        // Even and odd places.
        for padding in [&[][..], &[1], &[1, 1], &[4, 2, 1]] {
            let mut bytes = syn(version, flags, mss, padding);
            let packet = parse(&bytes);
            clamp_mss(&mut bytes, &packet, &Offload::NONE, mtu);
            assert_eq!(bytes, syn(version, flags, after, padding), "{mss} at {mtu}");
            assert!(is_valid(&bytes));
        }
    }
}

#[test]
fn n_fwd_9_a_wrong_checksum_stays_wrong() {
    let mut bytes = syn(0, 2, 1460, &[]);
    bytes[36] ^= 0x55;
    let packet = parse(&bytes);
    clamp_mss(&mut bytes, &packet, &Offload::NONE, 1400);
    assert_eq!(bytes[42..44], 1360u16.to_be_bytes());
    assert!(!is_valid(&bytes));
}

#[test]
fn n_fwd_9_n_ck_7_a_partial_checksum_stays_partial() {
    for version in [0, 1] {
        let mut bytes = syn(version, 2, 1460, &[1]);
        let offload = make_partial(&mut bytes);
        let packet = parse(&bytes);
        let place = offload.checksum.expect("it is partial").place();
        let before = bytes[place..place + 2].to_vec();
        clamp_mss(&mut bytes, &packet, &offload, 1300);
        assert_eq!(bytes[place..place + 2], before);
        complete_checksum(&mut bytes, &packet, offload.checksum.expect("it is partial"));
        assert!(is_valid(&bytes));
    }
}

#[test]
fn n_fwd_9_nothing_is_inserted_and_nothing_else_is_touched() {
    let plain = syn(0, 2, 1460, &[]);
    // Other lengths of the option, none, and one behind the end.
    for options in [[1, 1, 1, 1], [2, 3, 9, 9], [0, 2, 4, 9], [8, 0, 2, 4]] {
        let mut bytes = plain.clone();
        bytes[40..44].copy_from_slice(&options);
        let packet = parse(&bytes);
        let before = bytes.clone();
        clamp_mss(&mut bytes, &packet, &Offload::NONE, 1000);
        assert_eq!(bytes, before, "{options:?}");
    }
    let [src, dst] = BOTH[0];
    let segment = plain[20..].to_vec();
    for recipe in [
        Recipe::new(address(src), address(dst), Upper::Raw(17, segment.clone())),
        Recipe::new(address(src), address(dst), Upper::Raw(6, segment)).fragment(80, false),
    ] {
        let mut bytes = recipe.bytes();
        let packet = parse(&bytes);
        clamp_mss(&mut bytes, &packet, &Offload::NONE, 1000);
        assert_eq!(bytes, recipe.bytes());
    }
}

/// A SYN or another segment with the option, behind other options.
fn syn(version: usize, flags: u8, mss: u16, before: &[u8]) -> Vec<u8> {
    let mut options = [before, &[2, 4], &mss.to_be_bytes()[..]].concat();
    options.resize(options.len().next_multiple_of(4), 0);
    let [src, dst] = BOTH[version];
    let payload = [&options[..], b"odd"].concat();
    let mut bytes = Recipe::new(address(src), address(dst), Upper::Tcp(7000, 80, flags, payload)).bytes();
    let packet = parse(&bytes);
    bytes[packet.transport + 12] = (((20 + options.len()) / 4) << 4) as u8;
    let partial = make_partial(&mut bytes).checksum.expect("it is partial");
    complete_checksum(&mut bytes, &packet, partial);
    bytes
}

fn is_valid(bytes: &[u8]) -> bool {
    let packet = parse(bytes);
    let len = packet.transport_len();
    let (src, dst) = (packet.src, packet.dst);
    let pseudo = match packet.version {
        IpVersion::V4 => {
            checksum::pseudo_header_v4(src.low().into(), dst.low().into(), IpProtocol::TCP, len as u16)
        }
        IpVersion::V6 => {
            assert_eq!(packet.transport, Ipv6Header::LEN);
            let (src, dst) = ((*src.octets()).into(), (*dst.octets()).into());
            checksum::pseudo_header_v6(src, dst, IpProtocol::TCP, len as u32)
        }
    };
    TcpSegment::parse(&bytes[packet.transport..packet.len])
        .expect("a segment")
        .has_valid_checksum(pseudo)
}
