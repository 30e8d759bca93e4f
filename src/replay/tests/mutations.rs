//! Real exchanges with bits flipped, packets doubled, lost, late and cut: what hostile hosts on either side could send.

use vswitch_nat::Egress;
use vswitch_wire::{Ipv4Packet, Ipv6Packet};

use super::{
    fixtures::{directories, load, name, open},
    samples::{capture, play},
};
use crate::replay::{Emitted, capture::LinkType, config::Config, summary::Summary};

/// Rounds of each fixture: some 10 000 packets.
const ROUNDS: u64 = 20;

#[test]
fn n_inv_1_no_mutation_leaves_untranslated_and_none_makes_the_engine_panic() {
    let mut left = 0;
    for directory in directories() {
        let (config, original) = (load(&directory), packets(&directory));
        for round in 0..ROUNDS {
            // Small seeds make small first numbers.
            let seed = (round + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mutated = mutate(&original, Random(seed));
            let links: Vec<_> = SIDES.map(|side| (side, mutated.0)).to_vec();
            let (played, report) =
                play(&config, &capture(&links, &mutated.1)).expect("the capture itself is whole");
            assert_eq!(report.packets, mutated.1.len() as u64);
            left += report.emitted;
            for emitted in played.iter().flat_map(|step| &step.emitted) {
                if let Err(fault) = check(&config, emitted) {
                    panic!("{}, seed {seed}: {fault}: {emitted:02x?}", name(&directory));
                }
            }
        }
    }
    assert!(left > 1000, "only {left} packets got anywhere");
}

/// What must be true of whatever leaves.
fn check(config: &Config, emitted: &Emitted) -> Result<(), &'static str> {
    let packet = &emitted.packet;
    if packet[0] >> 4 == 4 {
        let packet = Ipv4Packet::parse(packet).map_err(|_| "it is malformed")?;
        if !packet.has_valid_checksum() {
            return Err("its header checksum is wrong");
        }
    } else {
        Ipv6Packet::parse(packet).map_err(|_| "it is malformed")?;
    }
    let network = &config.networks[0];
    let is_translated = !matches!(network.egress, Egress::Routed { .. });
    let summary = Summary::of(packet).ok_or("it has no addresses")?;
    if is_translated
        && emitted.zone.is_outside()
        && network
            .prefixes
            .iter()
            .any(|prefix| prefix.contains(&summary.src))
    {
        return Err("it leaves with an inside address");
    }
    Ok(())
}

type Packets = (LinkType, Vec<(usize, u64, Vec<u8>)>);

const SIDES: [&str; 2] = ["inside", "outside"];

/// What arrives in a fixture.
fn packets(directory: &std::path::Path) -> Packets {
    let mut reader = open(&directory.join("in.pcap"));
    let (mut link, mut packets) = (LinkType::ETHERNET, Vec::new());
    while let Some(record) = reader.read().expect("a fixture is whole") {
        let side = SIDES
            .iter()
            .position(|&side| record.interface.name.as_deref() == Some(side));
        link = record.interface.link;
        packets.push((
            side.expect("fixtures have two sides"),
            record.time.0,
            record.bytes.to_vec(),
        ));
    }
    (link, packets)
}

fn mutate((link, packets): &Packets, mut random: Random) -> Packets {
    let mut mutated = Vec::new();
    for (side, time, bytes) in packets {
        let (mut side, mut time, mut bytes) = (*side, *time, bytes.clone());
        match random.below(16) {
            // The first bytes are headers, where it matters most.
            0..=2 => {
                for _ in 0..=random.below(3) {
                    let bit = random.below(bytes.len().min(100) * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            }
            3 => bytes.truncate(random.below(bytes.len())),
            4 => mutated.push((side, time, bytes.clone())),
            5 => continue,
            6 => side = 1 - side,
            // Time does not go back, so whatever follows is late, too.
            7 if random.below(4) == 0 => time += random.below(400) as u64 * 1_000_000_000,
            _ => {}
        }
        mutated.push((side, time, bytes));
    }
    (*link, mutated)
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}
