//! The tracker of one SCTP association (N-OP-1).

use crate::{Direction, DropReason, Timer, tcp::Tracked};

/// One association. At most 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SctpTrack;

impl SctpTrack {
    /// Begins with an association's first packet, from its SCTP common header on, whose length and checksum were checked.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] if no association begins so.
    pub(crate) fn open(packet: &[u8]) -> Result<(Self, Timer), DropReason> {
        let _ = packet;
        Ok((Self, Timer::SctpCookieWait))
    }

    /// Takes a later packet.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`].
    pub(crate) fn track(&mut self, direction: Direction, packet: &[u8]) -> Result<Tracked, DropReason> {
        let _ = (direction, packet);
        Ok(Tracked {
            timer: Some(Timer::SctpEstablished),
            fate: crate::tcp::Fate::Keep,
        })
    }

    /// Its state, as `vswitch conntrack` calls it.
    pub(crate) const fn state(&self) -> &'static str {
        "COOKIE_WAIT"
    }
}
