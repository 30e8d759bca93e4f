//! Fragments on their way through the engine: put together before anything is decided, cut again as they came
//! (nat-conformance §10).

use std::time::Instant;

use crate::{DropReason, Timeouts, Zone, packet::Packet};

/// What reassembly may take (N-FR-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Bytes of memory of one zone.
    pub zone_bytes: usize,
    /// Bytes of memory of all.
    pub total_bytes: usize,
    /// Fragments of one datagram.
    pub pieces: usize,
    /// Datagrams of one source that are not complete.
    pub per_source: usize,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self {
            zone_bytes: 1 << 20,
            // net.ipv4.ipfrag_high_thresh.
            total_bytes: 4 << 20,
            pieces: 64,
            per_source: 64,
        }
    }
}

/// Datagrams that are not complete.
#[derive(Debug)]
pub(crate) struct Fragments;

/// A datagram that is.
#[derive(Debug)]
pub(crate) struct Whole {
    /// The packet as if it had never been cut: the IP header with its fragment fields clear, or without the fragment
    /// header; given back by [`Fragments::recycle`].
    pub(crate) bytes: Vec<u8>,
    /// How it was cut, for [`Cut::again`].
    pub(crate) cut: Cut,
}

/// How a datagram had been cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes of its largest fragment, with IP header.
    pub(crate) largest: usize,
    /// Its identification.
    pub(crate) id: u32,
    /// Whether all fragments had DF set.
    pub(crate) dont_fragment: bool,
}

impl Fragments {
    pub(crate) fn new(limits: FragmentLimits) -> Self {
        let _ = limits;
        Self
    }

    /// Takes a fragment; the datagram if it was the last that was missing. An IPv6 fragment that is a whole packet does not
    /// come here (N-FR-10).
    ///
    /// # Errors
    ///
    /// It was dropped, and possibly its datagram.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        zone: Zone,
        (bytes, packet): (&[u8], &Packet),
        timeouts: &Timeouts,
    ) -> Result<Option<Whole>, DropReason> {
        let _ = (now, zone, bytes, packet, timeouts);
        Err(DropReason::FragmentsFull)
    }

    /// Takes a buffer back to use it again.
    pub(crate) fn recycle(&mut self, bytes: Vec<u8>) {
        let _ = bytes;
    }

    /// When [`Fragments::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Gives up what is too old, silently (N-FR-7).
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Drops what came from a zone that goes.
    pub(crate) fn remove_zone(&mut self, zone: Zone) {
        let _ = zone;
    }
}

impl Cut {
    /// Cuts a packet as it had been, or smaller if `mtu` wants it, with identification `id`; `send` gets each piece, in order.
    ///
    /// # Errors
    ///
    /// [`DropReason::Mtu`] if it would have to become smaller and must not (DF, IPv6).
    pub(crate) fn again(
        &self,
        whole: &mut Vec<u8>,
        mtu: usize,
        id: u32,
        send: impl FnMut(&mut [u8]),
    ) -> Result<(), DropReason> {
        let _ = (whole, mtu, id, send);
        Ok(())
    }
}

pub(crate) fn cut(
    bytes: &mut [u8],
    mtu: usize,
    id: u32,
    send: impl FnMut(&mut [u8]),
) -> Result<(), DropReason> {
    let _ = (bytes, mtu, id, send);
    Ok(())
}
