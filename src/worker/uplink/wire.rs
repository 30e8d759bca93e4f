//! The socket on the uplink's device.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
};

use vswitch_wire::{
    IcmpHeader, Ipv4Header, Ipv6Header, Offload, VnetHeader, checksum,
    segment::{self, Segmenter},
};
use zerocopy::IntoBytes;

use crate::{
    engine,
    io::packet::{self, PacketSocket},
    uplink::{self, Transmit},
};

/// The socket, and what has passed it.
#[derive(Debug)]
pub(super) struct Wire {
    socket: PacketSocket,
    received: u64,
    sent: u64,
    /// Frames whose offload does not fit them.
    bad_offload: u64,
    /// Frames of VLANs, none of which is ours.
    tagged: u64,
    /// Frames that the device had no room for.
    full: u64,
    /// Frames that the device refused: it is down, or they are longer than it takes.
    refused: u64,
}

/// What a read has brought.
#[derive(Debug)]
pub(super) enum Frame {
    Empty,
    Failed(io::Error),
    Read(usize),
    /// Something was there that cannot be read.
    Unreadable,
}

impl Wire {
    pub(super) fn new(socket: PacketSocket) -> Self {
        Self {
            socket,
            received: 0,
            sent: 0,
            bad_offload: 0,
            tagged: 0,
            full: 0,
            refused: 0,
        }
    }

    /// Reads a frame with its vnet header.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Frame {
        match self.socket.read(buffer) {
            Ok(len) => {
                self.received += 1;
                Frame::Read(len)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Frame::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Frame::Unreadable,
            Err(error) => Frame::Failed(error),
        }
    }

    /// What can be done about a device that cannot be read.
    pub(super) fn advice(&self, error: &io::Error) -> &'static str {
        if packet::is_lost(error) || matches!(self.socket.interface(), Ok(None)) {
            ", which is gone: restart vswitchd when it is there again"
        } else if packet::is_link_down(error) {
            ": set it up (`ip link set … up`)"
        } else {
            ""
        }
    }

    /// The frame behind a vnet header, with what that says of it; `None` if it says nonsense, or the frame is a VLAN's. One
    /// that has a tag only for its priority is none (IEEE 802.1Q clause 6.9.1), and loses it, as in the kernel
    /// (net/8021q/vlan_core.c: vlan_do_receive).
    pub(super) fn open<'r>(&mut self, read: &'r mut [u8]) -> Option<(&'r mut [u8], Offload)> {
        let opened = read
            .split_at_mut_checked(VnetHeader::LEN)
            .and_then(|(header, frame)| Some((engine::offload(header, frame)?, frame)));
        self.bad_offload += u64::from(opened.is_none());
        let (offload, frame) = opened?;
        let opened = untag(frame, offload);
        self.tagged += u64::from(opened.is_none());
        opened
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("uplink_rx_frames", self.received),
            ("uplink_tx_frames", self.sent),
            ("uplink_bad_offload", self.bad_offload),
            ("uplink_tagged", self.tagged),
            ("uplink_queue_full", self.full),
            ("uplink_device", self.refused),
        ]
        .into_iter()
    }

    fn write(&mut self, offload: &Offload, pieces: [&[u8]; 2]) {
        let header = offload.header();
        let slices = [header.as_bytes(), pieces[0], pieces[1]].map(IoSlice::new);
        let used = if pieces[1].is_empty() { 2 } else { 3 };
        match self.socket.write(&slices[..used]) {
            Ok(_) => self.sent += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.full += 1,
            Err(_) => self.refused += 1,
        }
    }
}

impl Transmit for Wire {
    fn transmit(&mut self, frame: &mut [u8], offload: Offload) {
        if self.socket.abilities().contains(engine::needs(frame, &offload)) {
            self.write(&offload, [frame, &[]]);
        } else if offload.gso.is_some() {
            let Ok(mut segments) = Segmenter::new(frame, &offload) else {
                self.bad_offload += 1;
                return;
            };
            while let Some(segment) = segments.next_segment() {
                self.write(&Offload::NONE, [segment.header, segment.payload]);
            }
        } else if let Some(partial) = offload.checksum
            && segment::complete_checksum(frame, partial).is_ok()
        {
            self.write(&Offload::NONE, [frame, &[]]);
        } else {
            self.bad_offload += 1;
        }
    }
}

/// Takes a tag off that says nothing but a priority; `None` for others.
fn untag(frame: &mut [u8], offload: Offload) -> Option<(&mut [u8], Offload)> {
    match *frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x81, 0x00, high, low, ..] => {
            let vlan = u16::from_be_bytes([high, low]) & VLAN_ID;
            if vlan != 0 {
                return None;
            }
            frame.copy_within(..ADDRESSES, TAG);
            Some((&mut frame[TAG..], offload.shifted(-(TAG as i16))?))
        }
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x88, 0xa8, ..] => None,
        _ => Some((frame, offload)),
    }
}

/// Where an IP packet is addressed to.
pub(super) fn destination(packet: &[u8]) -> Option<IpAddr> {
    // It has no Ethernet header in front here.
    uplink::destination_of(packet).map(|(dst, _)| dst)
}

/// Replaces the source of an ICMP message by the one of these addresses that is of its version.
pub(super) fn set_icmp_source(packet: &mut [u8], mut addresses: impl Iterator<Item = IpAddr>) -> Option<()> {
    match packet.first()? >> 4 {
        4 => {
            let source = addresses.find_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            })?;
            // The header's checksum is mended with it, and ICMP has none of the addresses in its own.
            Ipv4Header::parse_mut(packet).ok()?.0.set_src(source);
        }
        _ => {
            let source = addresses.find_map(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            })?;
            let (header, rest) = Ipv6Header::parse_mut(packet).ok()?;
            let old = header.src();
            header.set_src(source);
            let (icmp, _) = IcmpHeader::parse_mut(rest).ok()?;
            let sum = checksum::update(icmp.checksum(), &old.octets(), &source.octets());
            icmp.set_checksum(sum);
        }
    }
    Some(())
}

/// The two addresses of an Ethernet header, and a tag behind them (IEEE 802.1Q clause 9.3).
const ADDRESSES: usize = 12;
const TAG: usize = 4;

/// The part of a tag that is no priority.
const VLAN_ID: u16 = 0x0fff;

#[cfg(test)]
mod tests {
    use vswitch_testkit::frames::Packet;
    use vswitch_wire::{MacAddr, PartialChecksum};

    use super::*;

    #[test]
    fn only_tags_that_say_nothing_but_a_priority_are_taken_off() {
        let packet = Packet::udp([192, 0, 2, 1], [192, 0, 2, 10]);
        let plain = packet
            .frame(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]))
            .bytes();
        let offload = |start| Offload {
            checksum: Some(PartialChecksum { start, offset: 6 }),
            ..Offload::NONE
        };
        let tagged = |tag: [u8; 4]| [&plain[..12], &tag, &plain[12..]].concat();
        for (tag, is_ours) in [
            ([0x81, 0x00, 0x00, 0x00], true),
            ([0x81, 0x00, 0xf0, 0x00], true),
            ([0x81, 0x00, 0x00, 0x01], false),
            ([0x81, 0x00, 0x1f, 0xff], false),
            ([0x88, 0xa8, 0x00, 0x00], false),
        ] {
            let mut frame = tagged(tag);
            let opened = untag(&mut frame, offload(38)).map(|(frame, offload)| (frame.to_vec(), offload));
            let expected = is_ours.then(|| (plain.clone(), offload(34)));
            assert_eq!(opened, expected, "{tag:02x?}");
        }
        let mut frame = plain.clone();
        let untouched = untag(&mut frame, offload(34)).map(|(frame, offload)| (frame.to_vec(), offload));
        assert_eq!(untouched, Some((plain.clone(), offload(34))));
        for len in 0..18 {
            let mut cut = tagged([0x81, 0, 0, 0])[..len].to_vec();
            untag(&mut cut, Offload::NONE);
        }
    }
}
