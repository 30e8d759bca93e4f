//! Stations that jump between ports: the sign of a loop or of a thief.
//!
//! B-LIM-4 wants such a station frozen on the port that had it first; B-LOOP-1 (a) wants the other port
//! cut off, because in a loop every station flaps and freezing one does not stop the rest. Both happen at
//! the same moment, with one judgement of who was first:
//!
//! - The *older* port is the one that had the station before it began to move (or, if that port has lost
//!   its stations since, the one that has it now). The entry goes back there and is as good as static for [`FlapLimits::freeze`]: its frames from elsewhere are treated as those
//!   of a static entry's violator.
//! - The *younger* port is disabled for [`SwitchConfig::loop_block`](crate::SwitchConfig::loop_block) if
//!   its [`LoopGuard`](crate::LoopGuard) is on. Gateways and uplinks come with it off: a container could
//!   otherwise provoke a flap with a station of the outside and have the uplink cut.
//! - Static entries never move, so they never flap: a loop that returns a guarded container's frame ends
//!   at the first copy, and a container that borrows a neighbour's address cannot cut the neighbour off.

use std::time::Duration;

use crate::{
    PortId,
    timeline::{Tick, nanos},
};

/// When a moving station counts as flapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlapLimits {
    /// Moves that are tolerated within [`FlapLimits::window`]; the next one is a flap. Default 5 (B-LIM-4).
    pub moves: u16,
    /// The time in which moves are counted, from the first one on. Default 1 s (B-LIM-4).
    pub window: Duration,
    /// How long a flapping station stays on its older port. Default 10 s (B-LIM-4).
    pub freeze: Duration,
}

impl Default for FlapLimits {
    fn default() -> Self {
        Self {
            moves: 5,
            window: Duration::from_secs(1),
            freeze: Duration::from_secs(10),
        }
    }
}

/// The recent moves of one station.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlapHistory {
    window_start: Tick,
    frozen_until: Tick,
    home: Home,
    moves: u16,
}

/// Where a station was before it began to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) port: PortId,
    /// The port's epoch at the time: another one now means that the port lost its stations since, and may
    /// be another port of the same id.
    pub(crate) epoch: u32,
}

/// What a move amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    /// The limit is passed; the station is frozen from now on, and should be at home.
    Flapping(Home),
    /// A freeze is still in force.
    Frozen,
    /// An ordinary move.
    Steady,
}

impl FlapHistory {
    /// A station that has not moved.
    pub(crate) const CALM: Self = Self {
        window_start: Tick::ZERO,
        frozen_until: Tick::ZERO,
        home: Home {
            port: PortId(0),
            epoch: 0,
        },
        moves: 0,
    };

    pub(crate) fn is_frozen(&self, now: Tick) -> bool {
        now < self.frozen_until
    }

    /// Judges a move of the station away from `from`.
    pub(crate) fn record_move(&mut self, from: Home, now: Tick, limits: FlapLimits) -> Motion {
        if self.is_frozen(now) {
            return Motion::Frozen;
        }
        if self.moves == 0 || now.since(self.window_start) >= nanos(limits.window) {
            *self = Self {
                window_start: now,
                home: from,
                moves: 0,
                ..*self
            };
        }
        self.moves = self.moves.saturating_add(1);
        if self.moves <= limits.moves {
            return Motion::Steady;
        }
        self.moves = 0;
        self.frozen_until = now.plus(nanos(limits.freeze));
        Motion::Flapping(self.home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Home = Home {
        port: PortId(1),
        epoch: 0,
    };
    const B: Home = Home {
        port: PortId(2),
        epoch: 0,
    };
    const MILLI: u64 = 1_000_000;

    fn alternate(step: u64) -> Vec<Motion> {
        let mut history = FlapHistory::CALM;
        let mut now = Tick::ZERO;
        (0..7)
            .map(|turn| {
                now = now.plus(step);
                history.record_move(if turn % 2 == 0 { A } else { B }, now, FlapLimits::default())
            })
            .collect()
    }

    #[test]
    fn the_sixth_move_within_a_second_is_a_flap_and_home_is_where_it_began() {
        let motions = alternate(150 * MILLI);
        assert_eq!(motions[..5], [Motion::Steady; 5]);
        assert_eq!(motions[5..], [Motion::Flapping(A), Motion::Frozen]);
    }

    #[test]
    fn five_moves_a_second_are_tolerated_for_ever() {
        assert_eq!(alternate(201 * MILLI), [Motion::Steady; 7]);
    }
}
