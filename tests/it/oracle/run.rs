//! One packet after the other through both routers, and what the comparison says.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    io,
    path::PathBuf,
};

use vswitch_nat::DropReason;

use super::{
    account::{self, Capture},
    compare::{Chosen, are_same_pieces, unify},
    errors,
    flow::Party,
    packet::{ACK, RST, SYN},
    plan::Side,
    router::{Entry, Passage, Router},
    rows::{Aftermath, Case, Row},
    states::StateRow,
    world::{Step, World},
};

mod opinions;

/// A comparison of two routers.
pub(super) struct Run<'a> {
    pub(super) kernel: &'a mut dyn Router,
    pub(super) ours: &'a mut dyn Router,
    /// The differences that are accepted.
    pub(super) rows: &'static [&'static [Row]],
    pub(super) partings: &'static [StateRow],
    pub(super) seed: u64,
    pub(super) packets: usize,
    pub(super) capture: PathBuf,
}

/// The last steps in words, and of which conversation each is.
type History = VecDeque<(Option<usize>, String)>;

/// What was found.
pub(super) struct Report {
    /// Packets sent to each router, and those of them that came out again.
    pub(super) packets: usize,
    pub(super) forwarded: usize,
    /// How often each row was needed, in the order of the rows.
    pub(super) accepted: Vec<usize>,
    /// The same of what the routers think of connections.
    pub(super) parted: Vec<usize>,
    /// Accounts of what nothing explains, by what they have in common.
    pub(super) unexplained: BTreeMap<String, Finding>,
    /// Connections that were compared.
    pub(super) entries: usize,
}

/// A kind of difference.
pub(super) struct Finding {
    pub(super) count: usize,
    /// The first one, in full.
    pub(super) account: String,
}

impl Run<'_> {
    /// Runs it.
    pub(super) fn report(mut self) -> io::Result<Report> {
        let mut report = Report {
            packets: 0,
            forwarded: 0,
            accepted: vec![0; self.rows.iter().copied().flatten().count()],
            parted: vec![0; self.partings.len()],
            unexplained: BTreeMap::new(),
            entries: 0,
        };
        let mut capture = Capture::new();
        let mut epoch = 0;
        while report.packets < self.packets {
            epoch += 1;
            self.kernel.flush()?;
            self.ours.flush()?;
            self.epoch(epoch, &mut report, &mut capture)?;
        }
        if !report.unexplained.is_empty() {
            capture.save(&self.capture)?;
        }
        Ok(report)
    }

    /// Packets between two flushes.
    fn epoch(&mut self, epoch: u64, report: &mut Report, capture: &mut Capture) -> io::Result<()> {
        let mut world = World::new(self.seed.wrapping_mul(0x1_0000_0001).wrapping_add(epoch));
        let mut history = History::new();
        for _ in 0..EPOCH {
            for step in world.next() {
                let Some(step) = world.addressed(step) else {
                    continue;
                };
                // A conversation may be burnt amid a datagram's pieces; they are sent all the same.
                let kernel = self.kernel.pass(step.side, &step.packets[0])?;
                let ours = self.ours.pass(step.side, &step.packets[1])?;
                let [sent_kernel, sent_ours] = step.packets.each_ref().map(Vec::as_slice);
                capture.add(step.side, [sent_kernel, sent_ours], [&kernel, &ours]);
                report.packets += 1;
                report.forwarded += usize::from(!kernel.outputs.is_empty());
                let opinion = step
                    .flow
                    .and_then(|index| world.flows[index].opinion.as_ref().map(Entry::opinion));
                let line = line(report.packets, (&step, opinion), &kernel, &ours);
                history.push_back((step.flow, line));
                if history.len() > HISTORY {
                    history.pop_front();
                }
                let accepted: usize = report.accepted.iter().sum();
                let mut aftermath = self.judge(&step, [&kernel, &ours], report, &history, &world);
                let is_accepted = report.accepted.iter().sum::<usize>() != accepted;
                if aftermath == Aftermath::None {
                    aftermath = self.judge_states(&step, &ours, report, &history, &mut world)?;
                }
                if let Some(index) = step
                    .flow
                    .filter(|_| step.from.is_some() && step.what != "natural")
                {
                    world.flows[index].is_irregular = true;
                }
                // It begins a conversation of its own, the other way round.
                let is_call = step.from == Some(Party::Server)
                    && step.flags() & (SYN | ACK) == SYN
                    && step
                        .flow
                        .is_some_and(|index| world.flows[index].opinion.is_none());
                let is_reset = step
                    .segment
                    .as_ref()
                    .is_some_and(|said| said.segment.flags & RST != 0);
                if let Some(index) = step.flow.filter(|_| ours.reason.is_some() || is_reset) {
                    world.flows[index].is_vague = true;
                }
                // Linux has counted what it does not send on either, if it got so far as to be tracked.
                let is_stopped = ours.reason.is_some_and(|reason| STOPPED.contains(&reason));
                let is_counted = step.flow.is_some_and(|index| {
                    let flow = &world.flows[index];
                    flow.protocol == 6 || flow.received[Party::Server as usize].is_none()
                });
                // Linux takes numbers and windows from a RST that it does not believe.
                let is_doubted = is_reset
                    && step
                        .flow
                        .and_then(|index| world.flows[index].opinion.as_ref())
                        .is_some_and(|opinion| {
                            opinion
                                .state
                                .as_deref()
                                .is_some_and(|state| !["CLOSE", "TIME_WAIT"].contains(&state))
                        });
                if aftermath == Aftermath::Burns || is_doubted || is_call || is_stopped && is_counted {
                    if let Some(index) = step.flow {
                        world.burn(index);
                    }
                } else {
                    world.learn(
                        &step,
                        [&kernel.outputs, &ours.outputs],
                        aftermath == Aftermath::None && !is_accepted,
                    );
                }
            }
        }
        self.compare_tables(&world, report, &history)
    }

    /// Whether the routers did the same, or differ as they may.
    fn judge(
        &self,
        step: &Step,
        [kernel, ours]: [&Passage; 2],
        report: &mut Report,
        history: &History,
        world: &World,
    ) -> Aftermath {
        let input_is_error = errors::is_error(&step.packets[1]);
        let flow = step.flow.map(|index| &world.flows[index]);
        let chosen = flow.map_or_else(Chosen::default, |flow| flow.chosen());
        let outputs = unify(&kernel.outputs, &ours.outputs, input_is_error, chosen);
        // Of what came whole in one piece the identification is not the router's choice.
        let is_cut = step.what.contains("fragment") || outputs[1].len() > 1;
        if outputs[0] == outputs[1] || is_cut && are_same_pieces(&outputs[0], &outputs[1], chosen) {
            return Aftermath::None;
        }
        let case = Case {
            step,
            kernel: &outputs[0],
            ours: &outputs[1],
            chosen,
            flow,
            opinion: flow
                .and_then(|flow| flow.opinion.as_ref()?.state.as_deref())
                .unwrap_or_default(),
            reason: ours.reason,
        };
        if step.flow.is_some_and(|index| world.flows[index].is_burnt) {
            return Aftermath::Burns;
        }
        let mut rows = self.rows.iter().copied().flatten().enumerate();
        if let Some((index, row)) = rows.find(|(_, row)| (row.matches)(&case)) {
            report.accepted[index] += 1;
            return row.aftermath;
        }
        let signature = signature(&case);
        let finding = report.unexplained.entry(signature).or_insert_with(|| Finding {
            count: 0,
            account: account(step, &case, history, world),
        });
        finding.count += 1;
        Aftermath::Burns
    }
}

/// What differences of one kind have in common.
fn signature(case: &Case<'_>) -> String {
    let kind = |outputs: &[(Side, Vec<u8>)]| {
        let mut kinds: Vec<String> = outputs
            .iter()
            .map(
                |(side, packet)| match (errors::is_error(packet), errors::is_error(case.packet())) {
                    (true, false) => format!("complains {side:?}"),
                    _ => format!("forwards {side:?}"),
                },
            )
            .collect();
        kinds.dedup();
        if kinds.is_empty() {
            "drops".to_owned()
        } else {
            kinds.join("+")
        }
    };
    let place = match (case.kernel, case.ours) {
        ([(side, kernel)], [(our_side, ours)]) if side == our_side => {
            let differs = kernel.iter().zip(ours).position(|(kernel, ours)| kernel != ours);
            let byte = differs.unwrap_or(kernel.len().min(ours.len()));
            format!(" at byte {byte}, {} for {} bytes", ours.len(), kernel.len())
        }
        _ => String::new(),
    };
    let protocol = case.packet().first().map_or(0, |byte| byte >> 4);
    let layout = super::compare::Layout::of(case.packet());
    let reason = case
        .reason
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    format!(
        "{} from {:?}, v{protocol} P{}: kernel {}, we {}{reason}{place}",
        case.step.what,
        case.step.side,
        layout.map_or(0, |layout| layout.protocol),
        kind(case.kernel),
        kind(case.ours),
    )
}

fn line(number: usize, (step, opinion): (&Step, Option<String>), kernel: &Passage, ours: &Passage) -> String {
    let mut text = format!(
        "{number} {} {:?} {}: {}",
        opinion.unwrap_or_default(),
        step.side,
        step.what,
        account::packet(&step.packets[0])
    );
    let _ = write!(text, "\n      kernel: {}", account::passage(kernel));
    let _ = write!(text, "\n      ours:   {}", account::passage(ours));
    text
}

/// All that is needed to understand a difference.
fn account(step: &Step, case: &Case<'_>, history: &History, world: &World) -> String {
    let mut text = String::new();
    let is_near = |flow: Option<usize>| match (flow, step.flow) {
        (Some(one), Some(other)) => world.flows[one].meets(&world.flows[other]),
        _ => flow == step.flow,
    };
    let lines = history.iter().filter(|(flow, _)| is_near(*flow));
    let conversation: Vec<&String> = lines.map(|(_, line)| line).collect();
    for line in &conversation[conversation.len().saturating_sub(CONVERSATION)..] {
        let _ = writeln!(text, "  {line}");
    }
    for (name, packet) in [("in, kernel", &step.packets[0]), ("in, ours  ", &step.packets[1])] {
        let _ = writeln!(text, "  {name} {}", account::hex(packet));
    }
    for (name, outputs) in [("out, kernel", case.kernel), ("out, ours  ", case.ours)] {
        for (side, packet) in outputs {
            let _ = writeln!(text, "  {name} {side:?} {}", account::hex(packet));
        }
    }
    text
}

/// Why we stop what Linux stops only after it has tracked it.
const STOPPED: [DropReason; 4] = [
    DropReason::Malformed,
    DropReason::Mtu,
    DropReason::SourceRoute,
    DropReason::TimeExceeded,
];

/// Steps between two flushes: few enough that no timer ends.
const EPOCH: usize = 600;

/// Lines that are kept for accounts.
const HISTORY: usize = 4000;

/// Lines of a conversation in an account.
const CONVERSATION: usize = 30;
