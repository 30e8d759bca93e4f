//! §15: protocols without ports, SCTP, and ALGs, of which there are none.

use vswitch_nat::{DropReason, Verdict};

use crate::{
    packets::{ACK, SCTP, TCP, crc32c, dst, ends, raw, sctp, src, tcp_with, transport, udp_with},
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
        assert_eq!(
            site.refused(INSIDE, &raw(B, S, protocol, &[7; 16])),
            DropReason::Untranslatable
        );
        site.out(&raw(B, S3, protocol, &[7; 16]));
        assert_eq!(
            site.refused(OUTSIDE, &raw(S4, X, protocol, &[8; 16])),
            DropReason::Unsolicited
        );
        // When its session is over, another host may have the peer.
        site.settle(secs(601));
        site.out(&raw(B, S, protocol, &[7; 16]));
    }
}

#[test]
fn n_op_2_what_is_authenticated_cannot_be_translated() {
    let mut site = Site::new();
    let header = [
        6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];
    assert_eq!(
        site.refused(INSIDE, &raw(A, S, AH, &header)),
        DropReason::Untranslatable
    );
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
    assert_eq!(
        site.conn(INSIDE, TCP, (A, 7000), (S, 21))
            .map(|conn| conn.is_assured),
        Some(true)
    );
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
        assert_eq!(
            site.put(OUTSIDE, &media).verdict,
            Verdict::Drop(DropReason::Unsolicited)
        );
        assert_eq!(site.conns().len(), 1);
    }
}

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;

/// What INIT and INIT ACK say: a tag, a window, streams, a sequence number.
fn offer(tag: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &[0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1]].concat()
}

/// The checksum of an SCTP packet that leaves.
fn assert_crc(packet: &[u8]) {
    let mut content = transport(packet).to_vec();
    let field: [u8; 4] = content[8..12].try_into().expect("four bytes");
    content[8..12].fill(0);
    assert_eq!(u32::from_le_bytes(field), crc32c(&content), "{packet:02x?}");
}

#[test]
fn n_op_1_an_association_of_sctp_from_beginning_to_end() {
    let mut site = Site::new();
    // A has the port, so that B's must change, and with it the checksum.
    site.out(&sctp((A, 1000), (S, 80), 0, (INIT, 0), &offer(7)));
    let (from, to) = ((B, 1000), (S, 80));
    let left = site.out(&sctp(from, to, 0, (INIT, 0), &offer(11)));
    assert_crc(&left);
    let shown = ends(&left).0;
    assert_eq!(shown.0, X);
    assert!((600..=1023).contains(&shown.1) && shown.1 != 1000, "{shown:?}");
    for (packet, from_inside, state) in [
        (
            sctp(to, shown, 11, (INIT_ACK, 0), &offer(22)),
            false,
            "COOKIE_WAIT",
        ),
        (
            sctp(from, to, 22, (COOKIE_ECHO, 0), &[1; 8]),
            true,
            "COOKIE_ECHOED",
        ),
        (sctp(to, shown, 11, (COOKIE_ACK, 0), &[]), false, "ESTABLISHED"),
    ] {
        let left = match from_inside {
            true => site.out(&packet),
            false => site.back(&packet),
        };
        assert_crc(&left);
        let conn = site.conn(INSIDE, SCTP, from, to).expect("it lives");
        assert_eq!(conn.state, Some(state));
    }
    let conn = site.conn(INSIDE, SCTP, from, to).expect("it lives");
    assert_eq!(seconds(conn.remaining), 210);
    assert_eq!(
        site.refused(OUTSIDE, &sctp(to, shown, 99, (ABORT, 0), &[])),
        DropReason::Invalid
    );
    site.back(&sctp(to, shown, 11, (ABORT, 0), &[]));
    let conn = site.conn(INSIDE, SCTP, from, to).expect("for ten seconds");
    assert_eq!((conn.state, seconds(conn.remaining)), (Some("CLOSED"), 10));
}

#[test]
fn n_op_1_a_checksum_that_is_wrong_is_dropped_and_addresses_do_not_count() {
    let mut site = Site::new();
    let init = sctp((A, 1000), (S, 80), 0, (INIT, 0), &offer(7));
    let mut wrong = init.clone();
    wrong[28] ^= 1;
    assert_eq!(site.refused(INSIDE, &wrong), DropReason::BadChecksum);
    let left = site.out(&init);
    assert_eq!(
        transport(&left),
        transport(&init),
        "the port was kept, and so the checksum"
    );
}

#[test]
fn n_op_1_what_begins_no_association_begins_nothing() {
    let mut site = Site::new();
    for kind in [INIT_ACK, COOKIE_ECHO, COOKIE_ACK, ABORT, 0] {
        let packet = sctp((A, 1000), (S, 80), 5, (kind, 0), &[0; 16]);
        assert!(
            matches!(
                site.refused(INSIDE, &packet),
                DropReason::Invalid | DropReason::Malformed
            ),
            "{kind}"
        );
    }
    // Nor does an INIT with a tag.
    assert_eq!(
        site.refused(INSIDE, &sctp((A, 1000), (S, 80), 5, (INIT, 0), &offer(7))),
        DropReason::Invalid
    );
}

#[test]
fn n_op_1_a_published_port_of_sctp() {
    let mut site = Site::new();
    site.publish(SCTP, 8080, (B, 80));
    let left = site.back(&sctp((S, 1000), (X, 8080), 0, (INIT, 0), &offer(7)));
    assert_crc(&left);
    assert_eq!(ends(&left).1, (B, 80));
    let answer = site.out(&sctp((B, 80), (S, 1000), 7, (INIT_ACK, 0), &offer(8)));
    assert_crc(&answer);
    assert_eq!(ends(&answer).0, (X, 8080));
}
