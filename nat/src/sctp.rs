//! The tracker of one SCTP association (N-OP-1).
//!
//! Theory of operation. Every packet of a direction carries the tag that its receiver has chosen (RFC 9260 §8.5). INIT and
//! INIT ACK offer tags, but INIT proves nothing: anybody can send one. So what they say is only [offered](SctpTrack::offered)
//! until a COOKIE ECHO that carries it takes it into force; a packet with another tag changes nothing. The states and their
//! steps are those of Linux's `nf_conntrack_proto_sctp.c`, with the INIT counted as COOKIE_WAIT, which it is for its sender.
//! Further addresses of an association (RFC 5061) pass unread and match nothing.

use crate::{
    Direction, DropReason, Timer,
    tcp::{Fate, Tracked},
};

/// One association. At most 24 bytes.
///
/// # States
///
/// `COOKIE_WAIT` after an INIT, `HEARTBEAT_SENT` after a heartbeat, `SHUTDOWN_ACK_SENT` after the end of an association
/// that was not seen. [`track`](Self::track) may be called in every state; [`Fate::Reopen`] is the exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SctpTrack {
    /// What packets of each direction carry; 0 where that is not known.
    tags: [u32; 2],
    /// What they will carry when the handshake in progress is complete.
    offered: [u32; 2],
    state: State,
}

impl SctpTrack {
    /// Bytes of a snapshot.
    pub(crate) const SNAPSHOT_LEN: usize = 17;

    /// Begins with an association's first packet, from its SCTP common header on, whose length and checksum were checked.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] if no association begins so, [`DropReason::Malformed`] if its chunks do not fit.
    pub(crate) fn open(packet: &[u8]) -> Result<(Self, Timer), DropReason> {
        let (tag, mut chunks) = read(packet)?;
        let first = chunks.next().ok_or(DropReason::Malformed)??;
        let mut track = Self {
            tags: [0; 2],
            offered: [0; 2],
            state: State::CookieWait,
        };
        match first.kind {
            INIT => {
                track.offered[Direction::Reply as usize] = offer(&first, &mut chunks)?;
                if tag != 0 {
                    return Err(DropReason::Invalid);
                }
            }
            HEARTBEAT | SHUTDOWN_ACK if tag != 0 => {
                track.tags[Direction::Original as usize] = tag;
                track.state = match first.kind {
                    HEARTBEAT => State::HeartbeatSent,
                    // RFC 9260 §8.4: the peer may answer with SHUTDOWN COMPLETE, out of the blue.
                    _ => State::ShutdownAckSent,
                };
            }
            _ => return Err(DropReason::Invalid),
        }
        Ok((track, track.state.timer()))
    }

    /// Takes a later packet.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] for a wrong tag, or chunks that belong to no packet of this state; [`DropReason::Malformed`].
    /// Nothing has changed.
    pub(crate) fn track(&mut self, direction: Direction, packet: &[u8]) -> Result<Tracked, DropReason> {
        let (tag, mut chunks) = read(packet)?;
        let first = chunks.next().ok_or(DropReason::Malformed)??;
        match first.kind {
            INIT => return self.init(direction, tag, offer(&first, &mut chunks)?),
            INIT_ACK => return self.init_ack(direction, tag, offer(&first, &mut chunks)?),
            _ => {}
        }
        let mut next = *self;
        next.check_tag(direction, tag, &first)?;
        let mut chunk = first;
        for _ in 0..MAX_CONTROL_CHUNKS {
            next.state = next.state.after(direction, chunk.kind);
            match chunks.next() {
                // What follows data is data (RFC 9260 §6.10).
                _ if matches!(chunk.kind, DATA | I_DATA) => return Ok(self.settle(direction, next)),
                None => return Ok(self.settle(direction, next)),
                Some(Ok(Chunk { kind, .. })) if !may_follow(kind) => return Err(DropReason::Invalid),
                Some(following) => chunk = following?,
            }
        }
        Err(DropReason::Invalid)
    }

    /// Its state, in the words of `conntrack`.
    pub(crate) const fn state(&self) -> &'static str {
        self.state.name()
    }

    /// Everything about it, for a restart that keeps it (N-TBL-10).
    pub(crate) fn save(&self) -> [u8; Self::SNAPSHOT_LEN] {
        let mut bytes = [0; Self::SNAPSHOT_LEN];
        let [a, b] = self.tags;
        let [c, d] = self.offered;
        for (to, value) in bytes.as_chunks_mut().0.iter_mut().zip([a, b, c, d]) {
            *to = u32::to_be_bytes(value);
        }
        bytes[16] = self.state as u8;
        bytes
    }

    /// From a snapshot; `None` if [`save`](Self::save) makes no such bytes.
    pub(crate) fn restore(bytes: &[u8; Self::SNAPSHOT_LEN]) -> Option<Self> {
        let (values, _) = bytes.as_chunks();
        let &[a, b, c, d] = values.first_chunk()?;
        let [a, b, c, d] = [a, b, c, d].map(u32::from_be_bytes);
        Some(Self {
            tags: [a, b],
            offered: [c, d],
            state: *State::ALL.get(usize::from(bytes[16]))?,
        })
    }

    /// An INIT, which offers the tag of the other direction's packets.
    fn init(&mut self, direction: Direction, tag: u32, offered: u32) -> Result<Tracked, DropReason> {
        if tag != 0 {
            return Err(DropReason::Invalid);
        }
        match (self.state, direction) {
            (State::Closed, Direction::Original) => return Ok(Tracked::REOPEN),
            (State::HeartbeatSent | State::Closed, Direction::Reply) => return Err(DropReason::Invalid),
            (State::HeartbeatSent, Direction::Original) => self.state = State::CookieWait,
            // Of a host that has begun anew, or from both at once, or forged: the COOKIE ECHO will tell.
            _ => {}
        }
        self.offered[direction.inverted() as usize] = offered;
        match (self.state, direction) {
            (State::CookieWait, Direction::Original) => Ok(Tracked::keep(self.state.timer())),
            _ => Ok(Tracked::UNCHANGED),
        }
    }

    /// An INIT ACK, which carries the tag that the INIT offered.
    fn init_ack(&mut self, direction: Direction, tag: u32, offered: u32) -> Result<Tracked, DropReason> {
        if tag == 0 || tag != self.offered[direction as usize] {
            return Err(DropReason::Invalid);
        }
        self.offered[direction.inverted() as usize] = offered;
        match self.state {
            State::CookieWait => Ok(Tracked::keep(self.state.timer())),
            _ => Ok(Tracked::UNCHANGED),
        }
    }

    /// RFC 9260 §8.5: whether a packet that begins with `first` carries the right tag; takes over one that is not known yet.
    fn check_tag(&mut self, direction: Direction, tag: u32, first: &Chunk<'_>) -> Result<(), DropReason> {
        let (own, peer) = (direction as usize, direction.inverted() as usize);
        let is_right = match first.kind {
            // With the T bit the sender has no association, and returns the tag that it was sent.
            ABORT | SHUTDOWN_COMPLETE if first.flags & T_BIT != 0 => {
                tag == self.tags[peer] || tag == self.offered[peer]
            }
            ABORT => tag == self.tags[own] || tag == self.offered[own],
            COOKIE_ECHO if tag == self.offered[own] => {
                self.tags = self.offered;
                true
            }
            HEARTBEAT_ACK if self.state == State::HeartbeatSent && self.tags[own] == 0 => {
                self.tags[own] = tag;
                direction == Direction::Reply
            }
            _ => tag == self.tags[own],
        };
        match tag != 0 && is_right {
            true => Ok(()),
            false => Err(DropReason::Invalid),
        }
    }

    /// Takes over what a packet led to.
    fn settle(&mut self, direction: Direction, next: Self) -> Tracked {
        let old = std::mem::replace(self, next);
        let mut tracked = Tracked::keep(self.state.timer());
        let is_confirmed = matches!(old.state, State::CookieEchoed | State::HeartbeatSent)
            && self.state == State::Established
            && direction == Direction::Reply;
        if is_confirmed {
            tracked.fate = Fate::Assure;
        }
        tracked
    }
}

/// States, in the words of `conntrack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Closed,
    CookieWait,
    CookieEchoed,
    Established,
    ShutdownSent,
    ShutdownReceived,
    ShutdownAckSent,
    HeartbeatSent,
}

impl State {
    /// All, in the order of their numbers.
    const ALL: [Self; 8] = [
        Self::Closed,
        Self::CookieWait,
        Self::CookieEchoed,
        Self::Established,
        Self::ShutdownSent,
        Self::ShutdownReceived,
        Self::ShutdownAckSent,
        Self::HeartbeatSent,
    ];

    /// The state after a chunk, if its packet carries the right tag.
    const fn after(self, direction: Direction, chunk: u8) -> Self {
        match (chunk, self, direction) {
            (ABORT, ..) => Self::Closed,
            (SHUTDOWN, Self::Established, Direction::Original) => Self::ShutdownSent,
            (SHUTDOWN, Self::Established, Direction::Reply) => Self::ShutdownReceived,
            (SHUTDOWN_ACK, Self::ShutdownSent | Self::ShutdownReceived, _) => Self::ShutdownAckSent,
            (SHUTDOWN_COMPLETE, Self::ShutdownAckSent, _) => Self::Closed,
            // The cookie was too old; the initiator begins again or gives up.
            (ERROR, Self::CookieEchoed, Direction::Reply) => Self::Closed,
            (COOKIE_ECHO, Self::CookieWait, _) => Self::CookieEchoed,
            (COOKIE_ACK, Self::CookieEchoed, _) => Self::Established,
            (HEARTBEAT_ACK, Self::HeartbeatSent, Direction::Reply) => Self::Established,
            _ => self,
        }
    }

    const fn timer(self) -> Timer {
        match self {
            Self::Closed => Timer::SctpClosed,
            Self::CookieWait => Timer::SctpCookieWait,
            Self::CookieEchoed => Timer::SctpCookieEchoed,
            Self::Established => Timer::SctpEstablished,
            Self::ShutdownSent => Timer::SctpShutdownSent,
            Self::ShutdownReceived => Timer::SctpShutdownReceived,
            Self::ShutdownAckSent => Timer::SctpShutdownAckSent,
            Self::HeartbeatSent => Timer::SctpHeartbeatSent,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::CookieWait => "COOKIE_WAIT",
            Self::CookieEchoed => "COOKIE_ECHOED",
            Self::Established => "ESTABLISHED",
            Self::ShutdownSent => "SHUTDOWN_SENT",
            Self::ShutdownReceived => "SHUTDOWN_RECD",
            Self::ShutdownAckSent => "SHUTDOWN_ACK_SENT",
            Self::HeartbeatSent => "HEARTBEAT_SENT",
        }
    }
}

/// One chunk of a packet.
#[derive(Clone, Copy, Debug)]
struct Chunk<'a> {
    kind: u8,
    flags: u8,
    /// What follows its header, without padding.
    value: &'a [u8],
}

/// Iterator over the chunks of a packet; the first that does not fit ends it with an error.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, DropReason>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.0);
        let &[kind, flags, a, b, ..] = rest else {
            return (!rest.is_empty()).then_some(Err(DropReason::Malformed));
        };
        let len = usize::from(u16::from_be_bytes([a, b]));
        let Some(value) = rest.get(CHUNK_HEADER_LEN..len) else {
            return Some(Err(DropReason::Malformed));
        };
        // Chunks are padded to four bytes; the last one's padding may be missing.
        self.0 = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Chunk { kind, flags, value }))
    }
}

/// The tag of a packet, and its chunks.
fn read(packet: &[u8]) -> Result<(u32, Chunks<'_>), DropReason> {
    let (header, chunks) = packet
        .split_first_chunk::<COMMON_HEADER_LEN>()
        .ok_or(DropReason::Malformed)?;
    let &[_, _, _, _, a, b, c, d, ..] = header;
    Ok((u32::from_be_bytes([a, b, c, d]), Chunks(chunks)))
}

/// The tag that an INIT or INIT ACK offers, which must be alone in its packet (RFC 9260 §6.10).
fn offer(chunk: &Chunk<'_>, rest: &mut Chunks<'_>) -> Result<u32, DropReason> {
    let tag = match chunk.value.first_chunk() {
        Some(tag) if chunk.value.len() >= INIT_LEN => u32::from_be_bytes(*tag),
        _ => return Err(DropReason::Malformed),
    };
    match tag != 0 && rest.next().is_none() {
        true => Ok(tag),
        false => Err(DropReason::Invalid),
    }
}

/// Whether such a chunk may follow others. Those that decide how the tag is checked come first in their packets
/// (RFC 9260 §5.1, §6.10), but for an ABORT, which may follow control chunks: it is checked as they are.
const fn may_follow(kind: u8) -> bool {
    !matches!(
        kind,
        INIT | INIT_ACK | COOKIE_ECHO | COOKIE_ACK | SHUTDOWN_COMPLETE
    )
}

/// RFC 9260 §3.1: ports, tag and checksum.
const COMMON_HEADER_LEN: usize = 12;
/// RFC 9260 §3.2: kind, flags and length.
const CHUNK_HEADER_LEN: usize = 4;
/// RFC 9260 §3.3.2: what every INIT has behind its header.
const INIT_LEN: usize = 16;
/// RFC 9260 §8.5.1: "the T bit" of ABORT and SHUTDOWN COMPLETE.
const T_BIT: u8 = 1;
/// So many are read of one packet; no stack sends as many before its data.
const MAX_CONTROL_CHUNKS: usize = 64;

// Chunk types of RFC 9260 §3.2, and I-DATA of RFC 8260 §2.1.
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const I_DATA: u8 = 64;

const _: () = assert!(
    size_of::<SctpTrack>() <= 24,
    "a connection has room for 60 bytes, and needs few of them"
);

#[cfg(test)]
mod tests;
