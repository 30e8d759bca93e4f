//! §16: the golden vectors, byte for byte.

use vswitch_nat::{Egress, HairpinSource, Verdict};

use crate::{
    packets::{TCP, UDP, hex},
    site::*,
};

const G1: [&str; 2] = [
    "4500001d00010000401146980a000002c63364021388003500093fe778",
    "4500001d000100003f112765c6336401c63364021388003500091fb478",
];
const G1R: [&str; 2] = [
    "4500001d0002000040112664c6336402c63364010035138800091eb479",
    "4500001d000200003f114797c63364020a0000020035138800093ee779",
];
const G2: [&str; 2] = [
    "4500001d00030000401146960a000002c6336402138900350009000078",
    "4500001d000300003f112763c6336401c6336402138900350009000078",
];
const G3: [&str; 2] = [
    "4500001e00040000401146940a000002c6336402138a0035000a203397b0",
    "4500001e000400003f112761c6336401c6336402138a0035000affff97b0",
];
const G4: [&str; 2] = [
    "4500003c00054000400606800a000002c63364021b580050000003e800000000a002faf0f9460000020405b40402080a000000010000000001030307",
    "4500003c000540003f06e74cc6336401c63364021b580050000003e800000000a002faf0d9130000020405b40402080a000000010000000001030307",
];
const G4R: [&str; 2] = [
    "4500003c000040004006e651c6336402c633640100501b5800001388000003e9a012fe88c1d90000020405b40402080a000000090000000101030307",
    "4500003c000040003f060785c63364020a00000200501b5800001388000003e9a012fe88e20c0000020405b40402080a000000090000000101030307",
];
const G5: [&str; 2] = [
    "45000024000600004001469b0a000002c63364030800661c004d00016162636465666768",
    "45000024000600003f012768c6336401c63364030800661c004d00016162636465666768",
];
const G5R: [&str; 2] = [
    "450000240007000040012667c6336403c633640100006e1c004d00016162636465666768",
    "45000024000700003f01479ac63364030a00000200006e1c004d00016162636465666768",
];
const G6: [&str; 2] = [
    "450000390008000040012652c6336402c633640103035182000000004500001d000100003f112765c6336401c63364021388003500091fb478",
    "45000039000800003f014785c63364020a0000020303314f000000004500001d000100003f1147980a000002c63364021388003500093fe778",
];
const G7: [&str; 2] = [
    "450000380009000040012650c6336404c63364010304d85600000514450005a0000540003c06e4e8c6336401c63364021b580050000003e9",
    "45000038000900003f014783c63364040a0000020304d85600000514450005a0000540003c06051c0a000002c63364021b580050000003e9",
];
const G8: [&str; 2] = [
    "4500001d000a00004011265cc6336402c63364010fa014e9000915e871",
    "4500001d000a00003f11478ec63364020a0000030fa0003500094ace71",
];
const G8E: [&str; 2] = [
    "45000038000b0000400146820a000003c63364020303a250000000004500001d000a00003f11478ec63364020a0000030fa0003500094ace",
    "45000038000b00003f012750c6336401c63364020303c282000000004500001d000a00003f11275cc6336402c63364010fa014e9000915e8",
];
const G9: [&str; 2] = [
    "45000028000c00004006468e0a000002c633640104571f9000000001000000005002200037c40000",
    "45000028000c00003f0667c10a0000010a0000030457005000000001000000005002200077370000",
];
const G10: [&str; 2] = [
    "6b8123450009114020010db8000a0000000000000000000220010db8000b00000000000000000002138800350009189478",
    "6b8123450009113f20010db8000b0000000000000000000120010db8000b00000000000000000002138800350009189478",
];
const G11: [&str; 2] = [
    "6000000000393a4020010db8000b0000000000000000000320010db8000b0000000000000000000102002bd500000500600000000009113c20010db8000b0000000000000000000120010db8000b00000000000000000002138800350009189478",
    "6000000000393a3f20010db8000b0000000000000000000320010db8000a0000000000000000000202002bd500000500600000000009113c20010db8000a0000000000000000000220010db8000b00000000000000000002138800350009189478",
];

/// Each vector's packets out and in, in order, on one site.
fn show(site: &mut Site, vectors: &[(Side, [&str; 2])]) {
    for &(side, [packet, expected]) in vectors {
        let packet = hex(packet);
        let left = match side {
            Side::In => site.back(&packet),
            Side::Out => site.out(&packet),
            Side::Turn => site.turn(&packet),
        };
        assert_eq!(left, hex(expected), "of {packet:02x?}");
    }
}

#[derive(Clone, Copy)]
enum Side {
    In,
    Out,
    Turn,
}

#[test]
fn g1_udp() {
    show(&mut Site::new(), &[(Side::Out, G1), (Side::In, G1R)]);
    show(&mut Site::linux(), &[(Side::Out, G1), (Side::In, G1R)]);
}

#[test]
fn g2_a_checksum_of_0_stays_0() {
    show(&mut Site::new(), &[(Side::Out, G2)]);
}

#[test]
fn g3_a_computed_0_becomes_ffff() {
    show(&mut Site::new(), &[(Side::Out, G3)]);
}

#[test]
fn g4_a_syn_with_options_and_its_answer() {
    show(&mut Site::new(), &[(Side::Out, G4), (Side::In, G4R)]);
}

#[test]
fn g5_echo_and_its_answer() {
    show(&mut Site::new(), &[(Side::Out, G5), (Side::In, G5R)]);
}

#[test]
fn g6_port_unreachable_about_g1() {
    show(&mut Site::new(), &[(Side::Out, G1), (Side::In, G6)]);
}

#[test]
fn g7_fragmentation_needed_by_a_router_about_g4() {
    // The quoted segment is the first of the data, which has been sent.
    let mut site = Site::new();
    show(&mut site, &[(Side::Out, G4), (Side::In, G4R)]);
    let data = crate::packets::tcp_with((A, 7000), (S, 80), 0x10, (1001, 5001), &[], &[0; 1000]);
    site.out(&data);
    show(&mut site, &[(Side::In, G7)]);
}

#[test]
fn g8_a_published_port_and_port_unreachable_from_behind_it() {
    let mut site = Site::new();
    site.publish(UDP, 5353, (B, 53));
    show(&mut site, &[(Side::In, G8), (Side::Out, G8E)]);
}

#[test]
fn g9_hairpin_as_linux_shows_it() {
    for mut site in [
        Site::with(|config| config.hairpin = HairpinSource::Gateway),
        Site::linux(),
    ] {
        site.publish(TCP, 8080, (B, 80));
        show(&mut site, &[(Side::Turn, G9)]);
    }
}

#[test]
fn g10_udp_of_ipv6() {
    show(&mut Site::new(), &[(Side::Out, G10)]);
}

#[test]
fn g11_packet_too_big_about_g10() {
    show(&mut Site::new(), &[(Side::Out, G10), (Side::In, G11)]);
}

/// But for identification and the header checksum, which the reference leaves open.
#[test]
fn g12_time_exceeded() {
    let expected = hex(
        "45c0003d22300000400143ce0a0000010a0000020b0029560000000045000021000d0000011185880a000002c633640213910035000d740468656c6c6f",
    );
    let mut site = Site::new();
    let (_, mut error) = site.refused_aloud(INSIDE, &expected[28..]);
    error[4..6].copy_from_slice(&expected[4..6]);
    error[10..12].copy_from_slice(&expected[10..12]);
    assert_eq!(error, expected);
}

/// Every vector cut at every length: nothing leaves but what is whole, and nothing panics.
#[test]
fn n_inv_2_every_vector_at_every_length() {
    let vectors = [
        (OUTSIDE, G1R),
        (INSIDE, G1),
        (INSIDE, G4),
        (INSIDE, G5),
        (OUTSIDE, G6),
        (OUTSIDE, G7),
        (OUTSIDE, G8),
        (INSIDE, G10),
        (OUTSIDE, G11),
    ];
    let mut site = Site::with_network(|network| network.egress = Egress::Masquerade(vec![X, X6]));
    site.publish(UDP, 5353, (B, 53));
    show(&mut site, &[(Side::Out, G1), (Side::Out, G4), (Side::Out, G10)]);
    for (zone, [packet, _]) in vectors {
        let packet = hex(packet);
        for len in 0..packet.len() {
            let verdict = site.put(zone, &packet[..len]).verdict;
            assert!(
                matches!(verdict, Verdict::Drop(_)),
                "{verdict:?} at {len} of {packet:02x?}"
            );
        }
    }
}
