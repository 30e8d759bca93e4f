//! What the project promises.

use super::{Measure, Peer, Sample, Side};
use crate::{report::Better, stats::median};

/// A ratio of ours to a peer's, and what is promised of it.
#[derive(Debug)]
pub(crate) struct Goal<P: 'static, M> {
    pub(crate) title: &'static str,
    pub(crate) measure: M,
    pub(crate) quantity: Quantity,
    pub(crate) ours: P,
    /// The best of these counts, round by round.
    pub(crate) against: &'static [P],
    /// The ratio to reach: at least this if higher is better, else at most. None if nothing is promised.
    pub(crate) must: Option<f64>,
    /// The ratio hoped for.
    pub(crate) aim: Option<f64>,
}

/// What of a measurement a goal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    Processor,
    Value,
}

impl<P: Peer, M: Measure<P>> Goal<P, M> {
    pub(crate) fn better(&self) -> Better {
        match self.quantity {
            Quantity::Processor => Better::Lower,
            Quantity::Value => self.measure.better(),
        }
    }

    /// Median of the rounds' ratios; none where ours or a peer was not measured.
    pub(crate) fn ratio(&self, sides: &[Side<P>]) -> Option<f64> {
        let side = |peer| sides.iter().find(|side| side.peer == peer);
        let ours = side(self.ours)?;
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

    /// None if nothing is promised.
    pub(crate) fn is_reached(&self, ratio: f64) -> Option<bool> {
        let must = self.must?;
        Some(match self.better() {
            Better::Higher => ratio >= must,
            Better::Lower => ratio <= must,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Switch {
        Ours,
        One,
        Other,
    }

    impl Peer for Switch {
        fn title(self) -> &'static str {
            ""
        }
    }

    /// By its unit.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Unit(&'static str);

    impl Measure<Switch> for Unit {
        const ALL: &'static [Self] = &[];

        fn title(self) -> &'static str {
            ""
        }

        fn unit(self) -> &'static str {
            self.0
        }

        fn concerns(self, _: Switch) -> bool {
            true
        }
    }

    fn side(peer: Switch, values: &[Option<f64>]) -> Side<Switch> {
        let sample = |value| Sample {
            value,
            p99: None,
            gbit_per_second: None,
            processor_per_gbit: None,
            retransmits: None,
            failed: None,
            cores: 0.0,
            process_cores: None,
        };
        Side {
            peer,
            samples: values.iter().map(|value| value.map(sample)).collect(),
        }
    }

    const AGAINST_BOTH: Goal<Switch, Unit> = goal("Gbit/s", &[Switch::One, Switch::Other], 1.0);
    const RETRANSMITS: Goal<Switch, Unit> = goal("segments", &[Switch::One], 0.01);

    const fn goal(unit: &'static str, against: &'static [Switch], must: f64) -> Goal<Switch, Unit> {
        Goal {
            title: "",
            measure: Unit(unit),
            quantity: Quantity::Value,
            ours: Switch::Ours,
            against,
            must: Some(must),
            aim: None,
        }
    }

    #[test]
    fn the_best_of_each_round_counts() {
        let sides = [
            side(Switch::Ours, &[Some(6.0), Some(6.0)]),
            side(Switch::One, &[Some(3.0), Some(1.0)]),
            side(Switch::Other, &[Some(1.0), Some(6.0)]),
        ];
        assert_eq!(AGAINST_BOTH.ratio(&sides), Some(1.5));
    }

    #[test]
    fn a_round_without_all_does_not_count() {
        let sides = [
            side(Switch::Ours, &[Some(6.0), Some(6.0)]),
            side(Switch::One, &[Some(3.0), None]),
            side(Switch::Other, &[Some(1.0), Some(6.0)]),
        ];
        assert_eq!(AGAINST_BOTH.ratio(&sides), Some(2.0));
        assert_eq!(AGAINST_BOTH.ratio(&sides[..2]), None, "nor does a missing peer");
    }

    #[test]
    fn no_retransmits_reach_the_goal_even_beside_none() {
        let sides = [side(Switch::Ours, &[Some(0.0)]), side(Switch::One, &[Some(0.0)])];
        let ratio = RETRANSMITS.ratio(&sides);
        assert_eq!(ratio, Some(0.0));
        assert_eq!(RETRANSMITS.is_reached(0.0), Some(true));
        let sides = [side(Switch::Ours, &[Some(1.0)]), side(Switch::One, &[Some(0.0)])];
        assert_eq!(
            RETRANSMITS.is_reached(RETRANSMITS.ratio(&sides).unwrap()),
            Some(false)
        );
    }

    #[test]
    fn what_is_not_promised_is_neither_reached_nor_missed() {
        let nothing = Goal {
            must: None,
            ..AGAINST_BOTH
        };
        assert_eq!(nothing.is_reached(0.1), None);
    }
}
