//! How many descriptors the daemon may have, and what for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the daemon's own limit to what the host allows, and gives the limit that holds then: thousands of
/// endpoints and flows need more than the usual 1024.
///
/// Attach processes inherit it. They are our own program and do not use select(2), which fails above
/// descriptor 1023; `vswitch run` starts the commands of users, from a process that never raised it.
pub(super) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Root may go beyond what it was started with.
    let enough = limit.maximum.map(|maximum| maximum.max(ENOUGH));
    let wishes = [enough, limit.maximum].map(|maximum| Rlimit {
        current: maximum,
        maximum,
    });
    let raised = wishes
        .iter()
        .find(|&&wish| setrlimit(Resource::Nofile, wish).is_ok());
    if raised.is_none() {
        tracing::warn!("cannot raise the limit of open files");
    }
    let current = raised.map_or(limit.current, |raised| raised.current);
    let current = current.map_or(UNLIMITED, |limit| usize::try_from(limit).unwrap_or(UNLIMITED));
    tracing::debug!(limit = current, "open files");
    current
}

/// What host sockets of containers' flows may take of `limit` descriptors (R-LIM-2: "reserve 20 %"). The rest
/// is for endpoints, clients of the API and the moment's needs, so that those work when flows are many.
pub(super) fn for_host_sockets(limit: usize) -> usize {
    let whole = limit.saturating_sub(LEAST_RESERVE).min(ONE_CONTAINER);
    let budget = (limit / 5 * 4).saturating_sub(OWN).max(whole).max(LEAST);
    tracing::debug!(budget, "descriptors for host sockets");
    budget
}

/// As many flows as a network may have (DESIGN §9), four times.
const ENOUGH: u64 = 4 * 65_536;
/// The kernel's own limit where the process has none (`fs.nr_open`, proc_sys_fs(5)).
const UNLIMITED: usize = 1 << 20;
/// What one container's 16 384 flows (DESIGN §9) need, since it gets eight ninths at most: where a fifth would
/// leave less than that, less is reserved.
const ONE_CONTAINER: usize = 16_384 / 8 * 9 + 18;
/// What is reserved even then.
const LEAST_RESERVE: usize = 1280;
/// Endpoints, workers, state and clients of a daemon of moderate size.
const OWN: usize = 256;
/// Without it there would be no way out at all; the kernel's refusal tells the container then.
const LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_lim_2_a_fifth_and_the_daemons_own_are_reserved() {
        for (limit, budget) in [
            (0, 64),
            (256, 64),
            (400, 64),
            (1024, 560),
            (4096, 3020),
            (20_000, 18_450),
            (30_000, 23_744),
            (524_288, 419_172),
            (UNLIMITED, 838_604),
            (usize::MAX, usize::MAX / 5 * 4 - 256),
        ] {
            assert_eq!(for_host_sockets(limit), budget, "{limit}");
        }
    }
}
