use super::*;
use crate::frames::Packet;
use std::net::Ipv4Addr;

const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const S: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

fn udp(from: u16) -> Vec<u8> {
    Packet::udp_ports(A, S, from, 53).bytes()
}

#[test]
fn equal_captures_do_not_differ() {
    assert_eq!(differences(&[udp(1), udp(2)], &[udp(1), udp(2)], &[]), None);
    assert_eq!(differences(&[], &[], &[]), None);
}

#[test]
fn a_difference_is_told_by_field_with_both_values_and_in_bytes() {
    let text = differences(&[udp(1), udp(5000)], &[udp(1), udp(5001)], &[]).expect("a port differs");
    assert!(text.starts_with("packet 2:\n"), "{text}");
    assert!(text.contains("udp.src_port: expected 5000, got 5001\n"), "{text}");
    assert!(text.contains("udp.checksum: expected 0x"), "{text}");
    assert!(!text.contains("ip.src"), "{text}");
    // The source port is in bytes 20 and 21, and its second byte differs.
    assert!(text.contains("expected 0010  c6 33 64 02 13 88 "), "{text}");
    assert!(text.contains("     got 0010  c6 33 64 02 13 89 "), "{text}");
    let marker = text.lines().find(|line| line.trim() == "^^").expect("a marker");
    let wanted = text
        .lines()
        .find(|line| line.contains("got 0010"))
        .expect("a line of bytes");
    assert_eq!(marker.find("^^"), wanted.find("89"), "{text}");
}

#[test]
fn missing_and_unexpected_packets_are_described() {
    let text = differences(&[udp(1), udp(2)], &[udp(1)], &[]).expect("one is missing");
    assert!(
        text.contains("packet 2 is missing:") && text.contains("udp.src_port 2"),
        "{text}"
    );
    let text = differences(&[], &[udp(7)], &[]).expect("one is unexpected");
    assert!(text.contains("packet 1 is unexpected:"), "{text}");
}

#[test]
fn what_senders_choose_freely_can_be_ignored_and_nothing_else() {
    let (one, mut other) = ([udp(1)], [udp(1)]);
    (other[0][4], other[0][10]) = (other[0][4] ^ 1, other[0][10] ^ 1);
    assert!(differences(&one, &other, &[Ignored::IpId]).is_some());
    let both = [Ignored::IpId, Ignored::IpChecksum];
    assert_eq!(differences(&one, &other, &both), None);
    other[0][8] ^= 1;
    assert!(differences(&one, &other, &both).is_some());
}

#[test]
fn packets_that_end_anywhere_are_described() {
    let mut error = Packet::udp(S, A).bytes();
    error.extend([3, 3, 0, 0, 0, 0, 0, 0]);
    error.extend(udp(9));
    error[9] = 1;
    for packet in [udp(1), Packet::tcp(A, S).bytes(), error] {
        for end in 0..=packet.len() {
            let text = differences(&[packet[..end].to_vec()], &[], &[]);
            assert!(text.is_some_and(|text| text.contains("missing")));
        }
    }
}
