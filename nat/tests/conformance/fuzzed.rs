//! N-INV-1: what must hold whatever comes, on fixed seeds; `cargo run --release -p bench -- fuzz` makes a run of ten million packets.

use vswitch_nat::DropReason;
use vswitch_testkit::Clock;

use crate::fuzz;

#[test]
fn n_inv_1_nothing_that_is_sent_breaks_the_engine_or_leaves_untranslated() {
    let mut missing: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    for seed in SEEDS {
        let tally = fuzz::run(seed, 10_000, Clock::new().now());
        assert_eq!(tally.packets, 10_000);
        assert!(tally.turns >= 6, "all profiles in both modes: {tally:?}");
        assert!(tally.consumed > 0 && tally.restarts.0 > 0, "{tally:?}");
        let never = tally.missing();
        missing.retain(|name| never.contains(name));
    }
    // The packets come as far as to nearly every decision.
    missing.retain(|name| !RARE.contains(name));
    assert!(missing.is_empty(), "never dropped for {missing:?}");
}

#[test]
fn p_a_run_is_the_same_every_time() {
    let start = Clock::new().now();
    let [first, second] = [(); 2].map(|()| fuzz::run(7, 3000, start));
    assert_eq!(first.counters, second.counters);
}

const SEEDS: [u64; 2] = [1, 0x5eed];
/// What a short run need not meet. Nothing denies a published port to anybody yet.
const RARE: [&str; 5] = ["creation_rate", "denied", "loop", "quota", "redirect"];
