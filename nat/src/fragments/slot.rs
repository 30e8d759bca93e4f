//! One datagram of which fragments are missing.

use std::time::Instant;

use vswitch_wire::{IpProtocol, IpVersion, Ipv6Header, checksum, reassembly::Partial};

use crate::DropReason;

use super::{
    Whole,
    arrival::{Arrival, Key},
    cut::Cut,
    queue::{By, Links},
};

/// A datagram of which fragments are missing, or a place for one.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) datagram: Partial,
    pub(super) deadline: Instant,
    pub(super) state: State,
    pub(super) links: [Links; By::COUNT],
    /// Fragments that came.
    pub(super) pieces: usize,
    /// Bytes of the largest of them.
    largest: usize,
    /// Whether all of them had DF.
    dont_fragment: bool,
    /// A bit for each value of the ECN field that came.
    ecn: u8,
    /// Of the first fragment; see [`Arrival::link`].
    link: (usize, IpProtocol),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Its fragments overlap, or are too many: those that still come are dropped until its time is over (N-FR-2).
    GivenUp,
    Open,
}

impl Slot {
    /// For the datagram of `arrival`, which is not in it yet.
    pub(super) fn new(deadline: Instant, arrival: &Arrival<'_>) -> Self {
        Self {
            key: arrival.key,
            datagram: Partial::new(Vec::new()),
            deadline,
            state: State::Open,
            links: [Links::default(); By::COUNT],
            pieces: 0,
            largest: 0,
            dont_fragment: true,
            ecn: 0,
            link: arrival.link,
        }
    }

    /// Uses the memory of a buffer, before anything came.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        self.datagram = Partial::new(buffer);
    }

    /// How much more memory it takes with `arrival`.
    pub(super) fn growth(&self, arrival: &Arrival<'_>) -> usize {
        let head_len = match self.takes_head(arrival) {
            true => arrival.head.len(),
            false => self.datagram.head_len(),
        };
        self.datagram.growth(head_len, arrival.piece.end())
    }

    pub(super) fn put(&mut self, arrival: &Arrival<'_>) {
        if self.takes_head(arrival) {
            self.datagram.set_head(arrival.head);
            self.link = arrival.link;
        }
        self.datagram.put(&arrival.piece);
        self.pieces += 1;
        self.largest = self.largest.max(arrival.len);
        self.dont_fragment &= arrival.dont_fragment;
        self.ecn |= 1 << arrival.ecn;
    }

    /// The packet, once nothing is missing.
    ///
    /// # Errors
    ///
    /// [`DropReason::Malformed`]: it would be larger than a packet can be, or its fragments contradict each other about
    /// congestion.
    pub(super) fn finish(&mut self) -> Result<Whole, DropReason> {
        let head = self.datagram.head_len();
        let bytes = self.datagram.take();
        let mut whole = Whole {
            bytes,
            cut: Cut {
                largest: self.largest,
                id: self.key.id,
                dont_fragment: self.dont_fragment,
                head,
                link: self.link.0,
            },
        };
        let is_congested = congestion(self.ecn)?;
        match self.key.version {
            IpVersion::V4 => finish_v4(&mut whole.bytes, head, is_congested)?,
            IpVersion::V6 => finish_v6(&mut whole.bytes, self.link, is_congested)?,
        }
        Ok(whole)
    }

    /// Bytes of memory it takes.
    pub(super) fn charge(&self) -> usize {
        OVERHEAD + self.datagram.capacity()
    }

    /// The datagram's headers are those of its first fragment. Until that comes any other's keep the place, because they tend
    /// to be as long.
    fn takes_head(&self, arrival: &Arrival<'_>) -> bool {
        arrival.piece.is_first() || self.pieces == 0
    }
}

/// Whether one of the fragments has met congestion. RFC 3168 §5.3: "Reassembly of a fragmented packet MUST NOT lose
/// indications of congestion." A datagram with ECN in some fragments only is dropped, as by Linux' `ip_frag_ecn_table`.
const fn congestion(seen: u8) -> Result<bool, DropReason> {
    const NOT_CAPABLE: u8 = 1 << 0;
    const CONGESTED: u8 = 1 << 3;
    match seen {
        NOT_CAPABLE => Ok(false),
        seen if seen & NOT_CAPABLE != 0 => Err(DropReason::Malformed),
        seen => Ok(seen & CONGESTED != 0),
    }
}

fn finish_v4(bytes: &mut [u8], head: usize, is_congested: bool) -> Result<(), DropReason> {
    let total_len = u16::try_from(bytes.len()).map_err(|_| DropReason::Malformed)?;
    let header = bytes.get_mut(..head).ok_or(DropReason::Malformed)?;
    if is_congested {
        header[1] |= CONGESTION_EXPERIENCED;
    }
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    // More fragments and the offset; DF stays.
    header[6] &= DONT_FRAGMENT;
    header[7] = 0;
    header[10..12].fill(0);
    let checksum = checksum::finish(checksum::sum(header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    Ok(())
}

fn finish_v6(bytes: &mut [u8], link: (usize, IpProtocol), is_congested: bool) -> Result<(), DropReason> {
    let payload_len = bytes.len().checked_sub(Ipv6Header::LEN);
    let payload_len = payload_len.and_then(|len| u16::try_from(len).ok());
    let payload_len = payload_len.ok_or(DropReason::Malformed)?;
    if is_congested {
        // The class is the second half of the first byte and the first of the second.
        bytes[1] |= CONGESTION_EXPERIENCED << 4;
    }
    bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
    let (place, next_header) = link;
    *bytes.get_mut(place).ok_or(DropReason::Malformed)? = next_header.0;
    Ok(())
}

/// RFC 3168 §5.
const CONGESTION_EXPERIENCED: u8 = 0x03;
/// In the first of the two bytes of flags and offset (RFC 791 §3.1).
const DONT_FRAGMENT: u8 = 0x40;
/// Bytes of a datagram under way beside its buffer: its slot, its place in the index and its source's, rounded up.
pub(super) const OVERHEAD: usize = size_of::<Slot>() + 256;
