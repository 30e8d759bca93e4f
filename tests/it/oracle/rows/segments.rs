//! What differs for segments of TCP by the connections that they belong to.

use vswitch_nat::DropReason;

use super::{Aftermath, Row};
use crate::oracle::{
    flow::Party,
    packet::{ACK, RST, SYN},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "SYN+ACK of who began",
        reason: "section 5.1: that belongs to a simultaneous open, and has the number of the SYN; Linux takes any in SYN_RECV",
        matches: |case| {
            case.reason == Some(DropReason::Invalid)
                && ["SYN_RECV", "SYN_SENT2"].contains(&case.opinion)
                && case.step.from == Some(Party::Client)
                && case
                    .step
                    .segment
                    .as_ref()
                    .is_some_and(|said| said.segment.flags & (SYN | ACK) == SYN | ACK)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "SYN+ACK to the last SYN",
        reason: "N-TCP-1: whatever number the last SYN of its sender had; Linux goes by the first",
        matches: |case| {
            case.is_passed() && case.opinion.starts_with("SYN_SENT") && case.is_segment(SYN | ACK)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "old RST",
        reason: "N-TCP-20: one below what is acknowledged, or below the SYN, is dropped; Linux knows no bound before the first ACK",
        matches: |case| {
            let is_open = matches!(case.opinion, "SYN_RECV" | "ESTABLISHED" | "SYN_SENT2");
            case.reason == Some(DropReason::Invalid) && is_open && case.flags() & RST != 0
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "RST before the handshake",
        reason: "RFC 9293 section 3.5.1: who has a SYN out resets what it hears of an older connection, by the number of that; Linux \
                 drops numbers beyond the SYN's",
        matches: |case| case.is_passed() && case.opinion.starts_with("SYN_SENT") && case.flags() & RST != 0,
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "SYNs of a simultaneous open",
        reason: "N-TCP-1: both sides send SYN and SYN+ACK, and may do so again; Linux takes those that fit its state",
        matches: |case| {
            let was_simultaneous = case.flow.is_some_and(|flow| flow.was_simultaneous);
            was_simultaneous && case.is_passed() && case.flags() & (SYN | RST) == SYN
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "data before the connection began again",
        reason: "N-TCP-10: what was in flight goes on to be so; Linux counts from the new numbers only",
        matches: |case| {
            let has_begun_again = case.flow.is_some_and(|flow| {
                flow.was_resynchronized || flow.was_renumbered && case.opinion == "SYN_RECV"
            });
            has_begun_again && case.is_passed()
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "answer to a SYN that was replaced",
        reason: "N-TCP-1: a SYN+ACK must acknowledge the last SYN; Linux passes those to earlier ones",
        matches: |case| {
            let is_late = case.opinion.starts_with("SYN_SENT") && case.flags() & (SYN | ACK) == SYN | ACK;
            case.reason == Some(DropReason::Invalid) && case.kernel.len() == 1 && is_late
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "acknowledgment of what overshot",
        reason: "N-WIN-3: data a little beyond the window pass and count as sent; Linux lets them pass, and drops their acknowledgment",
        matches: |case| {
            let said = case.step.segment.as_ref().zip(case.step.from);
            let acknowledges_sent = case
                .flow
                .zip(said)
                .is_some_and(|(flow, (said, from))| flow.has_sent(from.opposite(), said.segment.ack));
            acknowledges_sent && case.is_passed() && case.is_segment(ACK)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "after the RST of a simultaneous open",
        reason: "N-TCP-22: what follows a RST is translated, whichever of the crossing SYNs it was about; Linux has chosen one",
        matches: |case| {
            let was_simultaneous = case.flow.is_some_and(|flow| flow.was_simultaneous);
            was_simultaneous && case.opinion == "CLOSE" && case.is_passed() && case.is_segment(ACK)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "beyond the window, after a RST",
        reason: "N-WIN-3: a RST offers no window; Linux takes that of one it believes, and lets more pass after it",
        matches: |case| {
            let said = case.step.segment.as_ref().zip(case.step.from);
            let is_ahead = case
                .flow
                .zip(said)
                .is_some_and(|(flow, (said, from))| flow.is_unacknowledged(from, said.segment.seq));
            let is_last = case.opinion == "CLOSE" && case.is_segment(ACK);
            is_ahead && is_last && case.is_dropped(DropReason::Invalid) && case.kernel.len() == 1
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "server calls a port that is published",
        reason: "N-PORT-7: what is published is given to no client; Linux does so, and then takes the server's new SYN for a \
                 caller's",
        matches: |case| {
            let [kernel, ours] = case.flow.map_or([0; 2], |flow| flow.external);
            let is_call = case.step.from == Some(Party::Server) && case.is_segment(SYN);
            let is_over = ["TIME_WAIT", "CLOSE"].contains(&case.opinion);
            is_call && is_over && kernel != ours && case.is_dropped(DropReason::Unsolicited)
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "acknowledgment of another handshake",
        reason: "N-WIN-3: segments that acknowledge another SYN+ACK than the first pass and do not count, so theirs is unseen; Linux \
                 may have taken a number from a SYN+ACK that it refused",
        matches: |case| {
            let is_answer = case.step.from == Some(Party::Server) && case.is_segment(ACK);
            let was_renumbered = case.flow.is_some_and(|flow| flow.was_renumbered);
            let is_dropped = case.is_dropped(DropReason::Invalid) && case.kernel.len() == 1;
            was_renumbered && is_answer && is_dropped && case.opinion == "SYN_RECV"
        },
        aftermath: Aftermath::Burns,
    },
    Row {
        name: "challenge of the wrong number",
        reason: "N-TCP-23: what answers a SYN in LAST_ACK passes, within the window; Linux does not look at its numbers",
        matches: |case| {
            let is_answer = case.flags() & (SYN | RST | ACK) == ACK && case.opinion == "LAST_ACK";
            is_answer && case.reason == Some(DropReason::Invalid) && case.kernel.len() == 1
        },
        aftermath: Aftermath::Burns,
    },
];
