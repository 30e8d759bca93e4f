//! Packet sockets, and the kernel behaviour that they rely on, each in fresh namespaces where the test is root.

use std::{
    fs::{self, File},
    io::{ErrorKind, IoSlice},
    os::fd::AsFd,
};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vswitch::io::{
    netlink::{LinkChange, LinkState, Netlink, VethEnd},
    packet::{self, Interface, Options, PacketSocket, Promiscuity},
    sys::{self, packet::PacketOption},
    tap::{self, LARGEST_READ, Opening, Tap},
};
use vswitch_wire::{Abilities, MacAddr, checksum};

use crate::support::{eventually, in_sandbox};

#[test]
fn a_socket_keeps_its_namespace_and_the_veth_in_it() {
    in_sandbox("packet::a_socket_keeps_its_namespace_and_the_veth_in_it", || {
        let home = File::open("/proc/thread-self/ns/net").expect("own namespace");
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        let far = VethEnd {
            name: "eth9",
            mac: Some(NEAR),
            ..end("eth9")
        };
        let mut netlink = Netlink::open().expect("netlink");
        netlink
            .add_veth(&end("port"), &far, home.as_fd())
            .expect("a pair");
        drop(netlink);
        let socket = open("port", Options::default());
        setns(&home, CloneFlags::CLONE_NEWNET).expect("home");
        let link = || {
            Netlink::open()
                .and_then(|mut netlink| netlink.link_by_name("eth9"))
                .expect("netlink")
        };
        let found = link().expect("it came with the pair");
        assert_eq!(
            (found.mac, found.mtu, found.state),
            (NEAR, MTU.into(), LinkState::Down)
        );
        // The kernel deletes namespaces that nothing holds within milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(link().is_some());
        drop(socket);
        eventually("the veth goes with the socket", || link().is_none());
    });
}

#[test]
fn the_kernel_takes_a_tag_off_and_it_is_put_back() {
    in_sandbox("packet::the_kernel_takes_a_tag_off_and_it_is_put_back", || {
        let (near, far) = pair();
        let tags: [&[u8]; 3] = [
            &[0x81, 0x00, 0x60, 0x07],
            &[0x88, 0xa8, 0x00, 0x64],
            &[0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x07],
        ];
        for tag in tags {
            let frame = [&addresses(NEAR, FAR)[..], tag, &[0x88, 0xb5], &[7; 46]].concat();
            send(&far, &[0; 10], &frame);
            wait_for(&near);
            let mut buffer = [0; 200];
            let (length, auxdata) = sys::packet::receive(near.as_fd(), &mut buffer).expect("a frame");
            let outer = (
                u16::from_be_bytes([tag[0], tag[1]]),
                u16::from_be_bytes([tag[2], tag[3]]),
            );
            assert_eq!(
                (length, auxdata.tag),
                (10 + frame.len() - 4, Some(outer)),
                "{tag:02x?}"
            );

            send(&far, &[0; 10], &frame);
            assert_eq!(receive(&near), ([0; 10].to_vec(), frame), "{tag:02x?}");
        }
    });
}

#[test]
fn b_off_6_a_tagged_frame_keeps_its_unfinished_checksum() {
    in_sandbox(
        "packet::b_off_6_a_tagged_frame_keeps_its_unfinished_checksum",
        || {
            let (near, far) = pair();
            let frame = [&addresses(NEAR, FAR)[..], &[0x81, 0, 0, 7], &udp(&[5; 100])[12..]].concat();
            let header = partial(38, 0);
            send(&far, &header, &frame);
            assert_eq!(receive(&near), (header.to_vec(), frame));
        },
    );
}

#[test]
fn super_frames_and_unfinished_checksums_pass_as_they_are() {
    in_sandbox(
        "packet::super_frames_and_unfinished_checksums_pass_as_they_are",
        || {
            let (near, far) = pair();
            assert_eq!(near.abilities(), Abilities::ALL);
            for (header, frame) in [
                (partial(34, 0), udp(&[5; 100])),
                (partial(34, 1400), udp(&[6; 60_000])),
            ] {
                send(&far, &header, &frame);
                let (mut read, same) = receive(&near);
                // Of a super-frame the kernel tells how much of it lies in one piece; a hint that nobody needs.
                read[2..4].copy_from_slice(&header[2..4]);
                assert_eq!((read, same), (header.to_vec(), frame));
            }
        },
    );
}

#[test]
fn b_off_1_the_kernel_segments_for_a_device_that_cannot() {
    in_sandbox(
        "packet::b_off_1_the_kernel_segments_for_a_device_that_cannot",
        || {
            let mut tap = Tap::adopt(tap::open("tap0", Opening::New).expect("a TAP")).expect("a TAP");
            tap.set_offloads(Abilities::EMPTY)
                .expect("nothing is always allowed");
            quiet("tap0");
            change("tap0", LinkState::Up);
            let socket = open("tap0", Options::default());
            send(&socket, &partial(34, 1000), &udp(&[6; 3500]));
            let mut buffer = vec![0; LARGEST_READ];
            for payload in [1000, 1000, 1000, 500] {
                let length = tap.read(&mut buffer).expect("a segment");
                assert_eq!(length, 10 + 14 + 20 + 8 + payload);
                assert_eq!(buffer[..10], [0; 10], "nothing is left to do");
                let udp = &buffer[34 + 10..length];
                let pseudo = checksum::sum(&buffer[26 + 10..34 + 10]) + 17 + udp.len() as u32;
                assert_eq!(checksum::fold(pseudo + checksum::sum(udp)), 0xffff);
            }
            let is_empty = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
            assert!(tap.read(&mut buffer).is_err_and(is_empty));
            // Which is why sockets do not bypass the interface's queue, cheaper as that may be.
            sys::packet::switch_on(socket.as_fd(), PacketOption::QdiscBypass).expect("an option");
            let header = partial(34, 1000);
            let lost = socket.write(&[IoSlice::new(&header), IoSlice::new(&udp(&[6; 3500]))]);
            assert!(lost.is_err_and(is_empty));
            assert!(tap.read(&mut buffer).is_err_and(is_empty));
        },
    );
}

#[test]
fn an_interface_that_is_down_may_come_up_again() {
    in_sandbox("packet::an_interface_that_is_down_may_come_up_again", || {
        let (near, far) = pair();
        change("near", LinkState::Down);
        let read = near.read(&mut [0; 100]).expect_err("it is down");
        assert!(packet::is_link_down(&read) && !packet::is_lost(&read), "{read}");
        let write = near.write(&[IoSlice::new(&[0; 70])]).expect_err("it is down");
        assert!(
            packet::is_link_down(&write) && !packet::is_lost(&write),
            "{write}"
        );
        assert!(near.interface().expect("asked").is_some());
        change("near", LinkState::Up);
        let frame = [&addresses(NEAR, FAR)[..], &[0x88, 0xb5], &[7; 46]].concat();
        let mut buffer = [0; 100];
        // The kernel lets frames pass again up to a second after the link has come back (net/core/link_watch.c).
        eventually("it receives again", || {
            let _ = far.write(&[IoSlice::new(&[0; 10]), IoSlice::new(&frame)]);
            near.read(&mut buffer).is_ok()
        });
        assert_eq!(buffer[10..10 + frame.len()], frame);
    });
}

#[test]
fn an_interface_that_is_deleted_is_lost() {
    in_sandbox("packet::an_interface_that_is_deleted_is_lost", || {
        let (near, far) = pair();
        let mut netlink = Netlink::open().expect("netlink");
        let link = netlink.link_by_name("far").expect("netlink").expect("the link");
        netlink.delete_link(&link).expect("deleted");
        for socket in [&near, &far] {
            let mut polled = [PollFd::new(socket, PollFlags::IN)];
            poll(&mut polled, Some(&Timespec::default())).expect("poll");
            assert!(polled[0].revents().contains(PollFlags::ERR));
            let read = socket.read(&mut [0; 100]).expect_err("the interface is gone");
            let write = socket
                .write(&[IoSlice::new(&[0; 70])])
                .expect_err("the interface is gone");
            assert!(
                packet::is_lost(&read) && packet::is_lost(&write),
                "{read}, {write}"
            );
            assert_eq!(socket.interface().expect("asked"), None);
        }
        let missing = PacketSocket::open(Interface::Name("near"), Options::default());
        assert!(missing.is_err_and(|error| packet::is_lost(&error)));
    });
}

#[test]
fn what_does_not_fit_is_told_from_what_has_no_room() {
    in_sandbox("packet::what_does_not_fit_is_told_from_what_has_no_room", || {
        let (near, far) = pair();
        let long = [&addresses(FAR, NEAR)[..], &[0x88, 0xb5], &[7; 1600]].concat();
        let error = near
            .write(&[IoSlice::new(&[0; 10]), IoSlice::new(&long)])
            .expect_err("longer than the MTU");
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert!(!packet::is_lost(&error) && !packet::is_link_down(&error));

        let frame = [&addresses(FAR, NEAR)[..], &[0x88, 0xb5], &[7; 1400]].concat();
        assert_eq!(far.drops().expect("asked"), 0);
        let mut written = 0_u64;
        let drops = loop {
            match near.write(&[IoSlice::new(&[0; 10]), IoSlice::new(&frame)]) {
                Ok(_) => written += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            let drops = far.drops().expect("asked");
            if drops > 0 {
                break drops;
            }
            assert!(written < 1_000_000, "32 MiB hold fewer");
        };
        let mut buffer = vec![0; LARGEST_READ];
        let mut read = 0;
        while far.read(&mut buffer).is_ok() {
            read += 1;
        }
        assert_eq!(read + drops, written);
    });
}

#[test]
fn a_promiscuous_socket_with_a_filter_sees_its_own_and_groups() {
    in_sandbox(
        "packet::a_promiscuous_socket_with_a_filter_sees_its_own_and_groups",
        || {
            let (_, far) = pair();
            let options = Options {
                promiscuity: Promiscuity::Promiscuous,
                filter: Some(OTHER),
            };
            let near = open("near", options);
            let frame = |to| [&addresses(to, FAR)[..], &[0x88, 0xb5], &[7; 46]].concat();
            for to in [NEAR, OTHER, MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
                send(&far, &[0; 10], &frame(to));
            }
            // What leaves by the interface is not received, either.
            send(
                &near,
                &[0; 10],
                &[&addresses(OTHER, NEAR)[..], &[0x88, 0xb5], &[7; 46]].concat(),
            );
            for to in [OTHER, MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
                assert_eq!(receive(&near).1, frame(to));
            }
            near.set_filter(NEAR).expect("a filter");
            send(&far, &[0; 10], &frame(OTHER));
            send(&far, &[0; 10], &frame(NEAR));
            assert_eq!(receive(&near).1, frame(NEAR));
            assert!(
                near.read(&mut [0; 100])
                    .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            );
        },
    );
}

/// Sockets on both ends of a pair that is up and silent.
fn pair() -> (PacketSocket, PacketSocket) {
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("a writable /proc/sys");
    let here = File::open("/proc/thread-self/ns/net").expect("own namespace");
    let mut netlink = Netlink::open().expect("netlink");
    netlink
        .add_veth(&end("near"), &end("far"), here.as_fd())
        .expect("a pair");
    change("far", LinkState::Up);
    let [near, far] = ["near", "far"].map(|name| open(name, Options::default()));
    let probe = [&addresses(FAR, NEAR)[..], &[0x88, 0xb5], &[0; 46]].concat();
    // The near end had no carrier when it was set up; the kernel gives it a queue a moment after it has.
    eventually("frames pass", || {
        let _ = near.write(&[IoSlice::new(&[0; 10]), IoSlice::new(&probe)]);
        far.read(&mut [0; 100]).is_ok()
    });
    while far.read(&mut [0; 100]).is_ok() {}
    (near, far)
}

fn end(name: &str) -> VethEnd<'_> {
    VethEnd {
        name,
        mac: None,
        mtu: MTU,
    }
}

fn open(interface: &str, options: Options) -> PacketSocket {
    PacketSocket::open(Interface::Name(interface), options).expect("a socket")
}

fn quiet(interface: &str) {
    fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1")
        .expect("a writable /proc/sys");
}

fn change(interface: &str, state: LinkState) {
    let mut netlink = Netlink::open().expect("netlink");
    let link = netlink
        .link_by_name(interface)
        .expect("netlink")
        .expect("the link");
    let change = LinkChange {
        state: Some(state),
        ..LinkChange::default()
    };
    netlink.change_link(&link, &change).expect("changed");
}

#[track_caller]
fn send(socket: &PacketSocket, header: &[u8], frame: &[u8]) {
    let written = socket
        .write(&[IoSlice::new(header), IoSlice::new(frame)])
        .expect("sent");
    assert_eq!(written, header.len() + frame.len());
}

/// Header and frame.
#[track_caller]
fn receive(socket: &PacketSocket) -> (Vec<u8>, Vec<u8>) {
    wait_for(socket);
    let mut buffer = vec![0; LARGEST_READ];
    let length = socket.read(&mut buffer).expect("a frame");
    (buffer[..10].to_vec(), buffer[10..length].to_vec())
}

#[track_caller]
fn wait_for(socket: &PacketSocket) {
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    assert_eq!(poll(&mut polled, Some(&second)).expect("poll"), 1, "nothing came");
}

fn addresses(to: MacAddr, from: MacAddr) -> [u8; 12] {
    let mut addresses = [0; 12];
    addresses[..6].copy_from_slice(&to.0);
    addresses[6..].copy_from_slice(&from.0);
    addresses
}

/// A UDP datagram from `far` to `near` whose checksum field holds the pseudo-header's sum.
fn udp(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram");
    let mut ip = [
        0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 3, 10, 9, 0, 2,
    ];
    ip[2..4].copy_from_slice(&(20 + length).to_be_bytes());
    let sum = !checksum::fold(checksum::sum(&ip));
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = checksum::fold(checksum::sum(&ip[12..]) + 17 + u32::from(length));
    let mut frame = addresses(NEAR, FAR).to_vec();
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend([0x30, 0x39, 0x30, 0x3a]);
    frame.extend(length.to_be_bytes());
    frame.extend(pseudo.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A vnet header that leaves a UDP checksum open, of a super-frame if `segment` is not 0.
fn partial(transport: u8, segment: u16) -> [u8; 10] {
    let [low, high] = segment.to_le_bytes();
    match segment {
        0 => [1, 0, 0, 0, 0, 0, transport, 0, 6, 0],
        // VIRTIO_NET_HDR_GSO_UDP_L4.
        _ => [1, 5, transport + 8, 0, low, high, transport, 0, 6, 0],
    }
}

const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 4]);

const MTU: u16 = 1500;
