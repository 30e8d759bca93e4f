//! What a connection can be in, and how strictly it is judged.

/// How strictly segments are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpPolicy {
    /// Begin a connection with any segment that has ACK (N-TCP-9), rather than with a SYN only. Also lets a connection go
    /// on whose answers pass elsewhere (N-WIN-8).
    pub loose: bool,
    /// Look at the windows of RSTs only (N-WIN-5).
    pub liberal: bool,
    /// So many repetitions of a segment in one direction shorten the connection's time; 0 for never (N-TCP-15).
    pub max_retrans: u8,
    /// Take down what is not acknowledged sooner (N-TCP-13); off in the "rfc" profile.
    pub watch_unacknowledged: bool,
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
    /// How many there are.
    pub(super) const COUNT: usize = Self::ALL.len();

    /// All, in the order of their numbers.
    pub(super) const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
    ];

    /// In the words of `conntrack`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
        }
    }
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
