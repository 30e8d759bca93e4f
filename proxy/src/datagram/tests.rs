use vswitch_wire::Ipv4Packet;

use crate::mock::Side;

use super::*;

const V4: [&str; 2] = ["10.0.0.2:40000", "203.0.113.5:80"];
const V6: [&str; 2] = ["[fd00::2]:40000", "[2001:db8::5]:80"];

#[test]
fn r_udp_14_checksums_are_valid_and_never_missing() {
    for [container, remote] in [V4, V6] {
        let mut side = Side::new(container, remote);
        for len in [0, 1, 2, 1400] {
            let payload = pattern(len);
            assert_eq!(send(&mut side, &payload, None), len);
            assert_eq!(side.datagrams(), [payload]);
        }
        assert_eq!(side.counters, Counters::default());
    }
}

#[test]
fn r_udp_14_a_sum_of_zero_is_sent_as_all_ones() {
    let mut side = Side::new(V6[0], V6[1]);
    let mut payload = pattern(3000);
    // The two bytes that bring the sum of a fragmented datagram to 0.
    payload[..2].fill(0);
    send(&mut side, &payload, None);
    let first = side.wire_frames().swap_remove(0);
    let checksum = u16::from_be_bytes([first[14 + 48 + 6], first[14 + 48 + 7]]);
    payload[..2].copy_from_slice(&checksum.to_be_bytes());
    send(&mut side, &payload, None);
    let first = side.wire_frames().swap_remove(0);
    assert_eq!(first[14 + 48 + 6..14 + 48 + 8], [0xff, 0xff]);
}

#[test]
fn r_udp_11_equal_datagrams_go_as_one_super_frame() {
    for [container, remote] in [V4, V6] {
        let mut side = Side::new(container, remote);
        let payload = pattern(10 * 1400 + 3);
        assert_eq!(send(&mut side, &payload, Some(1400)), payload.len());
        assert_eq!(side.link.frames.len(), 1);
        let expected: Vec<_> = payload.chunks(1400).map(<[u8]>::to_vec).collect();
        assert_eq!(side.datagrams(), expected);
    }
}

#[test]
fn r_udp_11_no_super_frame_exceeds_its_limits() {
    for [container, remote] in [V4, V6] {
        for (size, len) in [(10, 5000), (1452, 65_507), (1, 300)] {
            let mut side = Side::new(container, remote);
            let payload = pattern(len);
            assert_eq!(send(&mut side, &payload, Some(size)), len);
            for (frame, offload) in &side.link.frames {
                assert!(frame.len() <= 14 + usize::from(u16::MAX));
                assert!(offload.segments(frame.len()) <= MAX_UDP_SEGMENTS);
            }
            let expected: Vec<_> = payload.chunks(size.into()).map(<[u8]>::to_vec).collect();
            assert_eq!(side.datagrams(), expected);
        }
    }
}

#[test]
fn r_udp_10_a_large_datagram_is_fragmented() {
    for [container, remote] in [V4, V6] {
        for len in [1473, 6000, 65_000] {
            let mut side = Side::new(container, remote);
            let payload = pattern(len);
            assert_eq!(send(&mut side, &payload, None), len);
            let frames = side.wire_frames();
            assert!(frames.iter().all(|frame| frame.len() <= 14 + 1500));
            assert_eq!(side.counters.fragmented, 1);
            assert_eq!(reassemble(&side, &frames), payload, "{len} bytes to {container}");
        }
    }
}

#[test]
fn r_udp_10_segments_beyond_the_mtu_are_fragmented_each() {
    let mut side = Side::new(V4[0], V4[1]);
    let payload = pattern(7000);
    assert_eq!(send(&mut side, &payload, Some(3000)), 7000);
    let frames = side.wire_frames();
    assert_eq!(frames.len(), 3 + 3 + 1);
    assert_eq!(reassemble(&side, &frames[..3]), payload[..3000]);
    assert_eq!(reassemble(&side, &frames[3..6]), payload[3000..6000]);
    assert_eq!(side.datagram_of(&frames[6]), payload[6000..]);
}

#[test]
fn n_fr_8_each_fragmented_packet_has_a_fresh_id() {
    let mut side = Side::new(V4[0], V4[1]);
    let mut ids = Vec::new();
    for _ in 0..3 {
        send(&mut side, &pattern(2000), None);
        let frames = side.wire_frames();
        let packets = frames
            .iter()
            .map(|frame| Ipv4Packet::parse(&frame[14..]).expect("IPv4"));
        let of_packet: Vec<_> = packets.map(|packet| packet.header().id()).collect();
        assert_eq!(of_packet[0], of_packet[1]);
        ids.push(of_packet[0]);
    }
    assert_eq!(ids, [0xffff, 0, 1]);
}

#[test]
fn r_udp_a_full_device_drops_and_counts() {
    let mut side = Side::new(V4[0], V4[1]);
    side.link.delivery = Delivery::Full;
    assert_eq!(send(&mut side, &pattern(100), None), 0);
    assert_eq!(send(&mut side, &pattern(1000), Some(100)), 0);
    assert_eq!(send(&mut side, &pattern(5000), None), 0);
    assert_eq!(side.counters.dropped_full, 1 + 10 + 1);
    side.link.delivery = Delivery::Refused;
    assert_eq!(send(&mut side, &pattern(100), None), 0);
    assert_eq!(side.counters.dropped_refused, 1);
}

impl Side {
    fn datagram_of(&mut self, frame: &[u8]) -> Vec<u8> {
        self.link.frames.push((frame.to_vec(), Offload::NONE));
        self.datagrams().swap_remove(0)
    }
}

fn send(side: &mut Side, payload: &[u8], segment: Option<u16>) -> usize {
    let mut buffer = vec![0; HEADROOM];
    buffer.extend_from_slice(payload);
    let end = buffer.len();
    side.inbound().send_udp(&mut buffer, HEADROOM..end, segment)
}

/// The payload of the datagram, by another implementation.
fn reassemble(side: &Side, frames: &[Vec<u8>]) -> Vec<u8> {
    use etherparse::{SlicedPacket, UdpHeader, defrag::IpDefragPool};
    let mut pool = IpDefragPool::<(), ()>::new();
    let mut whole = None;
    for frame in frames {
        assert!(whole.is_none(), "nothing comes after the last fragment");
        let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
        if let Some(etherparse::NetSlice::Ipv4(ip)) = &packet.net {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert!(!ip.dont_fragment);
        }
        whole = pool
            .process_sliced_packet(&packet, (), ())
            .expect("fragments that fit");
    }
    let whole = whole.expect("all fragments").payload;
    let (header, payload) = UdpHeader::from_slice(&whole).expect("a datagram");
    let expected = match (side.path.remote.ip(), side.path.container.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            header.calc_checksum_ipv4_raw(src.octets(), dst.octets(), payload)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            header.calc_checksum_ipv6_raw(src.octets(), dst.octets(), payload)
        }
        _ => panic!("one version"),
    };
    assert_eq!(Ok(header.checksum), expected);
    payload.to_vec()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + index / 251) as u8).collect()
}
