//! Where our opinion of a TCP connection differs from Linux's on purpose, although the packet was treated alike.

use super::{
    packet::{ACK, FIN, RST, SYN},
    router::Entry,
    world::Step,
};

/// A difference that is accepted, and why. The conversation is not continued after it.
pub(super) struct StateRow {
    pub(super) name: &'static str,
    /// The requirement, and what it says.
    pub(super) reason: &'static str,
    pub(super) matches: fn(&Parting<'_>) -> bool,
}

/// A packet after which the routers think differently of its connection.
pub(super) struct Parting<'a> {
    /// `None` when tables are compared.
    pub(super) step: Option<&'a Step>,
    /// Whether we let it go no further.
    pub(super) is_dropped: bool,
    /// Whether it was open and went back to its handshake.
    pub(super) was_resynchronized: bool,
    /// Whether a party has sent SYNs of different numbers.
    pub(super) was_renumbered: bool,
    /// What both thought before.
    pub(super) before: Option<&'a Entry>,
    pub(super) kernel: Option<&'a Entry>,
    pub(super) ours: Option<&'a Entry>,
}

impl<'a> Parting<'a> {
    /// Of what tables say.
    pub(super) const fn of_tables(kernel: Option<&'a Entry>, ours: Option<&'a Entry>) -> Self {
        Self {
            step: None,
            is_dropped: false,
            was_resynchronized: false,
            was_renumbered: false,
            before: None,
            kernel,
            ours,
        }
    }

    fn kernel(&self) -> &str {
        state(self.kernel)
    }

    fn ours(&self) -> &str {
        state(self.ours)
    }

    fn flags(&self) -> u8 {
        self.step.map_or(0, Step::flags)
    }
}

/// All of them.
pub(super) const PARTINGS: &[StateRow] = &[
    StateRow {
        name: "what goes no further",
        reason: "N-TBL-5: a packet that is not sent on changes nothing; Linux counts it before it looks at the way ahead",
        matches: |parting| parting.is_dropped && parting.ours == parting.before,
    },
    StateRow {
        name: "FINs of both sides",
        reason: "N-TCP note 2: a side has closed when its own FIN is acknowledged; Linux takes any FIN and any ACK for the \
                 next step",
        matches: |parting| {
            let rank = |state| CLOSING.iter().position(|&closing| closing == state);
            let (kernel, ours) = (rank(parting.kernel()), rank(parting.ours()));
            kernel.is_some() && ours.is_some() && ours < kernel && parting.flags() & (ACK | RST) == ACK
        },
    },
    StateRow {
        name: "another SYN before the answer",
        reason: "N-TCP-1: the answer to the last SYN counts; Linux waits for one to the first",
        matches: |parting| {
            let are = [state(parting.before), parting.kernel(), parting.ours()];
            let is_early =
                are == ["SYN_SENT", "SYN_SENT", "SYN_RECV"] || are == ["SYN_SENT2", "SYN_SENT2", "SYN_RECV"];
            is_early && parting.flags() & (SYN | ACK) == SYN | ACK
        },
    },
    StateRow {
        name: "SYN after a refused SYN+ACK",
        reason: "N-INV-1: what was refused says nothing; Linux keeps the number of a SYN+ACK that it has refused, and waits for \
                 no other",
        matches: |parting| {
            let is_crossing = [state(parting.before), parting.ours()] == ["SYN_SENT", "SYN_SENT2"];
            let is_missed = parting.kernel == parting.before;
            is_crossing && is_missed && parting.flags() & (SYN | RST | ACK) == SYN
        },
    },
    StateRow {
        name: "handshake by a lower number",
        reason: "N-TCP-1: the SYN that was answered counts, whatever number another had; Linux counts from the highest",
        matches: |parting| {
            let are = [state(parting.before), parting.ours()];
            parting.was_renumbered
                && parting.kernel == parting.before
                && are == ["SYN_RECV", "ESTABLISHED"]
                && parting.flags() & (SYN | RST | ACK) == ACK
        },
    },
    StateRow {
        name: "data below another SYN",
        reason: "N-TCP-13: data after the SYN that was answered wait for an acknowledgment; Linux counts from the highest SYN",
        matches: |parting| {
            let (Some(kernel), Some(ours)) = (parting.kernel, parting.ours) else {
                return false;
            };
            parting.was_renumbered
                && (kernel.state == ours.state && kernel.timer > ours.timer)
                && ours.timer == UNACKNOWLEDGED_TIMER
                && parting.flags() & (SYN | RST | ACK) == ACK
        },
    },
    StateRow {
        name: "RST that answers no SYN",
        reason: "N-TCP-20: it must have the number of the SYN (RFC 9293 section 3.10.7.3); Linux believes any",
        matches: |parting| {
            state(parting.before).starts_with("SYN_SENT")
                && ["-", "CLOSE"].contains(&parting.kernel())
                && parting.ours().starts_with("SYN_SENT")
                && parting.flags() & RST != 0
        },
    },
    StateRow {
        name: "life after a RST",
        reason: "N-TCP-22: who sends on has not taken the RST seriously; Linux lets the connection end nevertheless",
        matches: |parting| {
            let are = [state(parting.before), parting.kernel()];
            are == ["CLOSE", "CLOSE"]
                && (parting.ours() == "ESTABLISHED" || CLOSING.contains(&parting.ours()))
                && parting.flags() & (SYN | RST | ACK) == ACK
        },
    },
    StateRow {
        name: "SYN after a RST",
        reason: "N-TCP-11: it begins a connection at once; Linux wants to have seen the RST from the same side just before",
        matches: |parting| {
            let are = [state(parting.before), parting.kernel(), parting.ours()];
            are == ["CLOSE", "CLOSE", "SYN_SENT"] && parting.flags() & (SYN | RST | ACK) == SYN
        },
    },
    StateRow {
        name: "FIN in the past",
        reason: "N-TCP-26: a FIN is behind all data, and one before data that were sent is none; Linux believes it",
        matches: |parting| {
            let are = [parting.kernel(), parting.ours()];
            are == ["FIN_WAIT", "ESTABLISHED"] && parting.flags() & FIN != 0
        },
    },
    StateRow {
        name: "answer to another SYN",
        reason: "N-TCP-1: a SYN+ACK acknowledges the SYN; Linux takes one that acknowledges less",
        matches: |parting| {
            let are = [state(parting.before), parting.kernel(), parting.ours()];
            are == ["SYN_SENT", "SYN_RECV", "SYN_SENT"] && parting.flags() & (SYN | ACK) == SYN | ACK
        },
    },
    StateRow {
        name: "refused before it was open",
        reason: "N-TCP-5: what was refused was never there; Linux keeps it for a while if both sides had sent",
        matches: |parting| {
            let is_early = state(parting.before).starts_with("SYN_SENT") && parting.kernel() == "CLOSE";
            is_early && parting.ours.is_none() && parting.flags() & RST != 0
        },
    },
    StateRow {
        name: "challenge that acknowledges the FIN",
        reason: "N-TCP note 2: whatever acknowledges the last FIN ends the connection; Linux passes over the first ACK after a SYN",
        matches: |parting| {
            let are = [state(parting.before), parting.kernel(), parting.ours()];
            are == ["LAST_ACK", "LAST_ACK", "TIME_WAIT"] && parting.flags() & (SYN | RST | ACK) == ACK
        },
    },
    StateRow {
        name: "FIN just beyond the window",
        reason: "N-WIN-3: what overshoots passes, and ends the data of its sender all the same; Linux forgets the FIN",
        matches: |parting| {
            let (Some(before), Some(ours)) = (parting.before, parting.ours) else {
                return false;
            };
            parting.kernel == parting.before
                && CLOSING.contains(&parting.ours())
                && ours.timer == before.timer
                && parting.flags() & (FIN | RST) == FIN
        },
    },
    StateRow {
        name: "assured by an answer",
        reason: "section 0: assured is what was seen both ways; Linux spares only what its protocol's tracker vouches for",
        matches: |parting| match (parting.kernel, parting.ours) {
            (Some(kernel), Some(ours)) => {
                let is_generic = !matches!(ours.protocol, 1 | 6 | 17 | 58 | 132);
                let vouched = Entry {
                    is_assured: true,
                    ..kernel.clone()
                };
                is_generic && kernel.is_replied && vouched == *ours
            }
            _ => false,
        },
    },
    StateRow {
        name: "INIT of an association",
        reason: "N-OP-1: who has sent it waits for a cookie, and one amid an association proves nothing; Linux sees both otherwise",
        matches: |parting| {
            let are = [parting.kernel(), parting.ours()];
            // The last follows the second: a COOKIE ECHO to an INIT ACK that nobody had asked for.
            matches!(
                are,
                ["CLOSED", "COOKIE_WAIT"] | ["COOKIE_WAIT" | "COOKIE_ECHOED", "CLOSED"]
            )
        },
    },
    StateRow {
        name: "RST behind what overshot",
        reason: "N-TCP-20: one at the end of a train is believed, even if the train was too long for the window; Linux forgets the train",
        matches: |parting| {
            let is_open = ["SYN_RECV", "ESTABLISHED"].contains(&parting.kernel());
            let is_kept = is_open && state(parting.before) == parting.kernel();
            is_kept && parting.ours() == "CLOSE" && parting.flags() & RST != 0
        },
    },
    StateRow {
        name: "handshake of a connection that begins again",
        reason: "N-TCP-10: the answer to a SYN that passed counts whatever came between, and so does what was in flight",
        matches: |parting| {
            let is_answer = parting.ours() == "SYN_RECV" && parting.flags() & (SYN | ACK) == SYN | ACK;
            let is_back = parting.was_resynchronized;
            parting.kernel == parting.before && (is_answer || is_back)
        },
    },
    StateRow {
        name: "end of the handshake",
        reason: "N-TCP-7: it needs an ACK of the SYN+ACK; Linux takes one that is older for it",
        matches: |parting| {
            let are = [state(parting.before), parting.ours()];
            are == ["SYN_RECV"; 2]
                && ["ESTABLISHED", "FIN_WAIT"].contains(&parting.kernel())
                && parting.flags() & (SYN | RST | ACK) == ACK
        },
    },
    StateRow {
        name: "time after a RST of doubt",
        reason: "N-TCP-20: it leaves the connection little time until something contradicts it; Linux does not always",
        matches: |parting| {
            let (Some(kernel), Some(ours)) = (parting.kernel, parting.ours) else {
                return false;
            };
            let is_open = kernel.state == ours.state || parting.kernel() == "CLOSE";
            is_open && ours.timer == RESET_TIMER && parting.flags() & RST != 0
        },
    },
];

/// The rank of the timer while data are not acknowledged.
const UNACKNOWLEDGED_TIMER: u32 = 9;

/// The rank of the timer that a RST leaves.
const RESET_TIMER: u32 = 1;

fn state(entry: Option<&Entry>) -> &str {
    entry.and_then(|entry| entry.state.as_deref()).unwrap_or("-")
}

/// In the order in which a connection ends.
const CLOSING: [&str; 4] = ["FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT"];
