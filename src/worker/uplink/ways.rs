//! Where packets go from the translation: to the link, or into a network.

use std::time::Instant;

use ipnet::IpNet;
use vswitch_nat::{Output, Zone, packet_len};
use vswitch_wire::{EthernetHeader, Offload};

use super::{
    ETHERNET,
    wire::{self, Wire},
};
use crate::{
    uplink::{Sender, Station},
    worker::network::Network,
};

/// Where packets go from the translation.
pub(super) struct Ways<'a> {
    pub(super) now: Instant,
    /// Who has caused all this.
    pub(super) sender: Sender,
    pub(super) wire: &'a mut Wire,
    pub(super) station: &'a mut Station,
    pub(super) networks: &'a mut [Option<Network>],
    pub(super) zones: &'a [Option<usize>],
    pub(super) touched: &'a mut Vec<usize>,
    pub(super) frame: &'a mut Vec<u8>,
    pub(super) no_host: &'a mut u64,
}

impl Ways<'_> {
    /// Sends the packet in a frame, behind room for an Ethernet header; `offload` counts from the frame's first byte.
    #[inline]
    pub(super) fn forward(&mut self, to: Zone, frame: &mut [u8], offload: Offload) {
        let len = frame_len(frame);
        let frame = &mut frame[..len];
        if to.is_outside() {
            self.station
                .send(self.now, self.sender, (frame, offload), self.wire);
            return;
        }
        let now = self.now;
        let Some((slot, network)) = self.network(to) else {
            return;
        };
        let is_there = network.deliver(now, frame, offload);
        *self.no_host += u64::from(!is_there);
        if self.touched.last() != Some(&slot) {
            self.touched.push(slot);
        }
    }

    /// Makes the gateway of a network the source of an ICMP error to one of its hosts.
    pub(super) fn sign(&mut self, to: Zone, packet: &mut [u8]) -> Option<()> {
        let (_, network) = self.network(to)?;
        let gateways = network.spec.gateways.iter().map(IpNet::addr);
        wire::set_icmp_source(packet, gateways)
    }

    fn network(&mut self, zone: Zone) -> Option<(usize, &mut Network)> {
        let slot = (*self.zones.get(place_of(zone))?)?;
        let network = self.networks.get_mut(slot)?.as_mut()?;
        Some((slot, network))
    }
}

impl Output for Ways<'_> {
    fn send(&mut self, to: Zone, packet: &mut [u8], offload: Offload) {
        let Some(offload) = offload.shifted(ETHERNET) else {
            return;
        };
        let mut frame = std::mem::take(self.frame);
        frame.clear();
        frame.resize(EthernetHeader::LEN, 0);
        frame.extend_from_slice(packet);
        self.forward(to, &mut frame, offload);
        *self.frame = frame;
    }
}

/// Where a zone's slot is; beyond all of them for the outside.
pub(super) fn place_of(zone: Zone) -> usize {
    usize::from(zone.0).wrapping_sub(1)
}

/// Bytes of a frame without the padding behind its packet.
pub(super) fn frame_len(frame: &[u8]) -> usize {
    match frame.get(EthernetHeader::LEN..) {
        Some(packet) => EthernetHeader::LEN + packet_len(packet),
        None => frame.len(),
    }
}
