//! Options of the handshake (R-OPT).

use vswitch_proxy::{seq::SeqNum, tcp::SynOptions};
use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario, settings},
    segment::Segment,
};

/// The segment size that a SYN with these options leads to, once there is data.
fn data_mss(options: &[u8], default_mss: u16) -> u16 {
    let mut settings = settings();
    settings.default_mss = default_mss;
    let syn = Segment::syn(C, MSS).options(options);
    let mut s = Scenario::with_settings(syn, settings).shake();
    s.serves(10_000);
    let out = s.take();
    assert!(!out.is_empty(), "no data for {options:?}");
    assert!(
        out.iter()
            .all(|emitted| emitted.segment.mss == out[0].segment.mss)
    );
    out[0].segment.mss
}

#[test]
fn r_opt_1_missing_and_silly_segment_sizes() {
    assert_eq!(data_mss(&[], 536), 536);
    assert_eq!(data_mss(&[], 1220), 1220);
    assert_eq!(data_mss(&[2, 4, 0, 0], 536), 48);
    assert_eq!(data_mss(&[2, 4, 0, 47], 536), 48);
    assert_eq!(data_mss(&[2, 4, 0, 49], 536), 49);
    // Behind padding, and behind options that nobody knows.
    assert_eq!(data_mss(&[1, 1, 1, 254, 3, 0, 2, 4, 3, 232], 536), 1000);
}

#[test]
fn r_opt_1_options_cut_anywhere_do_no_harm() {
    let whole = [
        2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 254, 4, 0, 0,
    ];
    for len in 0..=whole.len() {
        for broken in 0..=len {
            let mut options = whole[..len].to_vec();
            // A length of 0, 1 or far beyond the end at each place.
            for value in [0, 1, 255] {
                if let Some(byte) = options.get_mut(broken) {
                    *byte = value;
                }
                let mut s = Scenario::pending_with(Segment::syn(C, MSS).options(&options));
                s.connected();
                assert_eq!(s.out(), ["SA 5000 ack 1001"], "{options:?}");
            }
        }
    }
}

#[test]
fn r_opt_2_the_links_mtu_is_announced() {
    for mss in [536, 1440, 1460, 8960, 65_480] {
        let mut settings = settings();
        settings.mss = mss;
        let mut s = Scenario::with_settings(Segment::syn(C, 1000), settings);
        s.connected();
        let options = s.take()[0].segment.syn_options.expect("options of SYN");
        assert_eq!(
            options,
            SynOptions {
                mss,
                window_scale: None
            },
            "whatever the container takes"
        );
    }
}

#[test]
fn r_opt_3_r_pmtu_1_segments_fit_the_container_and_its_link() {
    for (theirs, ours) in [(1000, 1460), (9000, 1460), (1460, 8960)] {
        let mut settings = settings();
        settings.mss = ours;
        let mut s = Scenario::with_settings(Segment::syn(C, theirs), settings).shake();
        s.serves(50_000);
        let out = s.take();
        assert!(!out.is_empty());
        for emitted in out {
            assert_eq!(emitted.segment.mss, theirs.min(ours));
        }
    }
}

#[test]
fn r_opt_4_the_window_is_scaled_only_if_the_container_offers() {
    let mut s = Scenario::pending();
    s.connected();
    let options = s.take()[0].segment.syn_options.expect("options of SYN");
    assert_eq!(options.window_scale, None);

    let mut s = Scenario::pending_with(Segment::syn(C, MSS).options(&[3, 3, 0]));
    s.connected();
    let synack = &s.take()[0];
    let scale = synack.segment.syn_options.expect("options of SYN").window_scale;
    assert!(
        (1..=8).contains(&scale.expect("an answer to the offer")),
        "{scale:?}"
    );
    assert_eq!(
        synack.segment.window, 65_535,
        "a SYN's window is not scaled: 128 KiB are free"
    );
}

#[test]
fn r_opt_4_the_containers_scale_counts() {
    for (offered, shift) in [(0, 0), (3, 3), (14, 14), (15, 14), (255, 14)] {
        let syn = Segment::syn(C, MSS).options(&[2, 4, 5, 0xb4, 3, 3, offered]);
        // The handshake's ACK is the first segment whose window is scaled.
        let mut s = Scenario::pending_with(syn).scaled(shift);
        s.connected();
        s.take();
        s.sends(Segment::ack(C + 1, G + 1).window(2));
        s.serves(1 << 20);
        let window = 2 << shift;
        let data = s.data();
        let [(0, sent)] = data[..] else {
            panic!("scale {offered}: {data:?}")
        };
        // The last segment may wait until it can be a whole one.
        assert!(
            sent <= window && window - sent < MSS.into(),
            "scale {offered}: {sent} of {window}"
        );
    }
}

#[test]
fn r_opt_4_no_scale_without_an_offer_of_the_container() {
    let mut s = Scenario::established();
    s.host.capacity = 1 << 22;
    s.host.peer_window = 1 << 22;
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 100));
    assert_eq!(s.take()[0].segment.window, 65_535);
}

#[test]
fn r_opt_5_options_that_were_not_agreed_are_ignored() {
    let mut s = Scenario::established();
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
    s.sends(Segment::ack(C + 1, G + 1).options(&timestamps).data(C + 1, 100));
    assert_eq!(s.out(), ["A 5001 ack 1101"]);
    // A scale or a segment size after the handshake changes nothing.
    s.sends(
        Segment::ack(C + 101, G + 1)
            .options(&[2, 4, 0, 100, 3, 3, 14])
            .window(3000),
    );
    s.serves(10_000);
    let out = s.take();
    assert!(out.iter().all(|emitted| emitted.segment.mss == MSS));
    assert!(s.host.sent_until.le(SeqNum(G + 1 + 3000)));
}

#[test]
fn r_opt_7_the_first_number_is_the_callers() {
    for isn in [0, 77, u32::MAX] {
        let mut settings = settings();
        settings.isn = SeqNum(isn);
        let mut s = Scenario::with_settings(Segment::syn(C, MSS), settings);
        s.connected();
        let synack = &s.take()[0].segment;
        assert_eq!(synack.seq.0, isn);
        assert_eq!(synack.flags, TcpFlags::SYN | TcpFlags::ACK);
    }
}
