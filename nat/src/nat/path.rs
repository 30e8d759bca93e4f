//! A packet's way through the engine: what it is, whose it is, what becomes of it.

use std::time::Instant;

use vswitch_wire::Offload;

use super::Nat;
use crate::{
    Direction, DropReason, Event, Output, Timer, Traffic, Tuple, Verdict, Zone,
    conntrack::{ConnId, Status, Tracker},
    forward::{self, Complaint},
    fragments::Cut,
    icmp_error::IcmpError,
    packet::Packet,
    rewrite::{self, Integrity},
    tcp::{Fate, Tracked},
    time::Ticks,
    transport::{Kind, Transport},
};

/// A packet that is no fragment, with what was read of it.
pub(super) struct Arrival<'p> {
    pub(super) now: Instant,
    pub(super) ticks: Ticks,
    pub(super) zone: Zone,
    pub(super) bytes: &'p mut [u8],
    pub(super) packet: Packet,
    pub(super) offload: &'p Offload,
    /// How it had been cut, if it was put together here.
    pub(super) cut: Option<Cut>,
}

impl Nat {
    pub(super) fn take(
        &mut self,
        now: Instant,
        zone: Zone,
        (bytes, offload): (&mut [u8], &Offload),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let ticks = self.clock.advance(now);
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            Err(reason) => {
                self.complain_of_fragment(now, zone, bytes, out);
                return Err(reason);
            }
        };
        forward::check_scope(bytes, &packet)?;
        if packet.fragment.is_none_or(|fragment| fragment.is_whole()) {
            let arrival = Arrival {
                now,
                ticks,
                zone,
                bytes,
                packet,
                offload,
                cut: None,
            };
            return self.take_whole(arrival, out);
        }
        self.mtu(zone).ok_or(DropReason::NoRoute)?;
        self.take_fragment(now, zone, (bytes, &packet), out)
    }

    /// A fragment: nothing is decided before its datagram is whole (N-FR-1).
    fn take_fragment(
        &mut self,
        now: Instant,
        zone: Zone,
        fragment: (&[u8], &Packet),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let timeouts = &self.config.timeouts;
        let outcome = self.fragments.handle(now, zone, fragment, timeouts);
        self.count_lost();
        let Some(mut whole) = outcome? else {
            return Ok(Verdict::Consumed);
        };
        self.counters.reassembled += 1;
        let verdict = Packet::parse(&whole.bytes).and_then(|packet| {
            let arrival = Arrival {
                now,
                ticks: self.clock.now(),
                zone,
                bytes: &mut whole.bytes,
                packet,
                offload: &Offload::NONE,
                cut: Some(whole.cut),
            };
            match self.take_whole(arrival, out)? {
                Verdict::Forward(egress) => self.send_again(&mut whole, &packet, egress, out),
                other => Ok(other),
            }
        });
        self.fragments.recycle(whole.bytes);
        verdict
    }

    fn take_whole(&mut self, arrival: Arrival<'_>, out: &mut impl Output) -> Result<Verdict, DropReason> {
        let Arrival { zone, ref packet, .. } = arrival;
        let integrity = rewrite::verify(arrival.bytes, packet, arrival.offload)?;
        match Transport::read(arrival.bytes, packet, zone)? {
            Transport::Error(error) => self.take_error(arrival, &error, out),
            // RFC 8200 §8.1 has receivers discard it, except where RFC 6935 says otherwise (N-CK-5).
            Transport::Flow(tuple, _)
                if integrity == Integrity::Unchecked
                    && !self.config.unchecked_ports.contains(&tuple.dst_port) =>
            {
                Err(DropReason::BadChecksum)
            }
            Transport::Flow(tuple, kind) => match self.table.find(&tuple) {
                Some((id, direction)) if self.table.conn(id).deadline > arrival.ticks => {
                    self.take_known(arrival, (id, direction), (&tuple, &kind), out)
                }
                Some((id, _)) => {
                    // The sweeper has not come round yet (N-TMO-3).
                    self.counters.expired += 1;
                    self.remove_conn(id);
                    self.take_new(arrival, &tuple, &kind, out)
                }
                None => self.take_new(arrival, &tuple, &kind, out),
            },
        }
    }

    fn take_known(
        &mut self,
        arrival: Arrival<'_>,
        (id, direction): (ConnId, Direction),
        (tuple, kind): (&Tuple, &Kind),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let other = self.table.conn(id).tuples[direction.inverted() as usize];
        let mut arrival = arrival;
        self.check_way(&mut arrival, other.zone, out)?;
        let tracked = self.track(id, direction, kind, &arrival)?;
        if tracked.fate == Fate::Reopen {
            // The mapping must outlive the entry (N-TCP-11).
            let lease = self.table.cold(id).lease;
            self.hold_lease(lease);
            self.remove_conn(id);
            let verdict = self.take_new(arrival, tuple, kind, out);
            self.drop_lease(lease);
            return verdict;
        }
        self.count_traffic(id, direction, &arrival);
        self.refresh(id, direction, &tracked, arrival.ticks);
        let verdict = self.send_translated(&mut arrival, &other.inverted(), out);
        if tracked.fate == Fate::Remove {
            self.remove_conn(id);
        }
        verdict
    }

    /// Lets the protocol's tracker judge a packet of a connection.
    #[inline]
    fn track(
        &mut self,
        id: ConnId,
        direction: Direction,
        kind: &Kind,
        arrival: &Arrival<'_>,
    ) -> Result<Tracked, DropReason> {
        let policy = &self.config.tcp;
        let conn = self.table.conn_mut(id);
        let replied = conn.status.contains(Status::REPLIED) || direction == Direction::Reply;
        let keep = |timer| {
            Ok(Tracked {
                timer: Some(timer),
                fate: Fate::Keep,
            })
        };
        match (&mut conn.tracker, kind) {
            (Tracker::Tcp(track), Kind::Tcp(segment)) => track.track(direction, segment, policy),
            (Tracker::Udp(since), _) => {
                // Only what goes on for a while is a stream (N-FLT-6).
                if replied && arrival.ticks >= since.plus(STREAM_AGE) {
                    return Ok(Tracked {
                        timer: Some(Timer::UdpStream),
                        fate: Fate::Assure,
                    });
                }
                keep(match conn.status.contains(Status::SHORT) {
                    true => Timer::UdpShort,
                    false => Timer::Udp,
                })
            }
            (Tracker::Sctp(track), _) => {
                let packet = &arrival.bytes[arrival.packet.transport..arrival.packet.len];
                track.track(direction, packet)
            }
            (Tracker::Stateless(Timer::Gre), _) if replied => Ok(Tracked {
                timer: Some(Timer::GreStream),
                fate: Fate::Assure,
            }),
            (Tracker::Stateless(timer), _) => {
                let fate = match (replied, *timer) {
                    (true, Timer::Generic) => Fate::Assure,
                    _ => Fate::Keep,
                };
                Ok(Tracked {
                    timer: Some(*timer),
                    fate,
                })
            }
            (Tracker::Tcp(_), _) => Err(DropReason::Invalid),
        }
    }

    #[inline]
    pub(super) fn count_traffic(&mut self, id: ConnId, direction: Direction, arrival: &Arrival<'_>) {
        let Traffic { packets, bytes } = on_wire(&arrival.packet, arrival.offload);
        let traffic = &mut self.table.conn_mut(id).traffic[direction as usize];
        traffic.packets += packets;
        traffic.bytes += bytes;
    }

    #[inline]
    fn refresh(&mut self, id: ConnId, direction: Direction, tracked: &Tracked, now: Ticks) {
        let conn = self.table.conn_mut(id);
        let before = conn.status;
        if direction == Direction::Reply {
            conn.status.insert(Status::REPLIED);
        }
        let is_strangers = before.contains(Status::ADMITTED) && !conn.status.contains(Status::REPLIED);
        if let Some(timer) = tracked.timer
            && !is_strangers
        {
            let deadline = now.plus(self.lifetime(timer));
            self.table.set_deadline(id, deadline);
        }
        if tracked.fate == Fate::Assure && !before.contains(Status::ASSURED) {
            self.assure(id);
        }
        if self.table.conn(id).status != before {
            self.note(Event::Updated, id);
        }
    }

    /// How long a connection that waits for `timer` has. Where most of the table is in use, what is idle has less (nat-conformance §2).
    #[inline]
    pub(super) fn lifetime(&self, timer: Timer) -> u32 {
        let ticks = self.config.timeouts.ticks(timer);
        match timer {
            Timer::TcpEstablished if self.is_filling() => ticks.min(FILLING_ESTABLISHED),
            Timer::TcpCloseWait if self.is_filling() => ticks.min(FILLING_CLOSE_WAIT),
            _ => ticks,
        }
    }

    /// An ICMP error: it belongs to the connection of the packet that it quotes, and says nothing about the connection
    /// itself (N-ICE-9).
    fn take_error(
        &mut self,
        mut arrival: Arrival<'_>,
        error: &IcmpError,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        // The quoted packet went the other way, so its mirror image is what would come from where the error comes from.
        let quoted = Tuple {
            src: error.quoted.src,
            dst: error.quoted.dst,
            src_port: error.quoted.src_port,
            dst_port: error.quoted.dst_port,
            zone: arrival.zone,
            protocol: error.protocol.0,
            query: error.query,
        };
        let key = quoted.inverted();
        let found = self.table.find(&key);
        let Some((id, direction)) = found.filter(|&(id, _)| self.table.conn(id).deadline > arrival.ticks)
        else {
            return self.take_stateless_error(arrival, error, out);
        };
        let conn = self.table.conn(id);
        let other = conn.tuples[direction.inverted() as usize];
        // Who forges an error must at least know where the quoted packet came from (N-ICE-4).
        if arrival.packet.dst != key.dst {
            return Err(DropReason::IcmpUnrelated);
        }
        if let (Tracker::Tcp(track), Some(sequence)) = (&conn.tracker, error.sequence)
            && !track.is_in_flight(direction.inverted(), sequence)
        {
            return Err(DropReason::IcmpUnrelated);
        }
        let is_translated = key.inverted().ends() != other.ends();
        if error.is_redirect && is_translated {
            return Err(DropReason::Redirect);
        }
        self.check_way(&mut arrival, other.zone, out)?;
        // The other side knows the quoted packet as it sent it, and who answers by the address that it called (N-ICE-8).
        let src = match key.src == other.dst {
            true => arrival.packet.src,
            false => other.dst,
        };
        error.translate(arrival.bytes, &arrival.packet, &other.ends(), (src, other.src));
        self.pass_on(&mut arrival, other.zone, out)
    }

    /// Refuses what has come too far or does not fit the way ahead, and tells its sender (N-FWD-1, N-FWD-3).
    #[inline]
    pub(super) fn check_way(
        &mut self,
        arrival: &mut Arrival<'_>,
        egress: Zone,
        out: &mut impl Output,
    ) -> Result<(), DropReason> {
        if arrival.packet.hop_limit <= 1 {
            self.complain(arrival, Complaint::TimeExceeded, out);
            return Err(DropReason::TimeExceeded);
        }
        let mtu = self.mtu(egress).ok_or(DropReason::NoRoute)?;
        if arrival.fits(mtu) || arrival.may_cut() {
            return Ok(());
        }
        self.complain(arrival, Complaint::PacketTooBig(mtu), out);
        Err(DropReason::Mtu)
    }

    /// Reads the memory that a lookup will need.
    pub(super) fn touch(&self, zone: Zone, bytes: &[u8]) -> u8 {
        let Ok(packet) = Packet::parse(bytes) else {
            return 0;
        };
        match bytes.get(packet.transport..packet.transport + 4) {
            Some(&[a, b, c, d]) if packet.fragment.is_none() => self.table.touch(&Tuple {
                src: packet.src,
                dst: packet.dst,
                src_port: u16::from_be_bytes([a, b]),
                dst_port: u16::from_be_bytes([c, d]),
                zone,
                protocol: packet.protocol.0,
                query: 0,
            }),
            _ => 0,
        }
    }
}

/// What a packet counts for (N-TBL-8).
#[inline]
pub(super) fn on_wire(packet: &Packet, offload: &Offload) -> Traffic {
    match offload.gso {
        None => Traffic {
            packets: 1,
            bytes: packet.len as u64,
        },
        Some(gso) => {
            let packets = offload.segments(packet.len) as u64;
            Traffic {
                packets,
                bytes: packet.len as u64 + (packets - 1) * u64::from(gso.header_len),
            }
        }
    }
}

/// nf_conntrack_proto_udp.c: two seconds after its beginning, a flow with answers is a stream.
const STREAM_AGE: u32 = 2 * Ticks::PER_SECOND;
/// nat-conformance §2: 2 h 4 min where the table is filling.
const FILLING_ESTABLISHED: u32 = 7440 * Ticks::PER_SECOND;
/// nat-conformance §2, "240 under pressure".
const FILLING_CLOSE_WAIT: u32 = 240 * Ticks::PER_SECOND;
