//! Ports that nobody chose.

use std::{fs, ops::RangeInclusive};

/// The host's ephemeral ports.
#[derive(Debug)]
pub(super) struct Ephemeral {
    range: RangeInclusive<u16>,
    /// Those that the administrator keeps.
    reserved: Vec<RangeInclusive<u16>>,
}

impl Ephemeral {
    /// As the kernel has them now (`net.ipv4.ip_local_port_range`, `net.ipv4.ip_local_reserved_ports`).
    pub(super) fn read() -> Self {
        let range = read("ip_local_port_range").and_then(|text| range(&text));
        Self {
            range: range.unwrap_or(DEFAULT),
            reserved: read("ip_local_reserved_ports").map_or_else(Vec::new, |text| reserved(&text)),
        }
    }

    /// All of them once, beginning behind `last`.
    pub(super) fn ports_after(&self, last: Option<u16>) -> impl Iterator<Item = u16> {
        let is_free = |port: &u16| !self.reserved.iter().any(|range| range.contains(port));
        behind(last, self.range.clone()).filter(is_free)
    }
}

/// IANA's dynamic ports as Docker has them, where the kernel does not say (moby: portallocator).
const DEFAULT: RangeInclusive<u16> = 49_153..=65_535;

fn read(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()
}

/// The whole range, once.
fn behind(last: Option<u16>, range: RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let (low, high) = (*range.start(), *range.end());
    let begin = last
        .and_then(|last| last.checked_add(1))
        .filter(|begin| range.contains(begin))
        .unwrap_or(low);
    (begin..=high).chain(low..begin)
}

/// Both ends with white space between them.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (0 < low && low <= high).then_some(low..=high)
}

/// `8080,9148-9150`; what does not parse is left out.
fn reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let ranges = text.trim().split(',').filter_map(|item| {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        Some(low.parse().ok()?..=high.parse().ok()?)
    });
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p3_ports_follow_the_last_one_and_begin_anew() {
        let after = |last| behind(last, 5..=8).collect::<Vec<_>>();
        assert_eq!(after(None), [5, 6, 7, 8]);
        assert_eq!(after(Some(6)), [7, 8, 5, 6]);
        assert_eq!(after(Some(8)), [5, 6, 7, 8]);
        assert_eq!(after(Some(4000)), [5, 6, 7, 8], "the range has changed since");
        assert_eq!(behind(Some(65_535), 65_534..=65_535).count(), 2);
    }

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(range("32768\t60999\n"), Some(32_768..=60_999));
        for text in ["", "1", "9 8", "0 8", "x y"] {
            assert_eq!(range(text), None, "{text}");
        }
        assert_eq!(reserved("\n"), []);
        assert_eq!(reserved("8080,9148-9150\n"), [8080..=8080, 9148..=9150]);
    }
}
