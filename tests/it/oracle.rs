//! The kernel as oracle (nat-conformance §17): the same packets through nftables and through our engine, and
//! what comes out of both compared.
//!
//! `VSWITCH_ORACLE_SEED` repeats a run, `VSWITCH_ORACLE_PACKETS` says how long it is; a run that fails leaves a
//! capture in the directory for temporary files.

mod account;
mod compare;
mod engine;
mod errors;
mod flow;
mod kernel;
mod mischief;
mod odd;
mod packet;
mod plan;
mod random;
mod router;
mod rows;
mod run;
mod states;
mod tcp;
mod wire;
mod world;

use std::{env, fmt::Write as _, time::Instant};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use self::{
    engine::Engine,
    kernel::Kernel,
    router::Router,
    rows::{ROWS, Row},
    run::Run,
    states::{PARTINGS, StateRow},
};
use crate::support::{in_sandbox, skip};

#[test]
fn the_engine_does_as_nftables_does() {
    in_sandbox("oracle::the_engine_does_as_nftables_does", || {
        compare(20_000, (ROWS, PARTINGS), |seed| Some(Box::new(Engine::new(seed))));
    });
}

/// What shows that the comparison compares: nothing is accepted here.
#[test]
fn nftables_does_as_nftables_does() {
    in_sandbox("oracle::nftables_does_as_nftables_does", || {
        compare(3000, (&[], &[]), |_| {
            kernel("other").map(|kernel| Box::new(kernel) as _)
        });
    });
}

fn compare(
    packets: usize,
    (rows, partings): (&'static [&'static [Row]], &'static [StateRow]),
    other: impl FnOnce(u64) -> Option<Box<dyn Router>>,
) {
    stay_on_one_cpu();
    let seed = number("SEED").unwrap_or(SEED);
    let Some(mut kernel) = kernel("oracle") else {
        return;
    };
    let Some(mut other) = other(seed) else { return };
    let begun = Instant::now();
    let capture = env::temp_dir().join(format!("vswitch-oracle-{seed}.pcapng"));
    let report = Run {
        kernel: &mut kernel,
        ours: &mut *other,
        rows,
        partings,
        seed,
        packets: number("PACKETS").map_or(packets, |packets| packets as usize),
        capture: capture.clone(),
    }
    .report()
    .expect("the namespaces work");
    println!(
        "seed {seed}: {} packets, {} of them forwarded, {} connections compared in {:?}",
        report.packets,
        report.forwarded,
        report.entries,
        begun.elapsed()
    );
    let rows = rows
        .iter()
        .copied()
        .flatten()
        .map(|row| (row.name, row.reason))
        .zip(&report.accepted);
    let partings = partings
        .iter()
        .map(|row| (row.name, row.reason))
        .zip(&report.parted);
    for ((name, reason), count) in rows.chain(partings) {
        let stale = if *count == 0 { " (stale?)" } else { "" };
        println!("  accepted {count:5} {name}: {reason}{stale}");
    }
    let mut text = String::new();
    for (kind, finding) in &report.unexplained {
        let _ = writeln!(text, "{} × {kind}\n{}", finding.count, finding.account);
    }
    assert!(
        report.unexplained.is_empty(),
        "{text}\n{} kinds of differences; VSWITCH_ORACLE_SEED={seed} repeats them, {} shows them",
        report.unexplained.len(),
        capture.display()
    );
    // Most packets should show something.
    assert!(
        report.forwarded * 3 > report.packets,
        "too few packets are forwarded"
    );
}

/// What is sent unless the environment says otherwise: a change that is tested should be tested with the same packets
/// before and after it. Other seeds find more.
const SEED: u64 = 5;

/// A namespace with nftables, or a visible reason why the test is skipped.
fn kernel(name: &str) -> Option<Kernel> {
    if let Err(error) = Kernel::probe() {
        skip(format_args!("nftables in a namespace: {error}"));
        return None;
    }
    Some(Kernel::new(name).expect("what the probe found possible"))
}

/// Frames of veth devices are taken in their order by each CPU, but not across CPUs.
fn stay_on_one_cpu() {
    let myself = Pid::from_raw(0);
    let allowed = sched_getaffinity(myself).expect("own CPUs");
    let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.expect("a CPU to run on")).expect("a CPU");
    sched_setaffinity(myself, &one).expect("own CPUs");
}

fn number(name: &str) -> Option<u64> {
    env::var(format!("VSWITCH_ORACLE_{name}")).ok()?.parse().ok()
}
