//! The NAT engine on packets that nobody should send: that nothing panics, leaves untranslated or is wrong, and how fast that goes.
//! The packets and what must hold are those of the test in `nat/tests/fuzz`.

#[path = "../../nat/tests/fuzz/mod.rs"]
mod run;

use std::time::Instant;

use anyhow::Result;

/// What to put in.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many packets.
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// What they are made from; the same seed makes the same packets.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Makes the run and prints what it has seen. A requirement that does not hold panics with the packet.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { packets, seed } = *options;
    println!("seed {seed}, {packets} packets");
    let start = Instant::now();
    let tally = run::run(seed, packets, start);
    let elapsed = start.elapsed();
    let rate = tally.packets as f64 / elapsed.as_secs_f64();
    println!(
        "{} packets in {:.1} s, {rate:.0} a second with making and checking them; {} configurations",
        tally.packets,
        elapsed.as_secs_f64(),
        tally.turns
    );
    for (name, count) in &tally.counters {
        println!("{name:>20} {count}");
    }
    println!("{:>20} {}", "consumed", tally.consumed);
    let (restarts, taken, refused) = tally.restarts;
    println!("{restarts} restarts, which took {taken} connections over and refused {refused}");
    match tally.missing() {
        missing if missing.is_empty() => println!("every reason to drop a packet occurred"),
        missing => println!("never dropped for: {}", missing.join(", ")),
    }
    Ok(())
}
