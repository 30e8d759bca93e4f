//! Prefixes for networks that were created without a subnet.

use std::{fmt, net::IpAddr, net::Ipv6Addr, str::FromStr};

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A prefix that subnets of equal size are cut from, written `10.8.0.0/14,24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetPool {
    base: IpNet,
    size: u8,
}

impl SubnetPool {
    /// A pool that cuts subnets with prefix length `size` from `base`.
    ///
    /// # Errors
    ///
    /// `size` is shorter than the base's prefix or leaves no room for a gateway and a container.
    pub fn new(base: IpNet, size: u8) -> Result<Self, InvalidPool> {
        let longest = base.max_prefix_len() - 2;
        if size < base.prefix_len() || size > longest {
            return Err(InvalidPool {
                text: format!("{base},{size}"),
            });
        }
        Ok(Self {
            base: base.trunc(),
            size,
        })
    }

    /// What subnets are cut from.
    pub fn base(&self) -> IpNet {
        self.base
    }

    /// Prefix length of the subnets.
    pub fn size(&self) -> u8 {
        self.size
    }

    /// Docker's pools for IPv4, in its order.
    pub fn defaults() -> Vec<Self> {
        let cut = |base: &str, size| Self {
            base: base.parse().expect("the constants below are prefixes"),
            size,
        };
        DEFAULTS.iter().map(|&(base, size)| cut(base, size)).collect()
    }

    /// The pool for IPv6 that belongs to this host: a unique local /48 (RFC 4193) whose global id is made
    /// of the lower 40 bits of the first 8 bytes of SHA-256(`host_id`), cut into /64, as Docker ≥ 27.
    pub fn unique_local(host_id: &str) -> Self {
        let digest = Sha256::digest(host_id.as_bytes());
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&digest[3..8]);
        let base = Ipv6Net::new(Ipv6Addr::from(octets), 48).expect("48 is a prefix length");
        Self {
            base: IpNet::V6(base),
            size: 64,
        }
    }

    /// The first subnet that overlaps none of `taken`.
    fn first_free(&self, taken: &[IpNet]) -> Option<IpNet> {
        let step = 1u128.checked_shl(u32::from(self.base.max_prefix_len() - self.size))?;
        let (mut at, last) = (bits(self.base.network()), bits(self.base.broadcast()));
        while at <= last {
            let subnet = IpNet::new(self.address(at), self.size).ok()?;
            let Some(obstacle) = taken.iter().find(|taken| overlap(**taken, subnet)) else {
                return Some(subnet);
            };
            // Behind the obstacle, on the next boundary: a wide route costs one step, not thousands.
            let end = bits(obstacle.broadcast()).max(at);
            at = (end / step).checked_add(1)?.checked_mul(step)?;
        }
        None
    }

    fn address(&self, bits: u128) -> IpAddr {
        match self.base {
            // Bounded by the base's last address, so 32 bits suffice.
            IpNet::V4(_) => IpAddr::V4((bits as u32).into()),
            IpNet::V6(_) => IpAddr::V6(bits.into()),
        }
    }
}

impl fmt::Display for SubnetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.base, self.size)
    }
}

impl FromStr for SubnetPool {
    type Err = InvalidPool;

    fn from_str(text: &str) -> Result<Self, InvalidPool> {
        let invalid = || InvalidPool {
            text: text.to_owned(),
        };
        let (base, size) = text.split_once(',').ok_or_else(invalid)?;
        Self::new(
            base.parse().map_err(|_| invalid())?,
            size.parse().map_err(|_| invalid())?,
        )
    }
}

/// The text is no pool.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address pool: write BASE/LENGTH,SIZE with LENGTH <= SIZE <= 30 (IPv6: 126)")]
pub struct InvalidPool {
    text: String,
}

/// The first subnet of the pools, in their order, that overlaps none of `taken`.
pub(super) fn first_free<'a>(
    pools: impl IntoIterator<Item = &'a SubnetPool>,
    taken: &[IpNet],
) -> Option<IpNet> {
    pools.into_iter().find_map(|pool| pool.first_free(taken))
}

/// Whether two prefixes share an address.
pub(super) fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// moby: daemon/libnetwork/ipamutils, `localScopeDefaultNetworks`.
const DEFAULTS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    fn all(pools: &[SubnetPool]) -> Vec<IpNet> {
        let mut taken = Vec::new();
        while let Some(subnet) = first_free(pools, &taken) {
            taken.push(subnet);
        }
        taken
    }

    #[test]
    fn subnets_come_in_dockers_order() {
        let subnets = all(&SubnetPool::defaults());
        assert_eq!(subnets.len(), 15 + 16);
        for (index, subnet) in subnets.iter().enumerate() {
            let expected = match index {
                0..15 => format!("172.{}.0.0/16", 17 + index),
                _ => format!("192.168.{}.0/20", (index - 15) * 16),
            };
            assert_eq!(*subnet, net(&expected));
        }
    }

    #[test]
    fn what_overlaps_is_passed_over() {
        let pools = SubnetPool::defaults();
        let free = |taken: &[&str]| first_free(&pools, &taken.iter().map(|t| net(t)).collect::<Vec<_>>());
        assert_eq!(free(&["172.17.3.4/32"]), Some(net("172.18.0.0/16")));
        assert_eq!(free(&["172.16.0.0/12"]), Some(net("192.168.0.0/20")));
        assert_eq!(
            free(&["172.16.0.0/12", "192.168.1.0/24"]),
            Some(net("192.168.16.0/20"))
        );
        assert_eq!(free(&["fd00::/8", "172.17.0.0/16"]), Some(net("172.18.0.0/16")));
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), None);
    }

    #[test]
    fn a_wide_route_over_a_fine_pool_is_one_step() {
        let pool: SubnetPool = "fd00::/8,126".parse().expect("a pool");
        let free = first_free([&pool], &[net("fd00::/16")]);
        assert_eq!(free, Some(net("fd01::/126")));
        let end: SubnetPool = "ffff::/16,64".parse().expect("a pool");
        assert_eq!(
            first_free([&end], &[net("ffff::/16")]),
            None,
            "no overflow at the end of the space"
        );
    }

    #[test]
    fn the_unique_local_prefix_depends_on_the_host() {
        let pool = SubnetPool::unique_local("host-1");
        let IpNet::V6(base) = pool.base() else {
            panic!("an IPv6 pool")
        };
        // printf host-1 | sha256sum: 4a1796ac493525ff…
        assert_eq!(base.to_string(), "fdac:4935:25ff::/48");
        assert_eq!((base.prefix_len(), pool.size()), (48, 64));
        assert_ne!(pool, SubnetPool::unique_local("host-2"));
    }

    #[test]
    fn senseless_pools_are_refused() {
        for text in [
            "",
            "10.0.0.0/8",
            "10.0.0.0/8,7",
            "10.0.0.0/8,31",
            "fd00::/8,127",
            "x,24",
            "10.0.0.0/8,x",
        ] {
            text.parse::<SubnetPool>().expect_err(text);
        }
        assert_eq!(
            "10.8.0.0/14,24"
                .parse::<SubnetPool>()
                .map(|pool| pool.to_string()),
            Ok("10.8.0.0/14,24".into())
        );
    }
}
