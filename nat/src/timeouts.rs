//! How long connections live without traffic.

use std::time::Duration;

use crate::time::Ticks;

/// What a connection waits for; each has its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Timer {
    /// A protocol that the tracker does not know.
    Generic,
    /// GRE that was not answered.
    Gre,
    /// GRE both ways.
    GreStream,
    /// A query of ICMP.
    Icmp,
    /// A query of ICMPv6.
    Icmpv6,
    /// SCTP: INIT sent.
    SctpCookieWait,
    /// SCTP: COOKIE ECHO sent.
    SctpCookieEchoed,
    /// SCTP: association over, or aborted.
    SctpClosed,
    /// SCTP: association up.
    SctpEstablished,
    /// SCTP: heartbeat on a path that has no association yet.
    SctpHeartbeatSent,
    /// SCTP: SHUTDOWN ACK sent.
    SctpShutdownAckSent,
    /// SCTP: SHUTDOWN received.
    SctpShutdownReceived,
    /// SCTP: SHUTDOWN sent.
    SctpShutdownSent,
    /// TCP: a RST was believed.
    TcpClose,
    /// TCP: one side has closed and the other acknowledged it.
    TcpCloseWait,
    /// TCP: both ways.
    TcpEstablished,
    /// TCP: one side closes.
    TcpFinWait,
    /// TCP: both have closed, one acknowledgment is missing.
    TcpLastAck,
    /// TCP: the same segment again and again.
    TcpMaxRetrans,
    /// TCP: the handshake lacks its last segment.
    TcpSynReceived,
    /// TCP: SYN not answered.
    TcpSynSent,
    /// TCP: SYN from both.
    TcpSynSent2,
    /// TCP: closed; late segments may come.
    TcpTimeWait,
    /// TCP: sent data were not acknowledged.
    TcpUnacknowledged,
    /// UDP that was not answered.
    Udp,
    /// UDP that was not answered, to a port where one datagram is asked and answered (RFC 4787 REQ-5a).
    UdpShort,
    /// UDP both ways for a while.
    UdpStream,
}

/// The time of every [`Timer`] and of reassembly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    seconds: [u32; Timer::COUNT],
    /// Until the fragments of an IPv4 datagram are given up.
    pub reassembly_v4: Duration,
    /// The same for IPv6.
    pub reassembly_v6: Duration,
}

impl Timer {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All, in the order of their numbers, with names for configurations.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Generic, "generic"),
        (Self::Gre, "gre"),
        (Self::GreStream, "gre-stream"),
        (Self::Icmp, "icmp"),
        (Self::Icmpv6, "icmpv6"),
        (Self::SctpCookieWait, "sctp-cookie-wait"),
        (Self::SctpCookieEchoed, "sctp-cookie-echoed"),
        (Self::SctpClosed, "sctp-closed"),
        (Self::SctpEstablished, "sctp-established"),
        (Self::SctpHeartbeatSent, "sctp-heartbeat-sent"),
        (Self::SctpShutdownAckSent, "sctp-shutdown-ack-sent"),
        (Self::SctpShutdownReceived, "sctp-shutdown-received"),
        (Self::SctpShutdownSent, "sctp-shutdown-sent"),
        (Self::TcpClose, "tcp-close"),
        (Self::TcpCloseWait, "tcp-close-wait"),
        (Self::TcpEstablished, "tcp-established"),
        (Self::TcpFinWait, "tcp-fin-wait"),
        (Self::TcpLastAck, "tcp-last-ack"),
        (Self::TcpMaxRetrans, "tcp-max-retrans"),
        (Self::TcpSynReceived, "tcp-syn-received"),
        (Self::TcpSynSent, "tcp-syn-sent"),
        (Self::TcpSynSent2, "tcp-syn-sent2"),
        (Self::TcpTimeWait, "tcp-time-wait"),
        (Self::TcpUnacknowledged, "tcp-unacknowledged"),
        (Self::Udp, "udp"),
        (Self::UdpShort, "udp-short"),
        (Self::UdpStream, "udp-stream"),
    ];
}

impl Timeouts {
    /// nat-conformance §2, column "default": Linux's where they protect against floods of containers, longer ones
    /// where Linux's are a known fault (half-closed connections, UDP).
    pub fn standard() -> Self {
        Self::new(|timer| match timer {
            Timer::Generic => 600,
            Timer::Gre | Timer::SctpHeartbeatSent | Timer::TcpLastAck | Timer::UdpShort => 30,
            Timer::GreStream => 180,
            Timer::Icmp | Timer::Icmpv6 | Timer::TcpSynReceived => 60,
            Timer::SctpClosed | Timer::TcpClose => 10,
            Timer::SctpCookieWait
            | Timer::SctpCookieEchoed
            | Timer::SctpShutdownAckSent
            | Timer::SctpShutdownReceived
            | Timer::SctpShutdownSent => 3,
            Timer::SctpEstablished => 210,
            Timer::TcpCloseWait => 7440,
            Timer::TcpEstablished => 432_000,
            Timer::TcpFinWait => 240,
            Timer::TcpMaxRetrans | Timer::TcpUnacknowledged | Timer::UdpStream => 300,
            Timer::TcpSynSent | Timer::TcpSynSent2 | Timer::TcpTimeWait | Timer::Udp => 120,
        })
    }

    /// nat-conformance §2, column "rfc": the floors of RFC 4787, 5382 and 5508.
    pub fn rfc() -> Self {
        let standard = Self::standard();
        Self::new(|timer| match timer {
            Timer::TcpEstablished | Timer::TcpMaxRetrans | Timer::TcpUnacknowledged => 7440,
            Timer::TcpClose
            | Timer::TcpCloseWait
            | Timer::TcpFinWait
            | Timer::TcpLastAck
            | Timer::TcpSynReceived
            | Timer::TcpSynSent
            | Timer::TcpSynSent2
            | Timer::TcpTimeWait => 240,
            Timer::Udp | Timer::UdpShort | Timer::UdpStream => 300,
            other => standard.seconds[other as usize],
        })
    }

    /// The time of `timer`.
    pub fn of(&self, timer: Timer) -> Duration {
        Duration::from_secs(self.seconds[timer as usize].into())
    }

    /// Changes one; connections take it over with their next packet (N-TMO-1).
    pub fn set(&mut self, timer: Timer, seconds: u32) {
        self.seconds[timer as usize] = seconds;
    }

    /// The same in ticks.
    #[inline]
    pub(crate) const fn ticks(&self, timer: Timer) -> u32 {
        self.seconds[timer as usize].saturating_mul(Ticks::PER_SECOND)
    }

    fn new(seconds: impl Fn(Timer) -> u32) -> Self {
        let mut all = [0; Timer::COUNT];
        for &(timer, _) in Timer::ALL {
            all[timer as usize] = seconds(timer);
        }
        Self {
            seconds: all,
            // net.ipv4.ipfrag_time; RFC 1122 §3.3.2 has 60 to 120 s.
            reassembly_v4: Duration::from_secs(30),
            // RFC 8200 §4.5.
            reassembly_v6: Duration::from_secs(60),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::standard()
    }
}
