//! Vectors G6, G7, G8e and G11 of the conformance reference, §16: what Linux makes of them, given the ends.

use vswitch_wire::IpProtocol;

use super::{A, R, S, X, read, translated};
use crate::{Ends, icmp_error::IcmpError, rewrite::sample::*};

const B: &str = "10.0.0.3";

/// The quoted ends as read, and what becomes of the packet with others.
#[track_caller]
fn golden(input: &str, from: Ends, to: Ends, addresses: (&str, &str), output: &str) -> IcmpError {
    let input = hex(input);
    let error = read(&input).unwrap().unwrap();
    assert_eq!(error.quoted, from);
    let addresses = (address(addresses.0), address(addresses.1));
    assert_eq!(translated(&input, &to, addresses), hex(output));
    error
}

#[test]
fn n_ice_5_g6_an_error_from_outside() {
    let error = golden(
        "450000390008000040012652c6336402c633640103035182000000004500001d000100003f112765c6336401c63364021388003500091fb478",
        ends(X, 5000, S, 53),
        ends(A, 5000, S, 53),
        (S, A),
        "45000039000800003f014785c63364020a0000020303314f000000004500001d000100003f1147980a000002c63364021388003500093fe778",
    );
    assert_eq!((error.protocol, error.query), (IpProtocol::UDP, 0));
    assert_eq!((error.sequence, error.is_redirect), (None, false));
}

#[test]
fn n_ice_6_g7_eight_bytes_of_tcp_have_no_checksum() {
    let error = golden(
        "450000380009000040012650c6336404c63364010304d85600000514450005a0000540003c06e4e8c6336401c63364021b580050000003e9",
        ends(X, 7000, S, 80),
        ends(A, 7000, S, 80),
        (R, A),
        "45000038000900003f014783c63364040a0000020304d85600000514450005a0000540003c06051c0a000002c63364021b580050000003e9",
    );
    assert_eq!((error.protocol, error.sequence), (IpProtocol::TCP, Some(1001)));
}

#[test]
fn n_ice_8_g8e_an_error_from_inside() {
    golden(
        "45000038000b0000400146820a000003c63364020303a250000000004500001d000a00003f11478ec63364020a0000030fa0003500094ace",
        ends(S, 4000, B, 53),
        ends(S, 4000, X, 5353),
        (X, S),
        "45000038000b00003f012750c6336401c63364020303c282000000004500001d000a00003f11275cc6336402c63364010fa014e9000915e8",
    );
}

#[test]
fn n_ice_14_g11_packet_too_big() {
    let (a6, x6, s6) = ("2001:db8:a::2", "2001:db8:b::1", "2001:db8:b::2");
    golden(
        "6000000000393a4020010db8000b0000000000000000000320010db8000b0000000000000000000102002bd500000500600000000009113c20010db8000b0000000000000000000120010db8000b00000000000000000002138800350009189478",
        ends(x6, 5000, s6, 53),
        ends(a6, 5000, s6, 53),
        ("2001:db8:b::3", a6),
        "6000000000393a3f20010db8000b0000000000000000000320010db8000a0000000000000000000202002bd500000500600000000009113c20010db8000a0000000000000000000220010db8000b00000000000000000002138800350009189478",
    );
}
