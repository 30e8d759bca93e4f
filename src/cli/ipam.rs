//! Groups the address flags of `network create` by subnet.
//!
//! Docker's client sorts gateways, ranges and reserved addresses under the subnet that contains them
//! before it asks the daemon, and refuses what fits nowhere without a request. The texts are Docker's.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

/// One subnet with what was given for it; the texts go to the daemon as they were typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetFlags {
    /// `--subnet`.
    pub subnet: String,
    /// `--ip-range` inside the subnet.
    pub ip_range: Option<String>,
    /// `--gateway` inside the subnet.
    pub gateway: Option<String>,
    /// `--aux-address` entries inside the subnet, by name.
    pub aux_addresses: BTreeMap<String, String>,
}

/// Sorts the flags under their subnets, in the order in which the subnets were typed.
///
/// # Errors
///
/// A flag that is no address, fits no subnet, or says twice what a subnet has once.
pub fn group(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    aux_addresses: &[(String, String)],
) -> Result<Vec<SubnetFlags>, GroupError> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(GroupError::Uncovered);
    }
    let mut grouped: Vec<(IpNet, SubnetFlags)> = Vec::with_capacity(subnets.len());
    for text in subnets {
        let subnet = block(text)?;
        if grouped.iter().any(|(other, _)| overlaps(&subnet, other)) {
            return Err(GroupError::Overlap);
        }
        grouped.push((subnet, SubnetFlags::new(text)));
    }
    for range in ranges {
        let address = block(range)?.addr();
        let flags =
            subnet_with(&mut grouped, address).ok_or_else(|| GroupError::RangeOutside(range.clone()))?;
        if let Some(first) = flags.ip_range.replace(range.clone()) {
            let subnet = flags.subnet.clone();
            return Err(GroupError::Ranges {
                second: range.clone(),
                first,
                subnet,
            });
        }
    }
    for gateway in gateways {
        let flags = subnet_with(&mut grouped, address(gateway)?)
            .ok_or_else(|| GroupError::GatewayOutside(gateway.clone()))?;
        if let Some(first) = flags.gateway.replace(gateway.clone()) {
            let subnet = flags.subnet.clone();
            return Err(GroupError::Gateways {
                second: gateway.clone(),
                first,
                subnet,
            });
        }
    }
    for (name, aux) in aux_addresses {
        let flags =
            subnet_with(&mut grouped, address(aux)?).ok_or_else(|| GroupError::AuxOutside(aux.clone()))?;
        flags.aux_addresses.insert(name.clone(), aux.clone());
    }
    Ok(grouped.into_iter().map(|(_, flags)| flags).collect())
}

/// Why the address flags do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// A reserved address lies in none of the subnets.
    #[error("no matching subnet for aux-address {0}")]
    AuxOutside(String),
    /// A gateway lies in none of the subnets.
    #[error("no matching subnet for gateway {0}")]
    GatewayOutside(String),
    /// Two gateways for one subnet.
    #[error("cannot configure multiple gateways ({second}, {first}) for the same subnet ({subnet})")]
    Gateways {
        /// The one that came later.
        second: String,
        /// The one that came first.
        first: String,
        /// The subnet that contains both.
        subnet: String,
    },
    /// Not an address.
    #[error("invalid address {0}: write it as 192.168.0.1 or fd00::1")]
    InvalidAddress(String),
    /// Not an address block.
    #[error("invalid subnet {0}: invalid CIDR block notation")]
    InvalidBlock(String),
    /// Two subnets share addresses.
    #[error("multiple overlapping subnet configuration is not supported")]
    Overlap,
    /// A range lies in none of the subnets.
    #[error("no matching subnet for range {0}")]
    RangeOutside(String),
    /// Two ranges for one subnet.
    #[error("cannot configure multiple ranges ({second}, {first}) on the same subnet ({subnet})")]
    Ranges {
        /// The one that came later.
        second: String,
        /// The one that came first.
        first: String,
        /// The subnet that contains both.
        subnet: String,
    },
    /// More ranges or gateways than subnets.
    #[error("every ip-range or gateway must have a corresponding subnet")]
    Uncovered,
}

impl SubnetFlags {
    fn new(subnet: &str) -> Self {
        Self {
            subnet: subnet.to_owned(),
            ip_range: None,
            gateway: None,
            aux_addresses: BTreeMap::new(),
        }
    }
}

fn subnet_with(grouped: &mut [(IpNet, SubnetFlags)], address: IpAddr) -> Option<&mut SubnetFlags> {
    grouped
        .iter_mut()
        .find(|(subnet, _)| subnet.contains(&address))
        .map(|(_, flags)| flags)
}

fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn block(text: &str) -> Result<IpNet, GroupError> {
    text.parse()
        .map_err(|_| GroupError::InvalidBlock(text.to_owned()))
}

fn address(text: &str) -> Result<IpAddr, GroupError> {
    text.parse()
        .map_err(|_| GroupError::InvalidAddress(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(
        subnets: &[&str],
        ranges: &[&str],
        gateways: &[&str],
        aux_addresses: &[(&str, &str)],
    ) -> String {
        grouped(subnets, ranges, gateways, aux_addresses)
            .expect_err("these flags do not fit")
            .to_string()
    }

    fn grouped(
        subnets: &[&str],
        ranges: &[&str],
        gateways: &[&str],
        aux_addresses: &[(&str, &str)],
    ) -> Result<Vec<SubnetFlags>, GroupError> {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let aux: Vec<_> = aux_addresses
            .iter()
            .map(|&(n, a)| (n.to_owned(), a.to_owned()))
            .collect();
        group(&owned(subnets), &owned(ranges), &owned(gateways), &aux)
    }

    #[test]
    fn each_flag_goes_under_the_subnet_that_contains_it() {
        let flags = grouped(
            &["10.7.0.0/16", "fd12:7::/64"],
            &["fd12:7::8000/113", "10.7.4.0/24"],
            &["fd12:7::1", "10.7.4.254"],
            &[("dns", "10.7.0.5"), ("dns6", "fd12:7::5"), ("ntp", "10.7.0.6")],
        )
        .expect("the flags fit");
        let pairs = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|&(n, a)| (n.to_owned(), a.to_owned()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            flags,
            [
                SubnetFlags {
                    subnet: "10.7.0.0/16".into(),
                    ip_range: Some("10.7.4.0/24".into()),
                    gateway: Some("10.7.4.254".into()),
                    aux_addresses: pairs(&[("dns", "10.7.0.5"), ("ntp", "10.7.0.6")]),
                },
                SubnetFlags {
                    subnet: "fd12:7::/64".into(),
                    ip_range: Some("fd12:7::8000/113".into()),
                    gateway: Some("fd12:7::1".into()),
                    aux_addresses: pairs(&[("dns6", "fd12:7::5")]),
                },
            ]
        );
    }

    #[test]
    fn no_flags_leave_the_choice_to_the_daemon() {
        assert_eq!(grouped(&[], &[], &[], &[]), Ok(Vec::new()));
    }

    #[test]
    fn what_fits_no_subnet_is_refused_in_dockers_words() {
        let lan = &["10.0.0.0/24"][..];
        for (subnets, ranges, gateways, aux, text) in [
            (
                lan,
                &[][..],
                &["10.0.1.1"][..],
                &[][..],
                "no matching subnet for gateway 10.0.1.1",
            ),
            (
                lan,
                &["10.0.1.0/28"],
                &[],
                &[],
                "no matching subnet for range 10.0.1.0/28",
            ),
            (
                lan,
                &[],
                &[],
                &[("a", "10.0.1.9")],
                "no matching subnet for aux-address 10.0.1.9",
            ),
            (
                &[],
                &[],
                &["10.0.0.1"],
                &[],
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                &[],
                &["10.0.0.0/28"],
                &[],
                &[],
                "every ip-range or gateway must have a corresponding subnet",
            ),
            (
                &[],
                &[],
                &[],
                &[("a", "10.0.0.9")],
                "no matching subnet for aux-address 10.0.0.9",
            ),
            (
                &["10.0.0.0/24", "10.0.0.128/25"],
                &[],
                &[],
                &[],
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                &["10.0.0.0/24", "10.1.0.0/24"],
                &["10.0.0.0/28", "10.0.0.16/28"],
                &[],
                &[],
                "cannot configure multiple ranges (10.0.0.16/28, 10.0.0.0/28) on the same subnet (10.0.0.0/24)",
            ),
            (
                &["10.0.0.0/24", "10.1.0.0/24"],
                &[],
                &["10.0.0.1", "10.0.0.2"],
                &[],
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            (
                &["10.0.0.0"],
                &[],
                &[],
                &[],
                "invalid subnet 10.0.0.0: invalid CIDR block notation",
            ),
            (
                lan,
                &[],
                &["gate"],
                &[],
                "invalid address gate: write it as 192.168.0.1 or fd00::1",
            ),
        ] {
            assert_eq!(refused(subnets, ranges, gateways, aux), text);
        }
    }

    #[test]
    fn host_bits_are_left_for_the_daemon_to_judge() {
        let flags = grouped(&["10.9.0.5/24"], &[], &["10.9.0.1"], &[]).expect("the gateway is inside");
        assert_eq!(flags[0].subnet, "10.9.0.5/24");
        assert_eq!(flags[0].gateway.as_deref(), Some("10.9.0.1"));
    }
}
