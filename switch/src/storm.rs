//! Limits on what a port may have copied to all others (B-STM-1), and on any other rate.

use crate::timeline::Tick;

/// What a port may send in a class of flooded traffic, averaged over a second.
///
/// A tenth of it may come at once ([`BURST_DIVISOR`]), but never less than one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Frames per second, as they would be on the wire (a super-frame counts as its segments).
    pub frames: u32,
    /// Bytes per second, Ethernet header included.
    pub bytes: u64,
}

impl Rate {
    /// So many frames per second, of any size up to an Ethernet frame of 1514 bytes on average.
    pub const fn frames(frames: u32) -> Self {
        Self {
            frames,
            bytes: frames as u64 * 1514,
        }
    }
}

/// The limits of one port; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StormLimits {
    /// Frames to ff:ff:ff:ff:ff:ff.
    pub broadcast: Option<Rate>,
    /// Frames to other group addresses.
    pub multicast: Option<Rate>,
    /// Frames to a station that no port is known to have.
    pub unknown_unicast: Option<Rate>,
    /// What ARP, neighbour discovery and DHCP may send beyond the limit of their class, so that a storm
    /// from a container does not also cost it its address resolution.
    pub reserved: Option<Rate>,
}

impl StormLimits {
    /// Defaults of a container's port: 1000 broadcasts, 5000 multicasts and 2000 unknown unicasts a
    /// second (B-STM-1), and 100 a second reserved, so that all broadcasts together stay below 1100.
    pub const CONTAINER: Self = Self {
        broadcast: Some(Rate::frames(1000)),
        multicast: Some(Rate::frames(5000)),
        unknown_unicast: Some(Rate::frames(2000)),
        reserved: Some(Rate::frames(100)),
    };
    /// No limits.
    pub const NONE: Self = Self {
        broadcast: None,
        multicast: None,
        unknown_unicast: None,
        reserved: None,
    };
}

/// How a frame that goes to more than one port is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloodClass {
    Broadcast,
    Multicast,
    UnknownUnicast,
}

/// The meters of one port.
#[derive(Debug, Clone, Default)]
pub(crate) struct StormGuard {
    broadcast: Option<Meter>,
    multicast: Option<Meter>,
    unknown_unicast: Option<Meter>,
    reserved: Option<Meter>,
}

impl StormGuard {
    pub(crate) fn new(limits: &StormLimits) -> Self {
        Self {
            broadcast: limits.broadcast.map(Meter::new),
            multicast: limits.multicast.map(Meter::new),
            unknown_unicast: limits.unknown_unicast.map(Meter::new),
            reserved: limits.reserved.map(Meter::new),
        }
    }

    /// Whether a frame of this class may be flooded now; `is_essential` is asked only when its class has
    /// used up its own limit.
    #[inline]
    pub(crate) fn admits(
        &mut self,
        class: FloodClass,
        load: OnWire,
        now: Tick,
        is_essential: impl FnOnce() -> bool,
    ) -> bool {
        let meter = match class {
            FloodClass::Broadcast => &mut self.broadcast,
            FloodClass::Multicast => &mut self.multicast,
            FloodClass::UnknownUnicast => &mut self.unknown_unicast,
        };
        meter.as_mut().is_none_or(|meter| meter.take(load, now))
            || is_essential()
                && self
                    .reserved
                    .as_mut()
                    .is_some_and(|reserved| reserved.take(load, now))
    }
}

/// What a frame is on the wire, where a super-frame is many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnWire {
    /// How many frames it makes; 1 but for a super-frame.
    pub frames: u32,
    /// Bytes of all of them, each with its headers.
    pub bytes: u32,
    /// Bytes of the largest of them; what an MTU is compared with.
    pub largest: usize,
}

impl OnWire {
    /// A frame that stays one.
    pub fn one(frame_len: usize) -> Self {
        Self {
            frames: 1,
            bytes: u32::try_from(frame_len).unwrap_or(u32::MAX),
            largest: frame_len,
        }
    }
}

/// Two buckets that are drawn from together or not at all.
#[derive(Debug, Clone)]
struct Meter {
    frames: Bucket,
    bytes: Bucket,
}

impl Meter {
    fn new(rate: Rate) -> Self {
        let frame_burst = u64::from(rate.frames) / BURST_DIVISOR;
        let byte_burst = rate.bytes / BURST_DIVISOR;
        Self {
            frames: Bucket::new(u64::from(rate.frames), frame_burst),
            bytes: Bucket::new(rate.bytes, byte_burst.max(LARGEST_FRAME)),
        }
    }

    fn take(&mut self, load: OnWire, now: Tick) -> bool {
        match (
            self.frames.offer(load.frames, now),
            self.bytes.offer(load.bytes, now),
        ) {
            (Some(frames), Some(bytes)) => {
                self.frames.drained_until = frames;
                self.bytes.drained_until = bytes;
                true
            }
            _ => false,
        }
    }
}

/// A token bucket, kept as the moment at which it will be full again.
///
/// One number tells all: drawing moves that moment later, and a draw that would move it further than a
/// bucketful away is refused.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    per_second: u64,
    bucketful: u64,
    drained_until: Tick,
}

impl Bucket {
    /// A full bucket of `burst` units, at least one, that refills at `per_second`; 0 never gives any.
    pub(crate) fn new(per_second: u64, burst: u64) -> Self {
        Self {
            per_second,
            bucketful: time_of(burst.max(1), per_second),
            drained_until: Tick::ZERO,
        }
    }

    /// Takes `units` if there are as many.
    pub(crate) fn take(&mut self, units: u32, now: Tick) -> bool {
        match self.offer(units, now) {
            Some(drained_until) => {
                self.drained_until = drained_until;
                true
            }
            None => false,
        }
    }

    /// When the bucket would be full again if `units` were taken; `None` if there are not as many.
    ///
    /// More units than a bucketful are given once the bucket is full, so that a large frame is not
    /// refused for ever; the debt delays what follows.
    fn offer(&self, units: u32, now: Tick) -> Option<Tick> {
        if self.per_second == 0 {
            return None;
        }
        let cost = time_of(u64::from(units), self.per_second);
        let full_at = self.drained_until.max(now);
        (full_at.since(now) + cost.min(self.bucketful) <= self.bucketful).then(|| full_at.plus(cost))
    }
}

/// Nanoseconds in which `units` flow in.
fn time_of(units: u64, per_second: u64) -> u64 {
    let nanos = u128::from(units) * 1_000_000_000;
    match per_second {
        0 => 0,
        _ => u64::try_from(nanos.div_ceil(u128::from(per_second))).unwrap_or(u64::MAX / 4),
    }
}

/// The part of a second's allowance that may come at once: a tenth. Long enough for a container's start
/// (DHCP, ARP, neighbour and router solicitations), and a loop gets little out of it (B-LOOP-1).
pub const BURST_DIVISOR: u64 = 10;

/// A super-frame: 65 535 bytes of IP, an Ethernet header and two tags (B-OFF-11).
const LARGEST_FRAME: u64 = 65_535 + 14 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn one_frame() -> OnWire {
        OnWire::one(60)
    }

    #[test]
    fn a_meter_gives_its_burst_and_then_its_rate() {
        let mut meter = Meter::new(Rate::frames(1000));
        let mut passed = 0;
        for step in 0..100_000_u64 {
            passed += u32::from(meter.take(one_frame(), Tick::ZERO.plus(step * SECOND / 100_000)));
        }
        assert_eq!(passed, 1000 + 100 - 1);
    }

    #[test]
    fn bytes_limit_large_frames() {
        let mut meter = Meter::new(Rate {
            frames: 1_000_000,
            bytes: 1_000_000,
        });
        let large = OnWire::one(50_000);
        assert!(meter.take(large, Tick::ZERO));
        assert!(meter.take(large, Tick::ZERO));
        assert!(!meter.take(large, Tick::ZERO));
        assert!(meter.take(large, Tick::ZERO.plus(50 * SECOND / 1000)));
    }

    #[test]
    fn a_refused_frame_costs_nothing_in_either_bucket() {
        let mut meter = Meter::new(Rate {
            frames: 10,
            bytes: 1_000_000,
        });
        assert!(meter.take(one_frame(), Tick::ZERO));
        let bytes = meter.bytes.drained_until;
        assert!(!meter.take(one_frame(), Tick::ZERO));
        assert_eq!(meter.bytes.drained_until, bytes);
    }

    #[test]
    fn a_super_frame_costs_all_its_segments_even_beyond_a_bucketful() {
        let mut meter = Meter::new(Rate::frames(1000));
        let segments = |frames| OnWire {
            frames,
            ..OnWire::one(600)
        };
        assert!(meter.take(segments(128), Tick::ZERO));
        let refill = 128 * SECOND / 1000;
        assert!(!meter.take(segments(100), Tick::ZERO.plus(refill - SECOND / 1000)));
        assert!(meter.take(segments(100), Tick::ZERO.plus(refill)));
    }

    #[test]
    fn rate_zero_gives_nothing() {
        assert!(!Bucket::new(0, 10).take(1, Tick::ZERO));
    }
}
