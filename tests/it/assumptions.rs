//! Kernel behaviour that we rely on, each in fresh namespaces where the test is root.

use std::{
    io::{IoSlice, Write},
    net::UdpSocket,
    os::fd::{AsFd, OwnedFd},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vswitch::io::{
    netlink::{LinkChange, LinkState, Netlink},
    sys::{self, TunNumber},
    tap::{self, LARGEST_READ, OpenError, Opening, Tap},
};

use crate::support::in_sandbox;

#[test]
fn a_short_buffer_cuts_the_frame_silently() {
    in_sandbox("assumptions::a_short_buffer_cuts_the_frame_silently", || {
        let (tap, _) = tap_with_address();
        let send = |length| {
            let socket = UdpSocket::bind("10.9.0.2:0").expect("own address");
            socket.set_broadcast(true).expect("an option");
            socket.send_to(&vec![7; length], "10.9.0.255:9").expect("sent");
        };
        let mut buffer = vec![0; LARGEST_READ];
        while tap.read(&mut buffer).is_ok() {}
        send(600);
        assert_eq!(tap.read(&mut buffer[..100]).expect("a frame"), 100);
        let rest = tap.read(&mut buffer).expect_err("the rest is lost");
        assert_eq!(rest.kind(), std::io::ErrorKind::WouldBlock);
        send(600);
        let length = tap.read(&mut buffer).expect("a frame");
        assert_eq!(length, 10 + 14 + 20 + 8 + 600);
    });
}

#[test]
fn writing_to_a_link_that_is_down_is_eio() {
    in_sandbox("assumptions::writing_to_a_link_that_is_down_is_eio", || {
        let (tap, mut netlink) = tap_with_address();
        let frame = [0xff; 10 + 60];
        let mut frame = frame;
        frame[..10].fill(0);
        assert_eq!(
            tap.write(&[IoSlice::new(&frame)]).expect("the link is up"),
            frame.len()
        );
        let link = netlink.link_by_name("tap0").expect("netlink").expect("the link");
        let down = LinkChange {
            state: Some(LinkState::Down),
            ..LinkChange::default()
        };
        netlink.change_link(&link, &down).expect("set down");
        let error = tap.write(&[IoSlice::new(&frame)]).expect_err("the link is down");
        assert!(tap::is_link_down(&error) && !tap::is_lost(&error), "{error}");
    });
}

#[test]
fn a_deleted_device_is_ebadfd_and_pollerr() {
    in_sandbox("assumptions::a_deleted_device_is_ebadfd_and_pollerr", || {
        let (tap, mut netlink) = tap_with_address();
        let link = netlink.link_by_name("tap0").expect("netlink").expect("the link");
        netlink.delete_link(&link).expect("deleted");
        assert!(revents(&tap).contains(PollFlags::ERR));
        let read = tap.read(&mut [0; 100]).expect_err("the device is gone");
        let write = tap
            .write(&[IoSlice::new(&[0; 70])])
            .expect_err("the device is gone");
        assert!(tap::is_lost(&read) && tap::is_lost(&write), "{read}, {write}");
        assert!(tap.name().is_err_and(|error| tap::is_lost(&error)));
    });
}

#[test]
fn offloads_follow_the_rules_that_the_probe_assumes() {
    in_sandbox(
        "assumptions::offloads_follow_the_rules_that_the_probe_assumes",
        || {
            let tun = tap::open("tap0", Opening::New).expect("a TAP");
            let set = |bits| sys::tun_set_number(tun.as_fd(), TunNumber::Offload, bits).is_ok();
            for bits in [0x0f, 0x07, 0x01, 0] {
                assert!(set(bits), "{bits:#x}");
            }
            for bits in [0x02, 0x09, 0x21, 0x41, 0x8000] {
                assert!(!set(bits), "{bits:#x}");
            }
            let adopted = Tap::adopt(tun).expect("a TAP").abilities();
            let largest = [0x6f, 0x0f, 0x07, 0x01, 0];
            assert!(largest[..2].contains(&adopted.tun_flags()), "{adopted:?}");
        },
    );
}

#[test]
fn a_tap_is_served_once_and_outlives_its_descriptor_only_when_persistent() {
    in_sandbox(
        "assumptions::a_tap_is_served_once_and_outlives_its_descriptor_only_when_persistent",
        || {
            let exists = || {
                Netlink::open()
                    .and_then(|mut netlink| netlink.link_by_name("tap0"))
                    .expect("netlink")
                    .is_some()
            };
            let tap = Tap::adopt(tap::open("tap0", Opening::New).expect("a TAP")).expect("a TAP");
            for opening in [Opening::Any, Opening::New] {
                match tap::open("tap0", opening) {
                    Err(OpenError::Interface(error)) => assert_eq!(error.raw_os_error(), Some(libc::EBUSY)),
                    other => panic!("{opening:?}: {other:?}"),
                }
            }
            drop(tap);
            assert!(!exists());

            let tap = Tap::adopt(tap::open("tap0", Opening::New).expect("a TAP")).expect("a TAP");
            tap.set_persist(true).expect("a live device");
            drop(tap);
            assert!(exists());
            assert!(
                tap::open("tap0", Opening::New).is_err(),
                "an existing one is not new"
            );
            let tap = Tap::adopt(tap::open("tap0", Opening::Any).expect("a TAP")).expect("taken over");
            tap.set_persist(false).expect("a live device");
            drop(tap);
            assert!(!exists());
        },
    );
}

#[test]
fn a_renamed_device_keeps_its_descriptor() {
    in_sandbox("assumptions::a_renamed_device_keeps_its_descriptor", || {
        let (tap, mut netlink) = tap_with_address();
        let link = netlink.link_by_name("tap0").expect("netlink").expect("the link");
        let down = LinkChange {
            state: Some(LinkState::Down),
            ..LinkChange::default()
        };
        netlink.change_link(&link, &down).expect("set down");
        let rename = LinkChange {
            name: Some("lan0".into()),
            ..LinkChange::default()
        };
        netlink.change_link(&link, &rename).expect("renamed");
        assert_eq!(tap.name().expect("a live device"), "lan0");
    });
}

#[test]
fn only_a_tap_with_vnet_header_is_adopted() {
    in_sandbox("assumptions::only_a_tap_with_vnet_header_is_adopted", || {
        // The kernel (6.18) answers TUNGETIFF with IFF_NO_PI for all, so packet information does not show.
        let flags = [
            libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR,
            libc::IFF_TAP | libc::IFF_NO_PI,
        ];
        for flags in flags {
            let tun = std::fs::File::options()
                .read(true)
                .write(true)
                .open(tap::TUN_DEVICE)
                .expect("open");
            sys::tun_set_interface(tun.as_fd(), "other%d", flags).expect("an interface");
            let error = Tap::adopt(OwnedFd::from(tun)).expect_err("not ours to serve");
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{flags:#x}");
        }
    });
}

fn tap_with_address() -> (Tap, Netlink) {
    let tap = Tap::adopt(tap::open("tap0", Opening::New).expect("a TAP")).expect("a TAP");
    // Only frames that the test asks for.
    let mut setting = std::fs::File::options()
        .write(true)
        .open("/proc/sys/net/ipv6/conf/tap0/disable_ipv6")
        .expect("a writable /proc/sys");
    setting.write_all(b"1").expect("IPv6 off");
    let mut netlink = Netlink::open().expect("netlink");
    let link = netlink.link_by_name("tap0").expect("netlink").expect("the link");
    let up = LinkChange {
        state: Some(LinkState::Up),
        ..LinkChange::default()
    };
    netlink.change_link(&link, &up).expect("set up");
    netlink
        .add_address(&link, crate::support::net("10.9.0.2/24"))
        .expect("an address");
    (tap, netlink)
}

fn revents(tap: &Tap) -> PollFlags {
    let mut polled = [PollFd::new(tap, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec::default())).expect("poll");
    polled[0].revents()
}
