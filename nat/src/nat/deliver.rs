//! How a packet leaves: translated, cut where it must be, or as an error back to its sender.

use std::time::Instant;

use vswitch_wire::{IpProtocol, IpVersion, Offload};

use super::{
    Nat,
    path::{Arrival, Fit},
};
use crate::{
    Address, DropReason, Output, Verdict, Zone,
    forward::{self, Complaint, Report},
    fragments::{self, Whole},
    packet::Packet,
};

impl Nat {
    /// Lets a packet go that is as it shall be.
    #[inline]
    pub(super) fn pass_on(
        &mut self,
        arrival: &mut Arrival<'_>,
        (egress, fit): (Zone, Fit),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let (mtu, ingress_mtu) = (self.mtu(egress), self.mtu(arrival.zone));
        if mtu != ingress_mtu && arrival.packet.protocol == IpProtocol::TCP {
            let smaller = mtu.into_iter().chain(ingress_mtu).min();
            forward::clamp_mss(
                arrival.bytes,
                &arrival.packet,
                arrival.offload,
                smaller.unwrap_or(u16::MAX),
            );
        }
        match fit {
            Fit::Whole => Ok(Verdict::Forward(egress)),
            // As it came; that is the caller's to do.
            Fit::Cut if arrival.cut.is_some() => Ok(Verdict::Forward(egress)),
            Fit::Cut => self.cut_to_fit(arrival, egress, out),
        }
    }

    /// Sends a packet in pieces that fit the way ahead (N-FWD-4).
    #[cold]
    fn cut_to_fit(
        &mut self,
        arrival: &mut Arrival<'_>,
        egress: Zone,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let mtu = self.mtu(egress).ok_or(DropReason::NoRoute)?;
        if let Some(place) = arrival.offload.checksum {
            forward::complete_checksum(arrival.bytes, &arrival.packet, place);
        }
        let packet = Packet::parse(arrival.bytes)?;
        let id = match arrival.bytes.get(4..6) {
            Some(&[a, b]) => u32::from(u16::from_be_bytes([a, b])),
            _ => 0,
        };
        let id = self.identification(&arrival.packet, &packet, id);
        let send = |piece: &mut [u8]| out.send(egress, piece, Offload::NONE);
        fragments::cut(&mut arrival.bytes[..packet.len], mtu.into(), id, send)?;
        self.counters.forwarded += 1;
        Ok(Verdict::Consumed)
    }

    /// Sends a datagram that had come in fragments, in fragments; `before` is what it was before its translation.
    pub(super) fn send_again(
        &mut self,
        whole: &mut Whole,
        before: &Packet,
        egress: Zone,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let mtu = self.mtu(egress).ok_or(DropReason::NoRoute)?;
        let packet = Packet::parse(&whole.bytes)?;
        let id = self.identification(before, &packet, whole.cut.id);
        let send = |piece: &mut [u8]| out.send(egress, piece, Offload::NONE);
        whole.cut.again(&mut whole.bytes, mtu.into(), id, send)?;
        self.counters.forwarded += 1;
        Ok(Verdict::Consumed)
    }

    /// The identification of a packet's fragments: many hosts share an external address, so what they numbered could
    /// meet (N-FR-8).
    fn identification(&mut self, before: &Packet, now: &Packet, id: u32) -> u32 {
        match before.src == now.src {
            true => id,
            false => self
                .identifications
                .next(now.src, now.dst, now.protocol.0, now.version),
        }
    }

    /// Tells the sender of a packet, which is still as it was sent, why it goes nowhere.
    #[cold]
    pub(super) fn complain(
        &mut self,
        arrival: &mut Arrival<'_>,
        complaint: Complaint,
        out: &mut impl Output,
    ) {
        let is_v4 = arrival.packet.version == IpVersion::V4;
        let from = match arrival.zone {
            // The sender knows the engine by the address that it called (N-FWD-2).
            Zone::OUTSIDE if self.is_external(&arrival.packet.dst) => Some(arrival.packet.dst),
            zone => self.own_address(zone, is_v4),
        };
        let Some(from) = from else { return };
        let original = (&mut *arrival.bytes, &arrival.packet, arrival.offload);
        let report = self.errors.report(
            arrival.now,
            complaint,
            original,
            (arrival.zone, from),
            &mut self.reply,
        );
        self.send_report(report, arrival.zone, out);
    }

    /// Tells the sender of what cannot be read, if it is a fragment of IPv6 that cannot be one (N-FR-3).
    #[cold]
    pub(super) fn complain_of_fragment(
        &mut self,
        now: Instant,
        zone: Zone,
        bytes: &[u8],
        out: &mut impl Output,
    ) {
        let src = bytes.get(8..24).and_then(|src| src.first_chunk());
        let src = src.map(|&src| Address::v6(src));
        // Whose source is forged is not told of it.
        if src.is_none_or(|src| self.check_source(zone, &src).is_err()) {
            return;
        }
        let Some(from) = self.own_address(zone, false) else {
            return;
        };
        let report = self
            .errors
            .report_fragment(now, bytes, (zone, from), &mut self.reply);
        self.send_report(report, zone, out);
    }

    fn send_report(&mut self, report: Report, zone: Zone, out: &mut impl Output) {
        match report {
            Report::Forbidden => {}
            Report::Limited => self.counters.errors_limited += 1,
            Report::Made => {
                self.counters.errors_sent += 1;
                out.send(zone, &mut self.reply, Offload::NONE);
            }
        }
    }

    /// By which address hosts of a zone know the engine.
    fn own_address(&self, zone: Zone, is_v4: bool) -> Option<Address> {
        match zone {
            Zone::OUTSIDE => {
                let mut own = self.outside.addresses.iter().copied();
                own.find(|address| address.is_v4() == is_v4)
            }
            zone => self.network(zone).and_then(|inside| inside.gateway(is_v4)),
        }
    }
}

impl Arrival<'_> {
    /// Whether it goes over a link of `mtu` bytes as it is, or in the pieces in which it came.
    #[inline]
    pub(super) fn fits(&self, mtu: u16) -> bool {
        match self.cut {
            None => forward::fits(&self.packet, self.offload, mtu),
            Some(cut) => cut.largest <= usize::from(mtu),
        }
    }

    /// Whether a router may cut it (N-FWD-4, N-FR-9, N-FR-10).
    pub(super) fn may_cut(&self) -> bool {
        let dont_fragment = match self.cut {
            Some(cut) => cut.dont_fragment,
            None => self.bytes.get(6).is_some_and(|flags| flags & 0x40 != 0),
        };
        self.packet.version == IpVersion::V4 && !dont_fragment && self.offload.gso.is_none()
    }
}
