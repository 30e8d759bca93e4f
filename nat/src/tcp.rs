//! The tracker of one TCP connection: its state, its windows, whom to believe (nat-conformance §5).

use vswitch_wire::{TcpFlags, TcpSegment};

use crate::{Direction, DropReason, Timer};

/// How strictly segments are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPolicy {
    /// Begin a connection with any segment that has ACK (N-TCP-9), rather than with a SYN only.
    pub loose: bool,
    /// Look at the windows of RSTs only (N-WIN-5).
    pub liberal: bool,
    /// So many equal segments in one direction shorten the connection's time; 0 for never (N-TCP-15).
    pub max_retrans: u8,
    /// Take down what is not acknowledged sooner (N-TCP-13); off in the "rfc" profile.
    pub watch_unacknowledged: bool,
}

impl Default for TcpPolicy {
    fn default() -> Self {
        Self {
            loose: false,
            liberal: false,
            // net.netfilter.nf_conntrack_tcp_max_retrans.
            max_retrans: 3,
            watch_unacknowledged: true,
        }
    }
}

/// States of a connection, in the order of nat-conformance §5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// SYN seen.
    SynSent,
    /// SYN and SYN+ACK seen.
    SynReceived,
    /// The handshake is complete.
    Established,
    /// One side has sent FIN.
    FinWait,
    /// That FIN was acknowledged.
    CloseWait,
    /// The other side has sent FIN, too.
    LastAck,
    /// Both FINs are acknowledged.
    TimeWait,
    /// A RST was believed.
    Close,
    /// SYN seen from both sides.
    SynSent2,
}

impl TcpState {
    /// As `conntrack` prints it.
    pub const fn name(self) -> &'static str {
        "NONE"
    }
}

/// What the tracker reads of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) flags: TcpFlags,
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    /// As it stands there, not scaled.
    pub(crate) window: u16,
    /// Bytes of payload by the IP header's length; a super-frame's all (N-WIN-7).
    pub(crate) payload_len: u32,
    /// Of a SYN: the shift that it offers, at most 14 (N-WIN-1).
    pub(crate) scale: Option<u8>,
    /// Of a SYN: whether it offers SACK.
    pub(crate) sack_permitted: bool,
    /// The highest right edge of its SACK blocks.
    pub(crate) sack_edge: Option<u32>,
}

/// One connection. At most 60 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpTrack {
    state: TcpState,
}

/// What a valid segment does to the connection's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tracked {
    /// The time that the entry has from now on; `None` leaves its deadline as it is (N-TCP-6).
    pub(crate) timer: Option<Timer>,
    pub(crate) fate: Fate,
}

/// What becomes of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays, and is assured from now on (N-TCP-7).
    Assure,
    /// It stays as it is.
    Keep,
    /// The segment is translated, and the entry is removed at once (N-TCP-5).
    Remove,
    /// The entry is removed, and the segment begins another with the same mapping (N-TCP-11).
    Reopen,
}

impl Segment {
    /// Reads a segment whose lengths were checked; options that make no sense end the reading of options (N-WIN-2).
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] for flags that no segment has (N-TCP-3).
    pub(crate) fn read(segment: &TcpSegment<'_>) -> Result<Self, DropReason> {
        let header = segment.header();
        Ok(Self {
            flags: header.flags(),
            sequence: header.sequence(),
            acknowledgment: header.acknowledgment(),
            window: header.window(),
            payload_len: segment.payload().len() as u32,
            scale: None,
            sack_permitted: false,
            sack_edge: None,
        })
    }
}

impl TcpTrack {
    /// Begins with a connection's first segment; the time that the entry has.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`] if no connection begins so.
    pub(crate) fn open(segment: &Segment, policy: &TcpPolicy) -> Result<(Self, Timer), DropReason> {
        let _ = (segment, policy);
        let state = TcpState::SynSent;
        Ok((Self { state }, Timer::TcpSynSent))
    }

    /// Takes a later segment.
    ///
    /// # Errors
    ///
    /// [`DropReason::Invalid`]; nothing has changed but what it takes to find the next one valid.
    pub(crate) fn track(
        &mut self,
        direction: Direction,
        segment: &Segment,
        policy: &TcpPolicy,
    ) -> Result<Tracked, DropReason> {
        let _ = (direction, segment, policy);
        Ok(Tracked {
            timer: Some(Timer::TcpEstablished),
            fate: Fate::Keep,
        })
    }

    /// Its state.
    pub(crate) const fn state(&self) -> TcpState {
        self.state
    }

    /// Whether the sender in `direction` may have sent this sequence number and not had it acknowledged yet: what an
    /// ICMP error that is no forgery quotes (N-ICE-13, RFC 5927 §4.1).
    pub(crate) fn is_in_flight(&self, direction: Direction, sequence: u32) -> bool {
        let _ = (direction, sequence);
        true
    }
}
