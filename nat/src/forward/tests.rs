use std::net::IpAddr;

use vswitch_testkit::frames::{Packet as Recipe, Upper};
use vswitch_wire::{IpVersion, PartialChecksum};

use crate::{Address, DropReason, Zone};

use super::*;

mod engine;
mod errors;
mod identifications;
mod mss;
mod scope;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn parse(bytes: &[u8]) -> Packet {
    Packet::parse(bytes).expect("a packet")
}

/// Mends the checksum of an IPv4 header.
fn mend_header(packet: &mut [u8]) {
    let header = usize::from(packet[0] & 0x0f) * 4;
    if packet[0] >> 4 == 4 && header <= packet.len() {
        packet[10..12].fill(0);
        let checksum = vswitch_wire::checksum::finish(vswitch_wire::checksum::sum(&packet[..header]));
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// An IPv4 packet with options in its header.
fn with_options(packet: &[u8], options: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..20], options, &packet[20..]].concat();
    packet[0] += (options.len() / 4) as u8;
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    mend_header(&mut packet);
    packet
}

/// Leaves a packet's transport checksum to be completed.
fn make_partial(bytes: &mut [u8]) -> Offload {
    let packet = parse(bytes);
    let offset = match packet.protocol {
        vswitch_wire::IpProtocol::UDP => 6,
        _ => 16,
    };
    let partial = PartialChecksum {
        start: packet.transport as u16,
        offset,
    };
    let sum = vswitch_wire::checksum::sum;
    let addresses = match packet.version {
        IpVersion::V4 => sum(&bytes[12..20]),
        IpVersion::V6 => sum(&bytes[8..40]),
    };
    let pseudo = addresses + u32::from(packet.protocol.0) + packet.transport_len() as u32;
    let field = vswitch_wire::checksum::fold(pseudo);
    bytes[partial.place()..partial.place() + 2].copy_from_slice(&field.to_be_bytes());
    Offload {
        checksum: Some(partial),
        ..Offload::NONE
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("digits")
        })
        .collect()
}

const BOTH: [[&str; 2]; 2] = [["10.0.0.2", "198.51.100.2"], ["2001:db8:a::2", "2001:db8:b::2"]];
