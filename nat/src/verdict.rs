//! What became of a packet, and the counters that say so afterwards.

use std::fmt;

use vswitch_wire::Offload;

use crate::Zone;

/// The outcome of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The engine has taken it: it waits for other fragments, or has been sent by [`Output`].
    Consumed,
    /// It goes nowhere. An error may have been sent by [`Output`].
    Drop(DropReason),
    /// The packet, as it now is, leaves into that zone.
    Forward(Zone),
    /// It is for an address of the engine's and nothing translates it. It is as it was; the caller may answer it.
    Local,
}

/// Takes packets that the engine makes: ICMP errors, and the fragments of what it has put together.
pub trait Output {
    /// Sends an IP packet into a zone. The buffer is the engine's and may be changed.
    fn send(&mut self, to: Zone, packet: &mut [u8], offload: Offload);
}

vswitch_wire::reasons! {
    /// Why a packet was not forwarded. Each is counted once, under one reason.
    pub enum DropReason {
        /// A checksum is wrong (N-CK-9, N-ICE-1).
        BadChecksum => "bad_checksum",
        /// The inside host opens connections faster than it may (N-TBL-1).
        CreationRate => "creation_rate",
        /// A fragment overlaps another, or its datagram was given up for that (N-FR-2).
        FragmentOverlap => "fragment_overlap",
        /// There was no room for the fragment, or for its datagram (N-FR-5).
        FragmentsFull => "fragments_full",
        /// An ICMP error that fits no connection, or not its addresses (N-ICE-4, N-ICE-10).
        IcmpUnrelated => "icmp_unrelated",
        /// The tracker finds that it does not belong to its connection, or cannot begin one (N-INV-1).
        Invalid => "invalid",
        /// It would enter another network of this daemon.
        Isolated => "isolated",
        /// It was sent back inside once already (N-DN-4).
        Loop => "loop",
        /// Lengths or headers contradict each other or end early (N-INV-2).
        Malformed => "malformed",
        /// An address that is never routed, as source or destination (N-FWD-10, N-V6-3).
        Martian => "martian",
        /// It is larger than the next link takes and must not be cut (N-FWD-3).
        Mtu => "mtu",
        /// There is no external address of its version, or the zone is not known.
        NoRoute => "no_route",
        /// No port is left for it on the external address (N-PORT-9).
        PortsExhausted => "ports_exhausted",
        /// Its inside host has as many connections as it may (N-TBL-1).
        Quota => "quota",
        /// A redirect about a translated connection (N-ICE-11).
        Redirect => "redirect",
        /// A source route option, or a routing header of type 0 (N-FWD-8, N-V6-1).
        SourceRoute => "source_route",
        /// From outside with an inside source, or from inside with a foreign one (N-FWD-11, N-FWD-12).
        Spoofed => "spoofed",
        /// The table is full (N-TBL-2).
        TableFull => "table_full",
        /// It has come too far (N-FWD-1).
        TimeExceeded => "time_exceeded",
        /// From outside and no connection, mapping or published port admits it (N-FLT-4).
        Unsolicited => "unsolicited",
        /// It cannot be translated: authentication headers, or a second host to one peer (N-OP-2).
        Untranslatable => "untranslatable",
        /// Port 0 (N-PORT-13).
        ZeroPort => "zero_port",
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the engine counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    drops: [u64; DropReason::ALL.len()],
    /// Packets that left translated or routed; a super-frame is one.
    pub forwarded: u64,
    /// Packets to an address of the engine's.
    pub local: u64,
    /// ICMP errors that the engine sent.
    pub errors_sent: u64,
    /// ICMP errors that it did not send because of their limits (N-FWD-7).
    pub errors_limited: u64,
    /// Connections that began.
    pub created: u64,
    /// Connections that were removed to make room for others.
    pub evicted: u64,
    /// Connections whose time was over.
    pub expired: u64,
    /// Datagrams that were put together.
    pub reassembled: u64,
    /// Datagrams in fragments that were dropped to make room for others (N-FR-5).
    pub datagrams_evicted: u64,
    /// Datagrams whose fragments did not all come in time (N-FR-7).
    pub datagrams_expired: u64,
    /// Events that nobody took in time.
    pub events_lost: u64,
}

impl Counters {
    /// How many were dropped for `reason`.
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Every counter with its name, reasons first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let drops = DropReason::ALL.iter();
        let drops = drops.map(|&reason| (reason.name(), self.dropped(reason)));
        drops.chain([
            ("forwarded", self.forwarded),
            ("local", self.local),
            ("errors_sent", self.errors_sent),
            ("errors_limited", self.errors_limited),
            ("created", self.created),
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("reassembled", self.reassembled),
            ("datagrams_evicted", self.datagrams_evicted),
            ("datagrams_expired", self.datagrams_expired),
            ("events_lost", self.events_lost),
        ])
    }

    #[inline]
    pub(crate) const fn count(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            drops: [0; DropReason::ALL.len()],
            forwarded: 0,
            local: 0,
            errors_sent: 0,
            errors_limited: 0,
            created: 0,
            evicted: 0,
            expired: 0,
            reassembled: 0,
            datagrams_evicted: 0,
            datagrams_expired: 0,
            events_lost: 0,
        }
    }
}
