//! Packets of networks whose prefix is translated without state (N-V6-4): they have no connection.

use ipnet::IpNet;

use super::{Nat, path::Arrival};
use crate::{DropReason, Egress, Output, Verdict, Zone, icmp_error::IcmpError, npt::PrefixPair};

/// A prefix translation's way: which pair, and to which zone.
#[derive(Clone, Copy)]
pub(super) struct StatelessWay {
    pair: PrefixPair,
    egress: Zone,
}

impl Nat {
    /// Whether the packet is translated without state, and how.
    pub(super) fn stateless_way(&self, arrival: &Arrival<'_>) -> Result<Option<StatelessWay>, DropReason> {
        // An address of the engine's is its own even where it is within a translated prefix.
        if arrival.packet.src.is_v4() || self.is_external(&arrival.packet.dst) {
            return Ok(None);
        }
        let (src, dst) = (arrival.packet.src.ip(), arrival.packet.dst.ip());
        if arrival.zone.is_outside() {
            let mut pairs = self
                .networks
                .iter()
                .flatten()
                .filter_map(|inside| match inside.network.egress {
                    Egress::Prefix(pair) if IpNet::V6(pair.external()).contains(&dst) => Some(StatelessWay {
                        pair,
                        egress: inside.network.zone,
                    }),
                    _ => None,
                });
            let way = pairs.next();
            if way.is_some() && (self.network_of(src).is_some() || self.is_external(&arrival.packet.src)) {
                return Err(DropReason::Spoofed);
            }
            return Ok(way);
        }
        let inside = self.network(arrival.zone).ok_or(DropReason::NoRoute)?;
        let Egress::Prefix(pair) = inside.network.egress else {
            return Ok(None);
        };
        let stays =
            inside.owns(&arrival.packet.dst) || inside.contains(dst) || self.network_of(dst).is_some();
        if stays {
            return Ok(None);
        }
        if !inside.contains(src) || inside.owns(&arrival.packet.src) {
            return Err(DropReason::Spoofed);
        }
        Ok(Some(StatelessWay {
            pair,
            egress: Zone::OUTSIDE,
        }))
    }

    pub(super) fn send_stateless(
        &mut self,
        arrival: &mut Arrival<'_>,
        way: StatelessWay,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let fit = self.check_way(arrival, way.egress, out)?;
        match way.egress.is_outside() {
            true => way.pair.translate_outward(arrival.bytes, &arrival.packet)?,
            false => way.pair.translate_inward(arrival.bytes, &arrival.packet)?,
        }
        self.pass_on(arrival, (way.egress, fit), out)
    }

    /// An ICMP error about a packet that no connection knows: one that a prefix translation let through, or a stranger's.
    pub(super) fn take_stateless_error(
        &mut self,
        arrival: &mut Arrival<'_>,
        error: &IcmpError,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let way = self
            .stateless_way(arrival)?
            .filter(|_| !error.is_redirect)
            .ok_or(DropReason::IcmpUnrelated)?;
        // An error goes to who sent the quoted packet (N-ICE-4), and one that leaves quotes a packet that came in: the address inside
        // of any other would not be translated.
        let came_in = || !way.egress.is_outside() || way.pair.outward(error.quoted.dst).is_some();
        match error.quoted.src == arrival.packet.dst && came_in() {
            true => self.send_stateless(arrival, way, out),
            false => Err(DropReason::IcmpUnrelated),
        }
    }
}
