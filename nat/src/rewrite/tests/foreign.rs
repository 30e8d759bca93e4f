//! What another implementation makes of translated packets.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use vswitch_wire::IpVersion;

use super::{super::sample::*, translated};

/// That etherparse computes the same checksums; how many it knows.
fn agreed(bytes: &[u8]) -> usize {
    let packet = SlicedPacket::from_ip(bytes).unwrap();
    let addresses = match packet.net.as_ref().unwrap() {
        NetSlice::Ipv4(v4) => {
            let header = v4.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            Ok((header.source(), header.destination()))
        }
        NetSlice::Ipv6(v6) => Err((v6.header().source(), v6.header().destination())),
        NetSlice::Arp(_) => unreachable!("an IP packet"),
    };
    match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let computed = match addresses {
                Ok((src, dst)) => tcp.calc_checksum_ipv4(src, dst),
                Err((src, dst)) => tcp.calc_checksum_ipv6(src, dst),
            };
            assert_eq!(computed.unwrap(), tcp.checksum());
        }
        Some(TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            let computed = match addresses {
                Ok((src, dst)) => header.calc_checksum_ipv4_raw(src, dst, udp.payload()),
                Err((src, dst)) => header.calc_checksum_ipv6_raw(src, dst, udp.payload()),
            };
            assert_eq!(computed.unwrap(), udp.checksum());
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let mut header = icmp.header();
            header.update_checksum(icmp.payload());
            assert_eq!(header.checksum, icmp.checksum());
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (src, dst) = addresses.unwrap_err();
            assert!(icmp.is_checksum_valid(src, dst));
        }
        _ => return 0,
    }
    1
}

#[test]
fn n_ck_2_etherparse_finds_the_checksums_right() {
    let mut random = Random(0x6e61_7436);
    let mut known = 0;
    for _ in 0..200 {
        for (version, protocol) in PROTOCOLS {
            let mut sample = Sample::random(&mut random, version, protocol);
            // etherparse wants an ICMP timestamp to have the length that RFC 792 gives it.
            if version == IpVersion::V4 && !matches!(sample.kind, 0 | 8) {
                sample.kind = 8;
            }
            known += agreed(&translated(&sample.bytes(), &random.ends(version)));
        }
    }
    assert_eq!(known, 200 * 6);
}
