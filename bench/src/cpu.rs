//! Processor time, of the machine and of one process.

use std::{collections::HashMap, fs, iter};

use anyhow::{Context, Result};

/// Seconds that all cores together were busy since boot (proc_stat(5): everything but idle, iowait and
/// steal; guest time is in user time already).
pub(crate) fn machine_busy() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let busy: u64 = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|&index| fields.get(index))
        .sum();
    Ok(busy as f64 / ticks_per_second())
}

/// Seconds of user and system time of one process (proc_pid_stat(5), fields 14 and 15).
pub(crate) fn process(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, field 2, may hold spaces; it ends with the last parenthesis.
    let (_, rest) = text.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(ticks as f64 / ticks_per_second())
}

/// Resident memory of one process in KiB (`VmRSS`).
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmRSS:")
}

fn field_kib(path: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("no {field} in {path}"))
}

/// Memory of one process in KiB, of which shared pages count as the share of it (`Pss`, proc_pid_smaps(5)).
pub(crate) fn proportional_kib(pid: u32) -> Result<u64> {
    field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// Children of a process, their children, and so on.
pub(crate) fn descendants(pid: u32) -> Result<usize> {
    let mut parents = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended since.
        let Ok(text) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        let parent = text
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse::<u32>().ok()) {
            parents.insert(process, parent);
        }
    }
    let descends = |&&process: &&u32| {
        iter::successors(parents.get(&process), |parent| parents.get(parent)).any(|&parent| parent == pid)
    };
    Ok(parents.keys().filter(descends).count())
}

/// Load averages as /proc/loadavg prints them.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}
