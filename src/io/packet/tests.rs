use std::fs::File;

use super::*;

fn read_of(header: [u8; VNET_LEN]) -> Vec<u8> {
    let mut read = header.to_vec();
    read.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
    read.extend([0x08, 0x00, 0x45, 0x00]);
    read
}

fn tagged(header: [u8; VNET_LEN], auxdata: Auxdata) -> Vec<u8> {
    let mut buffer = read_of(header);
    let length = buffer.len();
    buffer.resize(length + TAG_LEN, 0xee);
    let length = restore_tag(&mut buffer, length, auxdata);
    buffer.truncate(length);
    buffer
}

const TAG: Auxdata = Auxdata {
    tag: Some((0x88a8, 0x6007)),
    is_checksum_partial: false,
};

#[test]
fn an_untagged_frame_stays_as_it_is() {
    let header = [1, 1, 54, 0, 0, 5, 34, 0, 16, 0];
    assert_eq!(tagged(header, Auxdata::default()), read_of(header));
}

#[test]
fn a_tag_is_put_back_behind_the_addresses() {
    let frame = tagged([0; VNET_LEN], TAG);
    assert_eq!(frame[..VNET_LEN], [0; VNET_LEN], "nothing to move");
    assert_eq!(
        frame[TAG_PLACE..],
        [0x88, 0xa8, 0x60, 0x07, 0x08, 0x00, 0x45, 0x00]
    );
}

#[test]
fn b_off_6_the_offsets_of_the_vnet_header_move_with_the_tag() {
    let cases = [
        (
            "super-frame",
            [1, 1, 54, 0, 0, 5, 34, 0, 16, 0],
            [1, 1, 58, 0, 0, 5, 38, 0, 16, 0],
        ),
        (
            "checksum",
            [1, 0, 0, 0, 0, 0, 34, 0, 6, 0],
            [1, 0, 0, 0, 0, 0, 38, 0, 6, 0],
        ),
        (
            "valid",
            [2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            [2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "end of range",
            [1, 0, 0xff, 0xff, 0, 0, 0xfe, 0xff, 6, 0],
            [1, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 6, 0],
        ),
    ];
    for (name, before, after) in cases {
        assert_eq!(tagged(before, TAG)[..VNET_LEN], after, "{name}");
    }
}

#[test]
fn a_frame_without_room_for_addresses_gets_no_tag() {
    let mut buffer = vec![0; TAG_PLACE + TAG_LEN];
    for length in 0..TAG_PLACE {
        assert_eq!(restore_tag(&mut buffer, length, TAG), length);
    }
    assert_eq!(restore_tag(&mut buffer, TAG_PLACE, TAG), TAG_PLACE + TAG_LEN);
}

#[test]
fn the_filter_accepts_one_address_and_groups() {
    let mac = [0x02, 0x42, 0xc0, 0xa8, 0x07, 0x09];
    let program = filter_for(MacAddr(mac));
    assert!(accepts(&program, mac));
    assert!(accepts(&program, [0xff; 6]));
    assert!(accepts(&program, [0x33, 0x33, 0, 0, 0, 1]));
    for byte in 0..6 {
        for bit in 0..8 {
            let mut other = mac;
            other[byte] ^= 1 << bit;
            assert_eq!(accepts(&program, other), other[0] & 1 == 1, "{other:02x?}");
        }
    }
}

/// Runs the few instructions that the filter uses.
fn accepts(program: &[libc::sock_filter], frame: [u8; 6]) -> bool {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let step = program[at];
        let k = step.k as usize;
        at += 1;
        let code = u32::from(step.code);
        if code == libc::BPF_RET | libc::BPF_K {
            return step.k > 0;
        } else if code & 7 == libc::BPF_LD {
            let size = match code & 0x18 {
                libc::BPF_B => 1,
                libc::BPF_H => 2,
                _ => 4,
            };
            accumulator = frame[k..k + size]
                .iter()
                .fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        } else {
            let holds = match code & 0xf0 {
                libc::BPF_JEQ => accumulator == step.k,
                _ => accumulator & step.k != 0,
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }
}

#[test]
fn errors_are_told_apart() {
    let [gone, away, down, full] =
        [libc::ENODEV, libc::ENXIO, libc::ENETDOWN, libc::EAGAIN].map(io::Error::from_raw_os_error);
    assert!(is_lost(&gone) && is_lost(&away) && !is_lost(&down) && !is_lost(&full));
    assert!(is_link_down(&down) && !is_link_down(&gone) && !is_link_down(&full));
}

#[test]
fn only_a_bound_packet_socket_is_adopted() {
    let file = File::open("/dev/null").expect("/dev/null is readable");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for fd in [OwnedFd::from(file), OwnedFd::from(udp)] {
        let error = PacketSocket::adopt(fd).expect_err("not a packet socket");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn udp_super_frames_are_described_since_linux_6_2() {
    for (release, expected) in [
        ("6.2.0", true),
        ("6.18.3-arch1-1", true),
        ("7.0", true),
        ("6.2-rc1", true),
        ("6.1.0-18-amd64", false),
        ("5.15.0-91-generic", false),
        ("4.20", false),
        ("", false),
        ("linux", false),
    ] {
        assert_eq!(is_since_6_2(release), expected, "{release}");
    }
}
