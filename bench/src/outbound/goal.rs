//! What the project promises of the way out.

use super::{
    measure::{Measure, Sample},
    peer::Peer,
    report::Side,
};
use crate::{report::Better, stats::median};

/// A ratio of ours to a peer's that is promised.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) title: &'static str,
    pub(crate) measure: Measure,
    quantity: Quantity,
    /// The best of these counts, round by round.
    against: &'static [Peer],
    /// The ratio to reach: at least this if higher is better, else at most.
    pub(crate) must: f64,
    /// The ratio hoped for.
    pub(crate) aim: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Processor,
    Value,
}

impl Goal {
    pub(crate) fn better(&self) -> Better {
        match self.quantity {
            Quantity::Processor => Better::Lower,
            Quantity::Value => self.measure.better(),
        }
    }

    /// Median of the rounds' ratios; none where ours or a peer was not measured.
    pub(crate) fn ratio(&self, sides: &[Side]) -> Option<f64> {
        let side = |peer| sides.iter().find(|side| side.peer == peer);
        let ours = side(Peer::Ours)?;
        let against: Vec<_> = self
            .against
            .iter()
            .map(|&peer| side(peer))
            .collect::<Option<_>>()?;
        let ratios = ours.samples.iter().enumerate().filter_map(|(round, sample)| {
            let ours = self.of(sample.as_ref()?)?;
            let others = against
                .iter()
                .map(|side| self.of(side.samples.get(round)?.as_ref()?));
            let best = self.best(others.collect::<Option<Vec<_>>>()?)?;
            // None of ours is nothing beside theirs, even where they have none.
            Some(if ours == 0.0 { 0.0 } else { ours / best })
        });
        let ratios: Vec<_> = ratios.collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    fn of(&self, sample: &Sample) -> Option<f64> {
        match self.quantity {
            Quantity::Processor => sample.processor_per_gbit,
            Quantity::Value => Some(sample.value),
        }
    }

    fn best(&self, values: Vec<f64>) -> Option<f64> {
        match self.better() {
            Better::Higher => values.into_iter().reduce(f64::max),
            Better::Lower => values.into_iter().reduce(f64::min),
        }
    }

    pub(crate) fn is_reached(&self, ratio: f64) -> bool {
        match self.better() {
            Better::Higher => ratio >= self.must,
            Better::Lower => ratio <= self.must,
        }
    }
}

const fn goal(
    title: &'static str,
    measure: Measure,
    against: &'static [Peer],
    must: f64,
    aim: Option<f64>,
) -> Goal {
    Goal {
        title,
        measure,
        quantity: Quantity::Value,
        against,
        must,
        aim,
    }
}

const fn processor(title: &'static str, measure: Measure) -> Goal {
    Goal {
        quantity: Quantity::Processor,
        ..goal(title, measure, &[Peer::Slirp4netns], 0.25, Some(0.12))
    }
}

const BEST_JUMBO: &[Peer] = &[Peer::Slirp4netnsJumbo, Peer::PastaJumbo];

/// Every goal; ours is at MTU 1500 throughout. Of the two against MTU 65520 the worse one is the promise.
pub(crate) const GOALS: [Goal; 13] = [
    goal(
        "upload ÷ slirp4netns",
        Measure::Upload,
        &[Peer::Slirp4netns],
        8.0,
        Some(14.0),
    ),
    goal(
        "upload ÷ pasta, txqueuelen 8000",
        Measure::Upload,
        &[Peer::PastaTuned],
        1.2,
        Some(2.0),
    ),
    goal(
        "upload ÷ best at MTU 65520",
        Measure::Upload,
        BEST_JUMBO,
        1.0,
        Some(1.3),
    ),
    goal(
        "download ÷ slirp4netns",
        Measure::Download,
        &[Peer::Slirp4netns],
        3.0,
        Some(5.0),
    ),
    goal(
        "download ÷ pasta as shipped",
        Measure::Download,
        &[Peer::Pasta],
        5.0,
        Some(8.0),
    ),
    goal(
        "download ÷ best at MTU 65520",
        Measure::Download,
        BEST_JUMBO,
        1.0,
        Some(1.3),
    ),
    goal(
        "retransmits ÷ pasta as shipped",
        Measure::UploadRetransmits,
        &[Peer::Pasta],
        0.01,
        Some(0.0),
    ),
    goal(
        "connect + request p50 ÷ slirp4netns",
        Measure::ConnectRequest,
        &[Peer::Slirp4netns],
        0.5,
        Some(0.35),
    ),
    goal(
        "connect + request p50 ÷ pasta",
        Measure::ConnectRequest,
        &[Peer::Pasta],
        1.0,
        Some(0.7),
    ),
    goal(
        "request/response p50 ÷ pasta",
        Measure::RequestResponse,
        &[Peer::Pasta],
        1.0,
        Some(0.5),
    ),
    goal(
        "request/response p50 ÷ pasta, core 0",
        Measure::RequestResponseSameCore,
        &[Peer::Pasta],
        1.0,
        Some(0.5),
    ),
    processor("upload, CPU per Gbit ÷ slirp4netns", Measure::Upload),
    processor("download, CPU per Gbit ÷ slirp4netns", Measure::Download),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn side(peer: Peer, values: &[Option<f64>]) -> Side {
        let sample = |value| Sample {
            value,
            p99: None,
            gbit_per_second: None,
            processor_per_gbit: None,
            retransmits: None,
            cores: 0.0,
            process_cores: None,
        };
        Side {
            peer,
            samples: values.iter().map(|value| value.map(sample)).collect(),
        }
    }

    const AGAINST_BOTH: Goal = goal("", Measure::Upload, BEST_JUMBO, 1.0, None);
    const RETRANSMITS: Goal = goal("", Measure::UploadRetransmits, &[Peer::Pasta], 0.01, None);

    #[test]
    fn the_best_of_each_round_counts() {
        let sides = [
            side(Peer::Ours, &[Some(6.0), Some(6.0)]),
            side(Peer::PastaJumbo, &[Some(3.0), Some(1.0)]),
            side(Peer::Slirp4netnsJumbo, &[Some(1.0), Some(6.0)]),
        ];
        assert_eq!(AGAINST_BOTH.ratio(&sides), Some(1.5));
    }

    #[test]
    fn a_round_without_all_does_not_count() {
        let sides = [
            side(Peer::Ours, &[Some(6.0), Some(6.0)]),
            side(Peer::PastaJumbo, &[Some(3.0), None]),
            side(Peer::Slirp4netnsJumbo, &[Some(1.0), Some(6.0)]),
        ];
        assert_eq!(AGAINST_BOTH.ratio(&sides), Some(2.0));
        assert_eq!(AGAINST_BOTH.ratio(&sides[..2]), None, "nor does a missing peer");
    }

    #[test]
    fn no_retransmits_reach_the_goal_even_beside_none() {
        let sides = [side(Peer::Ours, &[Some(0.0)]), side(Peer::Pasta, &[Some(0.0)])];
        let ratio = RETRANSMITS.ratio(&sides);
        assert_eq!(ratio, Some(0.0));
        assert!(RETRANSMITS.is_reached(0.0));
        let sides = [side(Peer::Ours, &[Some(1.0)]), side(Peer::Pasta, &[Some(0.0)])];
        assert!(!RETRANSMITS.is_reached(RETRANSMITS.ratio(&sides).unwrap()));
    }
}
