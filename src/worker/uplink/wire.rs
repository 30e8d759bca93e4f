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

    /// The frame behind a vnet header, with what that says of it; `None` if it says nonsense.
    pub(super) fn open<'r>(&mut self, read: &'r mut [u8]) -> Option<(&'r mut [u8], Offload)> {
        let opened = read
            .split_at_mut_checked(VnetHeader::LEN)
            .and_then(|(header, frame)| Some((engine::offload(header, frame)?, frame)));
        self.bad_offload += u64::from(opened.is_none());
        opened.map(|(offload, frame)| (frame, offload))
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("uplink_rx_frames", self.received),
            ("uplink_tx_frames", self.sent),
            ("uplink_bad_offload", self.bad_offload),
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
