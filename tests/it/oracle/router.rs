//! What a router is to the comparison: packets go in at one side and come out somewhere.

use std::{fmt, io, net::IpAddr};

use vswitch_nat::DropReason;

use super::plan::{Side, TIMER_STEP};

/// A translating router.
pub(super) trait Router {
    /// Takes a packet and gives everything that came of it.
    fn pass(&mut self, side: Side, packet: &[u8]) -> io::Result<Passage>;

    /// Forgets all connections.
    fn flush(&mut self) -> io::Result<()>;

    /// The connections of a protocol, or of all.
    fn entries(&mut self, protocol: Option<u8>) -> io::Result<Vec<Entry>>;
}

/// What came of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Passage {
    /// In the order in which they came.
    pub(super) outputs: Vec<(Side, Vec<u8>)>,
    /// Why it was dropped, if the router says so.
    pub(super) reason: Option<DropReason>,
}

/// A connection in a router's table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) protocol: u8,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    /// Of TCP and SCTP.
    pub(super) state: Option<String>,
    pub(super) is_replied: bool,
    pub(super) is_assured: bool,
    /// Which of the timers it waits for, by its rank.
    pub(super) timer: u32,
}

impl Entry {
    /// A line of `/proc/net/nf_conntrack`.
    pub(super) fn read(line: &str) -> Option<Self> {
        // The names and numbers of the network protocol, and the name of the transport protocol.
        let mut words = line.split_whitespace().skip(3);
        let protocol = words.next()?.parse().ok()?;
        let seconds: u32 = words.next()?.parse().ok()?;
        let rest: Vec<&str> = words.collect();
        // The original direction comes first.
        let value = |key: &str| {
            rest.iter()
                .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let port = |keys: [&str; 2]| {
            let text = keys.iter().find_map(|key| value(key));
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let state = rest.first().filter(|word| !word.contains('='));
        Some(Self {
            protocol,
            src: value("src")?.parse().ok()?,
            dst: value("dst")?.parse().ok()?,
            src_port: port(["sport", "id"]),
            dst_port: port(["dport", "none"]),
            state: state.map(|&word| word.to_owned()),
            is_replied: !rest.contains(&"[UNREPLIED]"),
            is_assured: rest.contains(&"[ASSURED]"),
            timer: match state {
                // The one timer that cannot be set.
                Some(&"SYN_SENT2") => SYN_SENT2,
                _ => seconds.div_ceil(TIMER_STEP),
            },
        })
    }
}

/// The rank of our timer for it.
const SYN_SENT2: u32 = 7;

impl Entry {
    /// What it says beside whose it is.
    pub(super) fn opinion(&self) -> String {
        let state = self.state.as_deref().unwrap_or("-");
        let replied = if self.is_replied { "+replied" } else { "" };
        let assured = if self.is_assured { "+assured" } else { "" };
        format!("{state}{replied}{assured}/{}", self.timer)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_deref().unwrap_or("-");
        write!(
            f,
            "{} {}:{}>{}:{} {state}",
            self.protocol, self.src, self.src_port, self.dst, self.dst_port
        )?;
        for (flag, word) in [(!self.is_replied, " unreplied"), (self.is_assured, " assured")] {
            f.write_str(if flag { word } else { "" })?;
        }
        write!(f, " timer {}", self.timer)
    }
}
