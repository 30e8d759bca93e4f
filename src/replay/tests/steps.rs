//! What a run does besides translating.

use vswitch_nat::DropReason;
use vswitch_testkit::frames::{Arp, Packet, mac};

use super::samples::{A, S, X, capture, config, play, udp};
use crate::replay::{Fate, Origin, Skip, capture::LinkType, link};

const ETHERNET: LinkType = LinkType::ETHERNET;
const SECOND: u64 = 1_000_000_000;

/// Names of the sides that packets are found to come from.
fn sides(tables: &str, interfaces: &[(&str, LinkType)], packets: &[(usize, Vec<u8>)]) -> Vec<Option<String>> {
    let packets: Vec<_> = packets
        .iter()
        .map(|(interface, bytes)| (*interface, 0, bytes.clone()))
        .collect();
    let (played, _) = play(&config("", tables), &capture(interfaces, &packets)).expect("it is a capture");
    played.into_iter().map(|step| step.side).collect()
}

fn some(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn a_side_is_found_by_the_name_of_its_interface() {
    let packets = [(0, udp(S, A, 1, 2)), (1, udp(A, S, 1, 2))];
    let found = sides("", &[("lan", ETHERNET), ("outside", ETHERNET)], &packets);
    assert_eq!(
        found,
        [some("lan"), some("outside")],
        "the addresses do not count"
    );
    let found = sides(
        "interface = \"wan0\"",
        &[("wan0", ETHERNET), ("lan", ETHERNET)],
        &packets,
    );
    assert_eq!(found, [some("outside"), some("lan")]);
}

#[test]
fn a_side_is_found_by_the_number_of_its_interface() {
    let packets = [(0, udp(A, S, 1, 2)), (1, udp(A, S, 1, 2))];
    let found = sides(
        "interface = \"1\"",
        &[("eth0", ETHERNET), ("eth1", ETHERNET)],
        &packets,
    );
    assert_eq!(found, [some("lan"), some("outside")]);
}

#[test]
fn on_one_interface_what_was_sent_to_the_routers_address_arrives() {
    let to = |n| Packet::udp(S, X).frame(mac(9), mac(n)).bytes();
    let found = sides(
        "mac = \"02:00:00:00:00:01\"",
        &[("any", ETHERNET)],
        &[(0, to(1)), (0, to(3))],
    );
    assert_eq!(found, [some("outside"), None], "the other leaves");
}

#[test]
fn without_names_the_source_tells_the_side() {
    let packet = |src, dst| Packet::udp(src, dst).bytes();
    let found = sides(
        "",
        &[("any", LinkType::RAW)],
        &[(0, packet(A, S)), (0, packet(S, X))],
    );
    assert_eq!(found, [some("lan"), some("outside")]);
}

#[test]
fn what_is_no_routers_business_is_skipped_and_counted() {
    let mut cooked = vec![0, 4];
    cooked.resize(14, 0);
    cooked.extend([8, 0]);
    cooked.extend(Packet::udp(A, S).bytes());
    let to_group = Packet::udp(A, S)
        .frame(mac(2), vswitch_wire::MacAddr::BROADCAST)
        .bytes();
    let mut long = capture(&[("lan", ETHERNET)], &[(0, 0, udp(A, S, 1, 2))]);
    // The original length of the last packet.
    let place = long.len() - 4 - udp(A, S, 1, 2).len().next_multiple_of(4) - 4;
    long[place] += 1;
    let frames = [
        (0, 0, Arp::request(mac(2), A, S).frame().bytes()),
        (1, 0, cooked),
        (0, 0, to_group),
    ];
    let config = config("", "");
    let (played, report) = play(
        &config,
        &capture(&[("lan", ETHERNET), ("any", LinkType::LINUX_SLL)], &frames),
    )
    .expect("it is a capture");
    let fates: Vec<_> = played.iter().map(|step| step.fate).collect();
    assert_eq!(
        fates,
        [Skip::NotIp, Skip::OtherSide, Skip::Group].map(Fate::Skipped)
    );
    assert_eq!(
        (report.packets, report.skipped, report.emitted),
        (3, [0, 1, 1, 1], 0)
    );
    let (played, report) = play(&config, &long).expect("it is a capture");
    assert_eq!(
        (played[0].fate, report.skipped),
        (Fate::Skipped(Skip::Cut), [1, 0, 0, 0])
    );
    assert!(
        report.engine.iter().all(|(_, count)| count == 0),
        "the engine saw none of them"
    );
}

#[test]
fn an_unknown_link_type_is_named() {
    let error = play(
        &config("", ""),
        &capture(&[("wlan0", LinkType(105))], &[(0, 0, vec![0; 40])]),
    );
    let text = error.expect_err("it is IEEE 802.11").to_string();
    assert!(
        text.starts_with("packet 1: link type 105 is not known here"),
        "{text}"
    );
}

#[test]
fn time_is_the_captures_and_never_runs_backwards() {
    let interfaces = [("lan", ETHERNET), ("outside", ETHERNET)];
    let asked = (0, 1000 * SECOND, udp(A, S, 5000, 99));
    let answered = |seconds: u64| (1, seconds * SECOND, udp(S, X, 99, 5000));
    let fates = |fields, packets: &[_]| -> Vec<Fate> {
        let (played, _) = play(&config(fields, ""), &capture(&interfaces, packets)).expect("it is a capture");
        played.iter().map(|step| step.fate).collect()
    };
    let late = Fate::Dropped(DropReason::Unsolicited);
    // nat-conformance §2: 120 s for UDP that was not answered.
    assert_eq!(fates("", &[asked.clone(), answered(1119)])[1], Fate::Forwarded);
    assert_eq!(fates("", &[asked.clone(), answered(1122)])[1], late);
    let short = "timeouts = { udp = 2 }";
    assert_eq!(fates(short, &[asked.clone(), answered(1001)])[1], Fate::Forwarded);
    assert_eq!(fates(short, &[asked.clone(), answered(1004)])[1], late);
    // A step back is no time at all, and what follows counts from the latest.
    assert_eq!(fates(short, &[asked.clone(), answered(5)])[1], Fate::Forwarded);
    // The end of what can be said, and back.
    let last = (1, u64::MAX, udp(S, X, 99, 5000));
    assert_eq!(fates("", &[asked, last, answered(3)])[1..], [late, late]);
}

#[test]
fn a_translated_frame_keeps_its_header_and_an_answer_turns_it() {
    let tagged = |packet: Packet| packet.frame(mac(2), mac(1)).tagged(7).bytes();
    let dying = Packet {
        ttl: 1,
        ..Packet::udp(A, S)
    };
    let capture = capture(
        &[("lan", ETHERNET)],
        &[(0, 0, tagged(Packet::udp(A, S))), (0, 1, tagged(dying))],
    );
    let (played, report) = play(&config("", ""), &capture).expect("it is a capture");
    let [through, answered] = &played[..] else {
        panic!("{played:?}")
    };
    assert_eq!(through.fate, Fate::Forwarded);
    assert_eq!(through.emitted[0].origin, Origin::Forwarded);
    assert!(through.emitted[0].zone.is_outside());
    assert_eq!(through.emitted[0].header, tagged(Packet::udp(A, S))[..18]);
    assert_eq!(answered.fate, Fate::Dropped(DropReason::TimeExceeded));
    assert_eq!(
        (answered.emitted[0].origin, answered.emitted[0].zone.0),
        (Origin::Made, 1)
    );
    let turned = Packet::udp(A, S).frame(mac(1), mac(2)).tagged(7).bytes();
    assert_eq!(answered.emitted[0].header, turned[..18]);
    assert_eq!(
        (report.packets, report.emitted, report.engine.errors_sent),
        (2, 2, 1)
    );
}

#[test]
fn a_packet_without_a_frame_gets_one_and_padding_goes() {
    let padded = [Packet::udp(A, S).bytes(), vec![0; 9]].concat();
    let capture = capture(&[("lan", LinkType::RAW)], &[(0, 0, padded)]);
    let (played, _) = play(&config("", ""), &capture).expect("it is a capture");
    let emitted = &played[0].emitted[0];
    assert_eq!(emitted.packet.len(), Packet::udp(A, S).bytes().len());
    assert_eq!((emitted.header.len(), &emitted.header[12..]), (14, &[8, 0][..]));
}

#[test]
fn the_seed_makes_a_run_repeatable() {
    let packets: Vec<_> = (0..50).map(|n| (0, 0, udp(A, S, 2000 + n, 53))).collect();
    let capture = capture(&[("lan", ETHERNET)], &packets);
    let ports = |seed: u64| {
        let fields = format!("port-choice = \"random\"\nseed = {seed}");
        let (played, _) = play(&config(&fields, ""), &capture).expect("it is a capture");
        let port = |packet: &[u8]| u16::from_be_bytes([packet[20], packet[21]]);
        let ports = played.iter().map(|step| port(&step.emitted[0].packet));
        ports.collect::<Vec<_>>()
    };
    assert_eq!(ports(1), ports(1));
    assert_ne!(ports(1), ports(2));
}

#[test]
fn checksums_left_to_a_device_can_be_believed() {
    let mut frame = udp(A, S, 5000, 53);
    frame[14 + 26] ^= 0x55;
    let capture = capture(&[("lan", ETHERNET)], &[(0, 0, frame)]);
    let fate = |fields| play(&config(fields, ""), &capture).expect("it is a capture").0[0].fate;
    assert_eq!(fate(""), Fate::Dropped(DropReason::BadChecksum));
    assert_eq!(fate("checksums = \"believe\""), Fate::Forwarded);
}

#[test]
fn no_flipped_bit_of_a_packet_makes_a_run_panic_or_leave_untranslated() {
    let config = config("", "");
    let samples = [Packet::udp(A, S), Packet::tcp(A, S), Packet::ping(A, S)];
    let frames: Vec<_> = samples
        .iter()
        .map(|packet| packet.frame(mac(2), mac(1)).bytes())
        .collect();
    let mut packets = Vec::new();
    for frame in &frames {
        for bit in 0..frame.len() * 8 {
            let mut frame = frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            packets.push((0, bit as u64 * SECOND, frame));
        }
        packets.extend((0..frame.len()).map(|end| (0, end as u64, frame[..end].to_vec())));
    }
    let (played, report) =
        play(&config, &capture(&[("lan", ETHERNET)], &packets)).expect("the capture itself is whole");
    assert_eq!(report.packets, packets.len() as u64);
    for emitted in played.iter().flat_map(|step| &step.emitted) {
        let packet = link::trimmed(&emitted.packet);
        // N-INV-1.
        assert!(
            !emitted.zone.is_outside() || packet[12..16] != A.octets(),
            "{emitted:?}"
        );
    }
}
