//! Announcements of a new endpoint's addresses: gratuitous ARP and unsolicited neighbour advertisements,
//! once at attach and twice more a second apart (B-ARP-6).

use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant},
};

use vswitch_switch::PortId;
use vswitch_wire::{
    ArpPacket, EtherType, EthernetHeader, MacAddr,
    ndp::{NeighborAdvertisement, multicast_mac},
};
use zerocopy::IntoBytes;

use super::icmp;

/// What is still to be announced, in the order of its time.
#[derive(Debug, Default)]
pub(super) struct Announcements {
    /// Deadlines never decrease: repeats are a fixed time after a `now` that never runs back.
    queue: VecDeque<Announcement>,
}

#[derive(Debug)]
struct Announcement {
    at: Instant,
    port: PortId,
    mac: MacAddr,
    address: IpAddr,
    /// Repeats after this one.
    left: u32,
}

impl Announcements {
    /// Announces `addresses` now and [`REPEATS`] times more.
    pub(super) fn begin(&mut self, now: Instant, port: PortId, mac: MacAddr, addresses: &[IpAddr]) {
        for &address in addresses.iter().rev() {
            self.queue.push_front(Announcement {
                at: now,
                port,
                mac,
                address,
                left: REPEATS,
            });
        }
    }

    /// Drops what is pending for a port that is gone.
    pub(super) fn forget(&mut self, port: PortId) {
        self.queue.retain(|announcement| announcement.port != port);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|announcement| announcement.at)
    }

    /// The next frame that is due, and the port of the station that it speaks for.
    pub(super) fn poll_frame(&mut self, now: Instant) -> Option<(PortId, Vec<u8>)> {
        self.queue.front().filter(|announcement| announcement.at <= now)?;
        let due = self.queue.pop_front()?;
        let frame = frame(due.mac, due.address);
        let port = due.port;
        if let Some(left) = due.left.checked_sub(1) {
            self.queue.push_back(Announcement {
                at: now + INTERVAL,
                left,
                ..due
            });
        }
        Some((port, frame?))
    }
}

/// B-ARP-6.
const REPEATS: u32 = 2;
const INTERVAL: Duration = Duration::from_secs(1);

fn frame(mac: MacAddr, address: IpAddr) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    match address {
        IpAddr::V4(address) => {
            let header = EthernetHeader {
                dst: MacAddr::BROADCAST,
                src: mac,
                ethertype: EtherType::ARP,
            };
            frame.extend_from_slice(header.as_bytes());
            // RFC 5227 §3: the request form, which every host understands.
            frame.extend_from_slice(ArpPacket::request(mac, address, address).as_bytes());
        }
        IpAddr::V6(address) => {
            let advertisement = NeighborAdvertisement {
                router: false,
                solicited: false,
                overrides: true,
                target: address,
                mac,
            };
            let dst = multicast_mac(icmp::ALL_NODES);
            icmp::advertise(&advertisement, dst, icmp::ALL_NODES, &mut frame)?;
        }
    }
    Some(frame)
}
