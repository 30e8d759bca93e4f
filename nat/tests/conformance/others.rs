//! §15: protocols without ports, SCTP, and ALGs, of which there are none.

use vswitch_nat::{DropReason, Verdict};

use crate::{
    packets::{dst, ends, raw, src, tcp_with, udp_with, transport, ACK, TCP},
    site::*,
};

const ESP: u8 = 50;
const AH: u8 = 51;
const GRE: u8 = 47;
const IPIP: u8 = 4;
const UDP_LITE: u8 = 136;

#[test]
fn n_op_2_protocols_without_ports_have_one_host_for_each_peer() {
    for protocol in [ESP, GRE, IPIP, 200] {
        let mut site = Site::new();
        let left = site.out(&raw(A, S, protocol, &[7; 16]));
        assert_eq!((src(&left), dst(&left)), (X, S), "{protocol}");
        assert_eq!(transport(&left), [7; 16]);
        let answer = site.back(&raw(S, X, protocol, &[8; 16]));
        assert_eq!(dst(&answer), A);
        assert_eq!(site.refused(INSIDE, &raw(B, S, protocol, &[7; 16])), DropReason::Untranslatable);
        site.out(&raw(B, S3, protocol, &[7; 16]));
        assert_eq!(site.refused(OUTSIDE, &raw(S4, X, protocol, &[8; 16])), DropReason::Unsolicited);
        // When its session is over, another host may have the peer.
        site.settle(secs(601));
        site.out(&raw(B, S, protocol, &[7; 16]));
    }
}

#[test]
fn n_op_2_what_is_authenticated_cannot_be_translated() {
    let mut site = Site::new();
    let header = [6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    assert_eq!(site.refused(INSIDE, &raw(A, S, AH, &header)), DropReason::Untranslatable);
}

#[test]
fn n_op_3_udp_lite_is_translated_by_ports() {
    let mut site = Site::new();
    // Ports, coverage of the header, and a checksum over it.
    let lite = |from: (std::net::IpAddr, u16), to: (std::net::IpAddr, u16)| {
        let mut packet = udp_with(from, to, b"payload");
        packet[9] = UDP_LITE;
        packet[24..26].copy_from_slice(&8u16.to_be_bytes());
        packet[26..28].fill(0);
        let mut sum = 0u32;
        for pair in packet[12..28].chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        sum += u32::from(UDP_LITE) + 15;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        packet[26..28].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        crate::packets::mended(packet)
    };
    let left = site.out(&lite((A, 5000), (S, 53)));
    assert_eq!(left, crate::packets::with_ttl(lite((X, 5000), (S, 53)), 63));
    assert_eq!(ends(&site.back(&lite((S, 53), (X, 5000)))).1, (A, 5000));
    // It is a protocol of its own.
    assert_eq!(site.external((B, 5000), (S, 53)), (X, 5000));
}

/// A control connection of FTP: what it says stays as it is, and opens nothing.
#[test]
fn n_alg_1_there_are_no_algs() {
    let mut site = Site::new();
    let external = site.connect((A, 7000), (S, 21));
    let port = b"PORT 10,0,0,2,19,137\r\n";
    let left = site.out(&tcp_with((A, 7000), (S, 21), ACK, (1001, 5001), &[], port));
    assert_eq!(&transport(&left)[20..], port);
    let pasv = b"227 Entering Passive Mode (198,51,100,2,19,137)\r\n";
    let back = site.back(&tcp_with((S, 21), external, ACK, (5001, 1023), &[], pasv));
    assert_eq!(&transport(&back)[20..], pasv);
    let data = crate::packets::tcp((S, 20), (X, 5001), crate::packets::SYN, 1, 0);
    assert_eq!(site.refused(OUTSIDE, &data), DropReason::Unsolicited);
    assert_eq!(site.conn(INSIDE, TCP, (A, 7000), (S, 21)).map(|conn| conn.is_assured), Some(true));
}

/// SIP over UDP: neither its addresses nor the ports that it names are touched.
#[test]
fn n_alg_1_nor_of_sip_on_any_port() {
    let invite = b"INVITE sip:b@s SIP/2.0\r\nContact: <sip:a@10.0.0.2:5060>\r\nm=audio 4000 RTP/AVP 0\r\n";
    for port in [5060, 5000] {
        let mut site = Site::new();
        let left = site.out(&udp_with((A, port), (S, port), invite));
        assert_eq!(&transport(&left)[8..], invite);
        let media = udp_with((S, 9), (X, 4000), b"media");
        assert_eq!(site.put(OUTSIDE, &media).verdict, Verdict::Drop(DropReason::Unsolicited));
        assert_eq!(site.conns().len(), 1);
    }
}
