use std::collections::BTreeMap;

use proptest::{collection, prelude::*};

use super::*;
use crate::model::Origin;

fn subnet(prefix: &str, range: Option<&str>, gateway: Option<&str>) -> Subnet {
    Subnet {
        prefix: prefix.parse().expect("a prefix"),
        range: range.map(|range| range.parse().expect("a range")),
        gateway: gateway.map(ip),
        auxiliary: BTreeMap::new(),
        origin: Origin::Requested,
        gateway_origin: Origin::Requested,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn take_all(pool: &mut AddressPool) -> Vec<String> {
    std::iter::from_fn(|| pool.take_lowest().ok())
        .take(20)
        .map(|address| address.to_string())
        .collect()
}

#[test]
fn small_prefixes_reserve_what_their_rfc_says() {
    for (prefix, hosts) in [
        (
            "10.0.0.0/29",
            &[
                "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6",
            ][..],
        ),
        ("10.0.0.0/30", &["10.0.0.1", "10.0.0.2"]),
        ("10.0.0.2/31", &["10.0.0.2", "10.0.0.3"]),
        ("10.0.0.7/32", &["10.0.0.7"]),
        ("255.255.255.252/30", &["255.255.255.253", "255.255.255.254"]),
        ("fd00::/126", &["fd00::1", "fd00::2", "fd00::3"]),
        ("fd00::/127", &["fd00::", "fd00::1"]),
        (
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
            &["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
        ),
    ] {
        let mut pool = AddressPool::new(&subnet(prefix, None, None));
        assert_eq!(take_all(&mut pool), hosts, "{prefix}");
        assert_eq!(pool.take_lowest(), Err(AddressError::Exhausted), "{prefix}");
    }
}

#[test]
fn the_lowest_free_address_is_given_and_a_freed_one_at_once_again() {
    let mut pool = AddressPool::new(&subnet("10.0.0.0/24", None, Some("10.0.0.1")));
    assert_eq!(pool.take_lowest(), Ok(ip("10.0.0.2")));
    assert_eq!(pool.take_lowest(), Ok(ip("10.0.0.3")));
    pool.release(ip("10.0.0.2"));
    assert_eq!(pool.take_lowest(), Ok(ip("10.0.0.2")));
    assert_eq!(pool.take_lowest(), Ok(ip("10.0.0.4")));
}

#[test]
fn static_addresses_may_lie_outside_the_range_only() {
    let mut pool = AddressPool::new(&subnet("10.0.0.0/24", Some("10.0.0.128/25"), Some("10.0.0.128")));
    pool.claim(ip("10.0.0.9")).expect("inside the subnet");
    assert_eq!(pool.claim(ip("10.0.1.9")), Err(AddressError::Outside));
    assert_eq!(pool.claim(ip("fd00::9")), Err(AddressError::Outside));
    for taken in ["10.0.0.9", "10.0.0.128", "10.0.0.0", "10.0.0.255"] {
        assert_eq!(pool.claim(ip(taken)), Err(AddressError::Taken), "{taken}");
    }
    assert_eq!(pool.take_lowest(), Ok(ip("10.0.0.129")));
    pool.release(ip("10.0.0.9"));
    assert_eq!(
        pool.take_lowest(),
        Ok(ip("10.0.0.130")),
        "a static address is not of the range"
    );
}

#[test]
fn reserved_addresses_cannot_be_given_back() {
    let mut pool = AddressPool::new(&subnet("10.0.0.0/29", None, Some("10.0.0.1")));
    for address in ["10.0.0.0", "10.0.0.1", "10.0.0.7"] {
        pool.release(ip(address));
        assert_eq!(pool.claim(ip(address)), Err(AddressError::Taken), "{address}");
    }
}

#[test]
fn a_huge_prefix_costs_nothing() {
    let mut pool = AddressPool::new(&subnet("fd00::/8", None, Some("fd00::1")));
    pool.claim(ip("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
        .expect("IPv6 has no broadcast address");
    assert_eq!(pool.take_lowest(), Ok(ip("fd00::2")));
    let mut everything = AddressPool::new(&subnet("::/0", None, None));
    assert_eq!(everything.take_lowest(), Ok(ip("::1")));
}

#[test]
fn the_gateway_is_the_lowest_free_address_of_the_range() {
    let gateway = |prefix: &str, range: Option<&str>, auxiliary: &[&str]| {
        let range = range.map(|range| range.parse().expect("a range"));
        let auxiliary = auxiliary.iter().copied().map(ip);
        default_gateway(prefix.parse().expect("a prefix"), range, auxiliary).map(|ip| ip.to_string())
    };
    assert_eq!(gateway("10.0.0.0/24", None, &[]).as_deref(), Some("10.0.0.1"));
    assert_eq!(
        gateway("10.0.0.0/24", None, &["10.0.0.1"]).as_deref(),
        Some("10.0.0.2")
    );
    assert_eq!(
        gateway("10.90.0.0/24", Some("10.90.0.128/25"), &[]).as_deref(),
        Some("10.90.0.128")
    );
    assert_eq!(gateway("fd00::/64", None, &[]).as_deref(), Some("fd00::1"));
    assert_eq!(gateway("10.0.0.9/32", None, &["10.0.0.9"]), None);
}

#[derive(Debug, Clone)]
enum Step {
    Claim(u8),
    Release(u8),
    TakeLowest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<u8>().prop_map(Step::Claim),
        any::<u8>().prop_map(Step::Release),
        Just(Step::TakeLowest),
        Just(Step::TakeLowest),
    ];
    collection::vec(step, 0..400)
}

proptest! {
    /// Against a model that tries every address: the same one is given, nobody shares, release gives back.
    #[test]
    fn no_two_owners_whatever_the_order(steps in steps(), first in 24u8..=32, range in any::<bool>()) {
        let prefix = format!("10.0.0.0/{first}");
        let range = (range && first < 28).then_some("10.0.0.8/29");
        let subnet = subnet(&prefix, range, None);
        let mut pool = AddressPool::new(&subnet);
        let wide = subnet.range.unwrap_or(subnet.prefix);
        let mut owned = BTreeSet::new();
        let host = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        for step in steps {
            match step {
                Step::Claim(last) => {
                    let free = subnet.prefix.contains(&host(last))
                        && !is_special(subnet.prefix, host(last))
                        && !owned.contains(&host(last));
                    prop_assert_eq!(pool.claim(host(last)).is_ok(), free);
                    if free {
                        owned.insert(host(last));
                    }
                }
                Step::Release(last) => {
                    pool.release(host(last));
                    owned.remove(&host(last));
                }
                Step::TakeLowest => {
                    let free = |ip: &IpAddr| wide.contains(ip) && !is_special(subnet.prefix, *ip) && !owned.contains(ip);
                    let expected = (0..=255).map(host).find(free).ok_or(AddressError::Exhausted);
                    let given = pool.take_lowest();
                    prop_assert_eq!(given, expected);
                    owned.extend(given);
                }
            }
        }
    }
}
