//! Names for sandboxes that nobody named, in Docker's manner: `adjective_noun`.

use std::hash::{BuildHasher, RandomState};

/// A fresh name, different from run to run.
pub fn random() -> String {
    // The standard library keys every `RandomState` from the kernel's entropy.
    from_seed(RandomState::new().hash_one(std::process::id()))
}

/// The name that belongs to a seed: one of 4096 pairs and, for half of all seeds, a digit, so that a
/// caller who meets a taken name has good odds with the next seed.
fn from_seed(seed: u64) -> String {
    let pick = |words: &[&'static str; 64], shift: u32| words[(seed >> shift & 63) as usize];
    let (quality, thing) = (pick(&QUALITIES, 0), pick(&THINGS, 6));
    match seed >> 12 & 1 {
        0 => format!("{quality}_{thing}"),
        _ => format!("{quality}_{thing}{}", (seed >> 13) % 10),
    }
}

const QUALITIES: [&str; 64] = [
    "agile", "amber", "ample", "awake", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid",
    "cheery", "civil", "clever", "cosmic", "crisp", "curious", "daring", "deft", "dreamy", "eager", "early",
    "fair", "fleet", "fond", "frank", "fresh", "gentle", "glad", "golden", "grand", "happy", "hardy",
    "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "merry", "mild", "modest",
    "neat", "nimble", "noble", "patient", "plucky", "polite", "proud", "quiet", "rapid", "ready", "serene",
    "sharp", "silent", "sunny", "swift", "tidy", "vivid", "warm", "wise", "zesty",
];

const THINGS: [&str; 64] = [
    "alder", "anchor", "badger", "basin", "beacon", "birch", "bison", "brook", "canyon", "cedar", "comet",
    "condor", "coral", "crane", "delta", "dolphin", "dune", "eagle", "ember", "falcon", "fern", "finch",
    "fjord", "garnet", "geyser", "glacier", "grove", "harbor", "heron", "island", "jasper", "juniper",
    "kestrel", "lagoon", "lantern", "lark", "linden", "lotus", "lynx", "maple", "marten", "meadow", "meteor",
    "nebula", "orchid", "osprey", "otter", "pebble", "pelican", "plover", "quartz", "raven", "reef", "river",
    "robin", "sable", "sequoia", "sparrow", "spruce", "tern", "thistle", "walnut", "willow", "wren",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_words_differ_from_each_other() {
        assert_eq!(QUALITIES.iter().collect::<HashSet<_>>().len(), 64);
        assert_eq!(THINGS.iter().collect::<HashSet<_>>().len(), 64);
    }

    #[test]
    fn every_seed_bit_that_is_used_changes_the_name() {
        assert_eq!(from_seed(0), "agile_alder");
        assert_eq!(from_seed(63 | 63 << 6), "zesty_wren");
        assert_eq!(from_seed(1 << 12 | 7 << 13), "agile_alder7");
    }

    #[test]
    fn names_are_accepted_as_container_names() {
        // Docker: [a-zA-Z0-9][a-zA-Z0-9_.-]+
        for seed in (0..1 << 17).step_by(97) {
            let name = from_seed(seed);
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
            assert!(
                name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
                "{name}"
            );
        }
    }

    #[test]
    fn two_names_in_a_row_nearly_always_differ() {
        let names: HashSet<_> = (0..64).map(|_| random()).collect();
        assert!(names.len() > 48, "{} of 64 names differ", names.len());
    }
}
