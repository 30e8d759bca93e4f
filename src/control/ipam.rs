//! Which address of a subnet belongs to whom.
//!
//! Theory of operation. A pool knows the subnet's bounds and two sets: addresses that nobody gets
//! (network, broadcast, subnet-router anycast, gateway, auxiliary) and addresses that endpoints hold.
//! Nothing else is stored, so a /64 costs what its holders cost. New addresses are the lowest free ones
//! of the range, as Docker's (first fit, freed addresses are used again at once); `floor` remembers
//! below which address everything is taken, so that filling a pool does not start over each time.
//! The pool is rebuilt from the endpoints when the daemon starts: the endpoints are the leases.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::model::Subnet;

/// The addresses of one subnet.
#[derive(Debug, Clone)]
pub(super) struct AddressPool {
    prefix: IpNet,
    /// First and last address that is given by itself.
    range: (u128, u128),
    reserved: BTreeSet<u128>,
    held: BTreeSet<u128>,
    /// Every address of the range below this one is reserved or held.
    floor: u128,
}

impl AddressPool {
    /// A pool of this subnet in which only the special addresses are taken; a gateway and auxiliary
    /// addresses are among them.
    pub(super) fn new(subnet: &Subnet) -> Self {
        let mut pool = Self::bare(subnet.prefix, subnet.range);
        pool.reserved.extend(subnet.gateway.map(number));
        pool.reserved
            .extend(subnet.auxiliary.values().copied().map(number));
        pool
    }

    /// A pool in which only the addresses are reserved that no host of the prefix may have.
    fn bare(prefix: IpNet, range: Option<IpNet>) -> Self {
        let bounds = |prefix: IpNet| (number(prefix.network()), number(prefix.broadcast()));
        let (first, last) = bounds(prefix);
        let mut reserved = BTreeSet::new();
        match prefix {
            // RFC 3021: a /31 has two hosts and no network or broadcast address; a /32 is one host.
            IpNet::V4(prefix) if prefix.prefix_len() < 31 => reserved.extend([first, last]),
            // RFC 4291 section 2.6.1: the lowest address is the subnet-router anycast address, except
            // between two routers (RFC 6164) and on a /128.
            IpNet::V6(prefix) if prefix.prefix_len() < 127 => reserved.extend([first]),
            IpNet::V4(_) | IpNet::V6(_) => {}
        }
        let range = range.map_or((first, last), bounds);
        Self {
            prefix,
            range,
            reserved,
            held: BTreeSet::new(),
            floor: range.0,
        }
    }

    /// Takes this address, which may lie outside the range but not outside the subnet.
    ///
    /// # Errors
    ///
    /// See [`AddressError`].
    pub(super) fn claim(&mut self, address: IpAddr) -> Result<(), AddressError> {
        if !self.prefix.contains(&address) {
            return Err(AddressError::Outside);
        }
        let address = number(address);
        if self.reserved.contains(&address) || !self.held.insert(address) {
            return Err(AddressError::Taken);
        }
        Ok(())
    }

    /// Takes the lowest free address of the range.
    ///
    /// # Errors
    ///
    /// [`AddressError::Exhausted`].
    pub(super) fn take_lowest(&mut self) -> Result<IpAddr, AddressError> {
        let address = self.lowest().ok_or(AddressError::Exhausted)?;
        self.held.insert(address);
        self.floor = address.saturating_add(1);
        Ok(address_of(address, self.prefix))
    }

    /// Gives an address back; reserved and free ones stay what they are.
    pub(super) fn release(&mut self, address: IpAddr) {
        let address = number(address);
        if self.held.remove(&address) && address >= self.range.0 {
            self.floor = self.floor.min(address);
        }
    }

    /// Whether nobody may take this address of the subnet.
    pub(super) fn is_taken(&self, address: IpAddr) -> bool {
        let address = number(address);
        self.reserved.contains(&address) || self.held.contains(&address)
    }

    fn lowest(&self) -> Option<u128> {
        let mut candidate = self.floor;
        while candidate <= self.range.1 {
            if !self.reserved.contains(&candidate) && !self.held.contains(&candidate) {
                return Some(candidate);
            }
            candidate = candidate.checked_add(1)?;
        }
        None
    }
}

/// The gateway's address when the user gives none: the lowest free one, inside the range where there is
/// one (as Docker chooses it). `None` when nothing is free.
pub(super) fn default_gateway(
    prefix: IpNet,
    range: Option<IpNet>,
    auxiliary: impl IntoIterator<Item = IpAddr>,
) -> Option<IpAddr> {
    let mut pool = AddressPool::bare(prefix, range);
    pool.reserved.extend(auxiliary.into_iter().map(number));
    pool.take_lowest().ok()
}

/// Whether an address is one that no host of the prefix may have (network, broadcast, anycast).
pub(super) fn is_special(prefix: IpNet, address: IpAddr) -> bool {
    AddressPool::bare(prefix, None).is_taken(address)
}

/// Why an address cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    /// Nothing is free.
    #[error("no address is free")]
    Exhausted,
    /// It is not of this subnet.
    #[error("the address is outside the subnet")]
    Outside,
    /// Somebody has it, or nobody may.
    #[error("Address already in use")]
    Taken,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The inverse of [`number`] for an address of `prefix`.
fn address_of(number: u128, prefix: IpNet) -> IpAddr {
    match prefix {
        // Numbers of an IPv4 pool never leave 32 bits: they lie between the prefix's bounds.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(number as u32)),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests;
