use proptest::prelude::*;

use super::*;
use crate::tests::textbook_sum;

/// RFC 1071 §3: the words 0001 f203 f4f5 f6f7 sum to 2ddf0, which folds to ddf2.
#[test]
fn the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes), 0xddf2);
    assert_eq!(finish(sum(&bytes)), 0x220d);
    assert_eq!(fold(0x2_ddf0), 0xddf2);
    // The same, split after three bytes.
    assert_eq!(fold(sum(&bytes[..3]) + shifted(sum(&bytes[3..]))), 0xddf2);
}

/// RFC 1624 §4: equation 3 gives 0000 where RFC 1141 gave ffff.
#[test]
fn the_example_of_rfc_1624() {
    assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    assert_eq!(update32(0xdd2f, 0x5555_0000, 0x3285_0000), 0x0000);
    assert_eq!(update(0xdd2f, &[0x55, 0x55], &[0x32, 0x85]), 0x0000);
}

/// As passt's vector code once got odd first parts wrong (commit 2c174f1).
#[test]
fn n_ck_8_the_sum_does_not_depend_on_length_and_alignment() {
    #[repr(align(64))]
    struct Aligned([u8; 256]);

    let mut bytes = Aligned([0; 256]);
    for (place, byte) in bytes.0.iter_mut().enumerate() {
        *byte = (place * 151 + 89) as u8;
    }
    for start in 0..64 {
        for len in 0..=130 {
            let bytes = &bytes.0[start..start + len];
            assert_eq!(
                sum(bytes),
                u32::from(textbook_sum(bytes)),
                "{len} bytes from {start}"
            );
        }
    }
}

/// RFC 1624 §4 again: fields are replaced together.
#[test]
fn n_ck_1_a_change_is_equation_3() {
    let bytes = u16::to_be_bytes;
    let change = Change::of16([0x55, 0x55], [0x32, 0x85]);
    assert_eq!(change.apply(bytes(0xdd2f)), [0, 0]);
    assert_eq!(change.apply_udp(bytes(0xdd2f)), [0xff, 0xff]);
    assert_eq!(change.apply_nonzero(bytes(0xdd2f)), [0xff, 0xff]);
    assert_eq!(change.apply_udp([0, 0]), [0, 0]);
    // ffff is the other zero.
    assert_eq!(change.apply_nonzero([0, 0]), change.apply([0xff, 0xff]));
    for checksum in [0, 1, 0x1234, 0xfffe, 0xffff] {
        assert_eq!(Change::NONE.apply(bytes(checksum)), bytes(checksum));
        assert_eq!(Change::NONE.apply_partial(bytes(checksum)), bytes(checksum));
    }
}

#[test]
fn an_ipv4_header_with_its_checksum_sums_to_all_ones() {
    let header = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
        0xa8, 0x00, 0xc7,
    ];
    assert_eq!(fold(sum(&header)), 0xffff);
}

#[test]
fn no_bytes_and_zero_bytes_sum_to_zero() {
    assert_eq!(sum(&[]), 0);
    assert_eq!(sum(&[0; 1501]), 0);
    assert_eq!(sum(&[0xff; 1500]), 0xffff);
}

#[test]
fn an_odd_last_byte_is_the_high_one() {
    assert_eq!(sum(&[0x12]), 0x1200);
    assert_eq!(sum(&[0x12, 0x34, 0x56]), 0x6834);
}

#[test]
fn the_longest_packet_of_ones_does_not_overflow() {
    assert_eq!(
        sum(&vec![0xff; 65_535]),
        u32::from(textbook_sum(&vec![0xff; 65_535]))
    );
}

#[test]
fn udp_never_gets_a_checksum_of_zero() {
    assert_eq!(finish(0xffff), 0);
    assert_eq!(finish_udp(0xffff), 0xffff);
    assert_eq!(finish_udp(0x1_fffe), 0xffff);
    assert_eq!(finish_udp(0x1234), 0xedcb);
    assert_eq!(update_udp(0, |_| unreachable!("none stays none")), 0);
    assert_eq!(
        update_udp(0xdd2f, |checksum| update16(checksum, 0x5555, 0x3285)),
        0xffff
    );
}

#[test]
fn a_pseudo_header_is_the_sum_of_its_fields() {
    let src = Ipv4Addr::new(192, 0, 2, 1);
    let dst = Ipv4Addr::new(198, 51, 100, 255);
    let bytes = [192, 0, 2, 1, 198, 51, 100, 255, 0, 17, 0xff, 0xfe];
    assert_eq!(
        fold(pseudo_header_v4(src, dst, IpProtocol::UDP, 0xfffe)),
        textbook_sum(&bytes)
    );

    let src: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let dst: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
    let mut bytes = [src.octets(), dst.octets()].concat();
    bytes.extend_from_slice(&[0, 1, 0xff, 0xfe, 0, 0, 0, 58]);
    assert_eq!(
        fold(pseudo_header_v6(src, dst, IpProtocol::ICMPV6, 0x1_fffe)),
        textbook_sum(&bytes)
    );
}

#[test]
fn a_packet_changes_its_address_family() {
    let body = [1, 2, 3, 4, 5, 6];
    let (old, new) = ([10, 0, 0, 1, 10, 0, 0, 2], [0xfd; 32]);
    let before = finish(sum(&old) + sum(&body));
    assert_eq!(update(before, &old, &new), finish(sum(&new) + sum(&body)));
}

proptest! {
    #[test]
    fn the_fast_sum_is_the_textbook_s(bytes in proptest::collection::vec(any::<u8>(), 0..400), start in 0usize..8) {
        let bytes = bytes.get(start..).unwrap_or_default();
        prop_assert_eq!(sum(bytes), u32::from(textbook_sum(bytes)));
    }

    #[test]
    fn a_sum_may_be_split_anywhere(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..200) {
        let (first, second) = bytes.split_at(at.min(bytes.len()));
        let second = if first.len() % 2 == 0 { sum(second) } else { shifted(sum(second)) };
        prop_assert_eq!(u32::from(fold(sum(first) + second)), sum(&bytes));
    }

    #[test]
    fn an_update_is_a_recomputation(
        first in 1u16..,
        old in proptest::array::uniform16(any::<u8>()),
        new in proptest::array::uniform16(any::<u8>()),
        words in prop_oneof![1usize..=8, Just(8)],
    ) {
        // A word that stays and is not zero: RFC 1624 §3 needs that there is one.
        let (old, new) = (&old[..words * 2], &new[..words * 2]);
        let before = finish(u32::from(first) + sum(old));
        let after = finish(u32::from(first) + sum(new));
        prop_assert_eq!(update(before, old, new), after);
        prop_assert_eq!(update_partial(!before, old, new), !after);
        let change = old.as_chunks().0.iter().zip(new.as_chunks().0);
        let change = change.fold(Change::NONE, |change, (old, new)| change.and(Change::of16(*old, *new)));
        prop_assert_eq!(change.apply(before.to_be_bytes()), after.to_be_bytes());
        prop_assert_eq!(change.apply_partial((!before).to_be_bytes()), (!after).to_be_bytes());
        let word = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
        if words == 1 {
            prop_assert_eq!(update16(before, word(old), word(new)), after);
        }
        if words == 8 {
            let (old, new) = (old.first_chunk().unwrap(), new.first_chunk().unwrap());
            prop_assert_eq!(Change::of128(old, new).apply(before.to_be_bytes()), after.to_be_bytes());
        }
        if words == 2 {
            let (old, new) = (old.first_chunk().unwrap(), new.first_chunk().unwrap());
            prop_assert_eq!(Change::of32(*old, *new).apply(before.to_be_bytes()), after.to_be_bytes());
            let long = |bytes: &[u8]| u32::from(word(bytes)) << 16 | u32::from(word(&bytes[2..]));
            prop_assert_eq!(update32(before, long(old), long(new)), after);
        }
    }
}
