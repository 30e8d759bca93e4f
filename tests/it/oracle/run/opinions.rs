//! What the routers think of connections, compared.

use std::io;

use super::{Finding, History, Report, Run, account};
use crate::oracle::{
    account::flags,
    compare::Chosen,
    flow::{Flow, Party},
    router::{Entry, Passage},
    rows::{Aftermath, Case},
    states::Parting,
    world::{Step, World},
};

impl Run<'_> {
    /// Whether the routers have the same opinion of a TCP connection, or differ as they may. What one of them will
    /// do differently later shows here at once.
    pub(super) fn judge_states(
        &mut self,
        step: &Step,
        passage: &Passage,
        report: &mut Report,
        history: &History,
        world: &mut World,
    ) -> io::Result<Aftermath> {
        let Some(index) = step
            .flow
            .filter(|&index| world.flows[index].protocol == 6 && !world.flows[index].is_burnt)
        else {
            return Ok(Aftermath::None);
        };
        let flow = &world.flows[index];
        let mut opinions = [None, None];
        for (opinion, router) in opinions.iter_mut().zip([&mut *self.kernel, &mut *self.ours]) {
            *opinion = router
                .entries(Some(6))?
                .into_iter()
                .find(|entry| is_of(entry, flow));
        }
        report.entries += 1;
        let before = std::mem::replace(&mut world.flows[index].opinion, opinions[0].clone());
        let is_back = |entry: &Entry| entry.is_assured && entry.state.as_deref() == Some("SYN_RECV");
        world.flows[index].was_resynchronized |= opinions.iter().flatten().any(is_back);
        let is_crossed = |entry: &Entry| entry.state.as_deref() == Some("SYN_SENT2");
        world.flows[index].was_simultaneous |= opinions.iter().flatten().any(is_crossed);
        let [kernel, ours] = &opinions;
        if kernel == ours {
            return Ok(Aftermath::None);
        }
        let parting = Parting {
            step: Some(step),
            is_dropped: passage.reason.is_some(),
            was_resynchronized: world.flows[index].was_resynchronized,
            was_renumbered: world.flows[index].was_renumbered,
            before: before.as_ref(),
            kernel: kernel.as_ref(),
            ours: ours.as_ref(),
        };
        if let Some(row) = self.partings.iter().position(|row| (row.matches)(&parting)) {
            report.parted[row] += 1;
            return Ok(Aftermath::Burns);
        }
        let words = |entry: Option<&Entry>| entry.map_or_else(|| "-".to_owned(), Entry::opinion);
        let signature = format!(
            "state: {} {} after {} {}: kernel {}, we {}",
            words(before.as_ref()),
            if step.from == Some(Party::Client) {
                ">"
            } else {
                "<"
            },
            step.what,
            flags(&step.packets[1]),
            words(kernel.as_ref()),
            words(ours.as_ref())
        );
        let case = Case {
            step,
            kernel: &[],
            ours: &[],
            chosen: Chosen::default(),
            flow: None,
            opinion: "",
            reason: None,
        };
        let finding = report.unexplained.entry(signature).or_insert_with(|| Finding {
            count: 0,
            account: account(step, &case, history, world),
        });
        finding.count += 1;
        Ok(Aftermath::Burns)
    }

    /// Compares what both remember of conversations that have not parted.
    pub(super) fn compare_tables(
        &mut self,
        world: &World,
        report: &mut Report,
        history: &History,
    ) -> io::Result<()> {
        let mut tables = [self.kernel.entries(None)?, self.ours.entries(None)?];
        for table in &mut tables {
            table.retain(|entry| {
                let mut flows = world.flows.iter().filter(|flow| is_of(entry, flow));
                flows
                    .next()
                    .is_some_and(|flow| !flow.is_burnt && (flow.protocol == 6 || !flow.is_vague))
                    && flows.next().is_none()
            });
            for entry in table.iter_mut() {
                // The clocks differ, so what depends on two seconds does (N-FLT-6).
                if entry.protocol == 17 {
                    (entry.is_assured, entry.timer) = (false, 0);
                }
            }
            table.sort();
        }
        let [kernel, ours] = tables;
        report.entries += kernel.len();
        for (mine, others, whose) in [(&kernel, &ours, "kernel"), (&ours, &kernel, "ours")] {
            for entry in mine.iter().filter(|entry| !others.contains(entry)) {
                let other = others.iter().find(|other| key(other) == key(entry));
                if other.is_some() && whose == "ours" {
                    continue;
                }
                let parting = match whose {
                    "kernel" => Parting::of_tables(Some(entry), other),
                    _ => Parting::of_tables(other, Some(entry)),
                };
                if let Some(row) = self.partings.iter().position(|row| (row.matches)(&parting)) {
                    report.parted[row] += 1;
                    continue;
                }
                let counterpart = other.map_or_else(|| "nothing".to_owned(), Entry::to_string);
                let signature = format!("table: {whose} {}", difference(entry, other));
                let finding = report.unexplained.entry(signature).or_insert_with(|| {
                    let flow = world.flows.iter().position(|flow| is_of(entry, flow));
                    let lines = history.iter().filter(|(of, _)| *of == flow);
                    let lines: String = lines.map(|(_, line)| format!("  {line}\n")).collect();
                    Finding {
                        count: 0,
                        account: format!(
                            "{lines}in the table of {whose}: {entry}\nbeside it: {counterpart}\n"
                        ),
                    }
                });
                finding.count += 1;
            }
        }
        Ok(())
    }
}

fn key(entry: &Entry) -> impl PartialEq {
    (
        entry.protocol,
        entry.src,
        entry.dst,
        entry.src_port,
        entry.dst_port,
    )
}

fn is_of(entry: &Entry, flow: &Flow) -> bool {
    entry.protocol == flow.protocol
        && entry.src == flow.client.address
        && entry.src_port == flow.client.port
        && entry.dst == flow.server.address
        && (entry.dst_port == flow.server.port)
}

fn difference(entry: &Entry, other: Option<&Entry>) -> String {
    let text = |entry: &Entry| {
        let state = entry.state.as_deref().unwrap_or("-");
        format!(
            "{} {state} replied={} assured={} timer={}",
            entry.protocol, entry.is_replied, entry.is_assured, entry.timer
        )
    };
    format!("{} / {}", text(entry), other.map_or_else(|| "-".to_owned(), text))
}
