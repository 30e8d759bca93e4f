//! A packet's way through the engine: what it is, whose it is, what becomes of it.

use std::time::Instant;

use vswitch_wire::{Fragment, Offload};

use super::Nat;
use crate::{
    Address, Direction, DropReason, Event, Output, TcpPolicy, Timeouts, Timer, Traffic, Tuple, Verdict, Zone,
    conntrack::{Conn, ConnId, Status, Tracker},
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
        if packet.fragment.is_some_and(|fragment| !fragment.is_whole()) {
            self.mtu(zone).ok_or(DropReason::NoRoute)?;
            return self.take_fragment(now, zone, (bytes, &packet), out);
        }
        let mut arrival = Arrival {
            now,
            ticks,
            zone,
            bytes,
            packet,
            offload,
            cut: None,
        };
        self.take_whole(&mut arrival, out)
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
            let mut arrival = Arrival {
                now,
                ticks: self.clock.now(),
                zone,
                bytes: &mut whole.bytes,
                packet,
                offload: &Offload::NONE,
                cut: Some(whole.cut),
            };
            match self.take_whole(&mut arrival, out)? {
                Verdict::Forward(egress) => self.send_again(&mut whole, &packet, egress, out),
                // The caller has its last fragment only, which it could not answer.
                Verdict::Local => Err(DropReason::Unsolicited),
                other => Ok(other),
            }
        });
        self.fragments.recycle(whole.bytes);
        verdict
    }

    #[inline]
    fn take_whole(
        &mut self,
        arrival: &mut Arrival<'_>,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let integrity = rewrite::verify(arrival.bytes, &arrival.packet, arrival.offload)?;
        let Transport { tuple, kind } = Transport::read(arrival.bytes, &arrival.packet, arrival.zone)?;
        if let Kind::Message = kind {
            return self.take_message(arrival, out);
        }
        // RFC 8200 §8.1 has receivers discard it, except where RFC 6935 says otherwise (N-CK-5).
        if integrity == Integrity::Unchecked && !self.config.unchecked_ports.contains(&tuple.dst_port) {
            return Err(DropReason::BadChecksum);
        }
        match self.table.find(&tuple) {
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
        }
    }

    /// A packet of a connection that is there.
    #[inline]
    fn take_known(
        &mut self,
        arrival: &mut Arrival<'_>,
        (id, direction): (ConnId, Direction),
        (tuple, kind): (&Tuple, &Kind),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let egress = self.table.conn(id).tuples[direction.inverted() as usize].zone;
        let fit = self.check_way(arrival, egress, out)?;
        let is_filling = self.is_filling();
        let conn = self.table.conn_mut(id);
        let (status, state) = (conn.status, conn.tracker.state());
        let tracked = match track(conn, direction, kind, arrival, &self.config.tcp) {
            Ok(tracked) => tracked,
            Err(reason) => {
                self.doubt(id, arrival.ticks);
                return Err(reason);
            }
        };
        if tracked.fate == Fate::Reopen {
            return self.reopen(arrival, id, (tuple, kind), out);
        }
        let Traffic { packets, bytes } = on_wire(&arrival.packet, arrival.offload);
        let traffic = &mut conn.traffic[direction as usize];
        traffic.packets += packets;
        traffic.bytes += bytes;
        if direction == Direction::Reply {
            conn.status.insert(Status::REPLIED);
        }
        let is_strangers = conn.status.contains(Status::ADMITTED) && !conn.status.contains(Status::REPLIED);
        let deadline = match tracked.timer {
            Some(timer) if !is_strangers => {
                arrival
                    .ticks
                    .plus(lifetime(&self.config.timeouts, timer, is_filling))
            }
            _ => conn.deadline,
        };
        let ends = conn.tuples[direction.inverted() as usize].inverted().ends();
        rewrite::translate(arrival.bytes, &arrival.packet, &ends, arrival.offload);
        let is_accepted =
            status.contains(Status::ADMITTED) && !status.contains(Status::REPLIED) && !is_strangers;
        let is_news = conn.status != status || conn.tracker.state() != state;
        let is_assured = tracked.fate == Fate::Assure && !status.contains(Status::ASSURED);
        let is_spared = (is_assured || status.contains(Status::ASSURED)) && !conn.tracker.is_closing();
        self.table.set_deadline(id, deadline);
        if is_assured {
            self.table.conn_mut(id).status.insert(Status::ASSURED);
        }
        if is_spared != status.contains(Status::SPARED) {
            self.set_spared(id, is_spared);
        }
        if is_news && is_accepted {
            self.accept(id);
        }
        if is_news || is_assured {
            self.note(Event::Updated, id);
        }
        if tracked.fate == Fate::Remove {
            self.remove_conn(id);
        }
        self.pass_on(arrival, (egress, fit), out)
    }

    /// After a segment that was refused: where both sides have ended what the tracker thinks goes on, it does not go on for
    /// long (N-TCP-25).
    #[cold]
    fn doubt(&mut self, id: ConnId, now: Ticks) {
        let conn = self.table.conn(id);
        if let Tracker::Tcp(track) = &conn.tracker
            && track.is_out_of_step()
        {
            let soonest = now.plus(self.config.timeouts.ticks(Timer::TcpUnacknowledged));
            let deadline = conn.deadline.min(soonest);
            self.table.set_deadline(id, deadline);
        }
    }

    /// A SYN after the end: the entry makes place for another that has the same mapping (N-TCP-11).
    #[cold]
    fn reopen(
        &mut self,
        arrival: &mut Arrival<'_>,
        id: ConnId,
        (tuple, kind): (&Tuple, &Kind),
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let lease = self.table.cold(id).lease;
        self.hold_lease(lease);
        self.remove_conn(id);
        let verdict = self.take_new(arrival, tuple, kind, out);
        self.drop_lease(lease);
        verdict
    }

    /// A message of ICMP that is no query.
    #[cold]
    fn take_message(
        &mut self,
        arrival: &mut Arrival<'_>,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        let error = IcmpError::read(arrival.bytes, &arrival.packet)?;
        // Any other neither begins a connection nor belongs to one (N-ICQ-1).
        let error = error.ok_or(DropReason::Invalid)?;
        self.take_error(arrival, &error, out)
    }

    /// An ICMP error: it belongs to the connection of the packet that it quotes, and says nothing about the connection
    /// itself (N-ICE-9).
    fn take_error(
        &mut self,
        arrival: &mut Arrival<'_>,
        error: &IcmpError,
        out: &mut impl Output,
    ) -> Result<Verdict, DropReason> {
        self.check_source(arrival.zone, &arrival.packet.src)?;
        // The quoted packet went the other way, so its mirror image is what would come from where the error comes from.
        let quoted = error.quoted_in(arrival.zone);
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
        let fit = self.check_way(arrival, other.zone, out)?;
        // The other side knows the quoted packet as it sent it, and who answers by the address that it called (N-ICE-8).
        let src = match key.src == other.dst {
            true => arrival.packet.src,
            false => other.dst,
        };
        error.translate(arrival.bytes, &arrival.packet, &other.ends(), (src, other.src));
        self.pass_on(arrival, (other.zone, fit), out)
    }

    /// Refuses what has come too far or does not fit the way ahead, and tells its sender (N-FWD-1, N-FWD-3).
    #[inline]
    pub(super) fn check_way(
        &mut self,
        arrival: &mut Arrival<'_>,
        egress: Zone,
        out: &mut impl Output,
    ) -> Result<Fit, DropReason> {
        let mtu = self.mtu(egress).ok_or(DropReason::NoRoute)?;
        if arrival.packet.hop_limit > 1 && arrival.fits(mtu) {
            return Ok(Fit::Whole);
        }
        self.look_closer(arrival, mtu, out)
    }

    #[cold]
    fn look_closer(
        &mut self,
        arrival: &mut Arrival<'_>,
        mtu: u16,
        out: &mut impl Output,
    ) -> Result<Fit, DropReason> {
        if arrival.packet.hop_limit <= 1 {
            self.complain(arrival, Complaint::TimeExceeded, out);
            return Err(DropReason::TimeExceeded);
        }
        if arrival.may_cut() {
            return Ok(Fit::Cut);
        }
        self.complain(arrival, Complaint::PacketTooBig(mtu), out);
        Err(DropReason::Mtu)
    }

    /// Whether a packet has a connection; an error if it cannot be read.
    pub(super) fn recognises(&self, now: Ticks, zone: Zone, bytes: &[u8]) -> Result<bool, DropReason> {
        let packet = Packet::parse(bytes)?;
        let is_live = |tuple: &Tuple| {
            let found = self.table.find(tuple);
            found.is_some_and(|(id, _)| self.table.conn(id).deadline > now)
        };
        if packet.fragment.is_some_and(|fragment| !fragment.is_whole()) {
            let begins = hint(zone, bytes).filter(|_| packet.fragment.is_some_and(Fragment::is_first));
            return Ok(
                begins.is_some_and(|tuple| is_live(&tuple)) || self.fragments.expects(zone, bytes, &packet)
            );
        }
        let Transport { tuple, kind } = Transport::read(bytes, &packet, zone)?;
        let Kind::Message = kind else {
            return Ok(is_live(&tuple));
        };
        let error = IcmpError::read(bytes, &packet)?;
        Ok(error.is_some_and(|error| is_live(&error.quoted_in(zone).inverted())))
    }

    /// Reads the memory that handling these packets will need: first what leads to their entries, then the entries.
    pub(super) fn touch<'p>(&self, zone: Zone, packets: impl Iterator<Item = &'p [u8]>) {
        // One step at a time for all of them: each step's loads then wait together.
        let mut hashes = [None; TOUCHED];
        let mut count = 0;
        for (bytes, hash) in packets.zip(&mut hashes) {
            *hash = hint(zone, bytes).map(|tuple| self.table.hash(&tuple));
            count += 1;
        }
        let mut keys = [u32::MAX; TOUCHED];
        for (hash, key) in hashes[..count].iter().zip(&mut keys) {
            *key = hash.map_or(u32::MAX, |hash| self.table.guess(hash));
        }
        let touched = keys[..count].iter().map(|&key| self.table.touch(key));
        std::hint::black_box(touched.fold(0, u32::wrapping_add));
    }
}

/// How a packet goes over the next link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// In pieces.
    Cut,
    Whole,
}

/// The tuple of a plain packet of TCP or UDP, without any check.
#[inline]
fn hint(zone: Zone, bytes: &[u8]) -> Option<Tuple> {
    let (src, dst, protocol, ports) = match bytes.first()? {
        0x45 => {
            let &[
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                protocol,
                _,
                _,
                a,
                b,
                c,
                d,
                e,
                f,
                g,
                h,
                ref ports @ ..,
            ] = bytes.first_chunk::<24>()?;
            (
                Address::v4([a, b, c, d]),
                Address::v4([e, f, g, h]),
                protocol,
                *ports,
            )
        }
        0x60 => {
            let packet = bytes.first_chunk::<44>()?;
            let ([src, dst], _) = packet[8..40].as_chunks::<16>() else {
                return None;
            };
            let ports = packet.last_chunk::<4>()?;
            (Address::v6(*src), Address::v6(*dst), packet[6], *ports)
        }
        _ => return None,
    };
    let [a, b, c, d] = ports;
    Some(Tuple {
        src,
        dst,
        src_port: u16::from_be_bytes([a, b]),
        dst_port: u16::from_be_bytes([c, d]),
        zone,
        protocol,
        query: 0,
    })
}

/// Lets the protocol's tracker judge a packet of a connection.
#[inline]
fn track(
    conn: &mut Conn,
    direction: Direction,
    kind: &Kind,
    arrival: &Arrival<'_>,
    policy: &TcpPolicy,
) -> Result<Tracked, DropReason> {
    // As it was before this packet: the first answer alone makes no stream (N-FLT-6).
    let is_replied = conn.status.contains(Status::REPLIED);
    let tracked = |timer, fate| {
        Ok(Tracked {
            timer: Some(timer),
            fate,
        })
    };
    match (&mut conn.tracker, kind) {
        (Tracker::Tcp(track), Kind::Tcp(segment)) => track.track(direction, segment, policy),
        // With identifier 0 a question from the other side has the tuple of an answer (N-ICQ-1, N-ICQ-5).
        (_, Kind::Ask(_)) if direction == Direction::Reply => Err(DropReason::Invalid),
        (_, Kind::Answer) if direction == Direction::Original => Err(DropReason::Invalid),
        (Tracker::Tcp(_), _) => Err(DropReason::Invalid),
        // Only what goes on for a while is a stream (N-FLT-6).
        (Tracker::Udp(since), _) if is_replied && arrival.ticks.since(*since) >= STREAM_AGE => {
            tracked(Timer::UdpStream, Fate::Assure)
        }
        (Tracker::Udp(_), _) if conn.status.contains(Status::SHORT) => tracked(Timer::UdpShort, Fate::Keep),
        (Tracker::Udp(_), _) => tracked(Timer::Udp, Fate::Keep),
        (Tracker::Sctp(track), _) => {
            let packet = arrival.bytes.get(arrival.packet.transport..arrival.packet.len);
            track.track(direction, packet.unwrap_or_default())
        }
        (Tracker::Stateless(Timer::Gre), _) if is_replied => tracked(Timer::GreStream, Fate::Assure),
        (Tracker::Stateless(Timer::Generic), _) if is_replied => tracked(Timer::Generic, Fate::Assure),
        (Tracker::Stateless(timer), _) => tracked(*timer, Fate::Keep),
    }
}

/// How long a connection that waits for `timer` has. Where most of the table is in use, what is idle has less (nat-conformance §2).
#[inline]
pub(super) fn lifetime(timeouts: &Timeouts, timer: Timer, is_filling: bool) -> u32 {
    let ticks = timeouts.ticks(timer);
    match timer {
        Timer::TcpEstablished if is_filling => ticks.min(FILLING_ESTABLISHED),
        Timer::TcpCloseWait if is_filling => ticks.min(FILLING_CLOSE_WAIT),
        _ => ticks,
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

/// Packets that are looked ahead at together: as many as a core can wait for and more.
const TOUCHED: usize = 64;
/// nf_conntrack_proto_udp.c: two seconds after its beginning, a flow with answers is a stream.
const STREAM_AGE: u32 = 2 * Ticks::PER_SECOND;
/// nat-conformance §2: 2 h 4 min where the table is filling.
const FILLING_ESTABLISHED: u32 = 7440 * Ticks::PER_SECOND;
/// nat-conformance §2, "240 under pressure".
const FILLING_CLOSE_WAIT: u32 = 240 * Ticks::PER_SECOND;
