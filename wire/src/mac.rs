//! Ethernet addresses.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// An Ethernet (EUI-48) address in wire order.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, which no station may use.
    pub const ZERO: Self = Self([0; 6]);

    /// The address that Docker's bridge driver (≤ 27) gives a container: `02:42` and the IPv4 address.
    pub const fn from_ipv4(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0x42, a, b, c, d])
    }

    /// The IPv6 link-local address that follows from this one: modified EUI-64 (RFC 4291, appendix A).
    pub const fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        Ipv6Addr::from_octets([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// Whether the group bit is set; true for broadcast.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether all bits are set.
    pub const fn is_broadcast(self) -> bool {
        matches!(self.0, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
    }

    /// Whether no bit is set.
    pub const fn is_zero(self) -> bool {
        matches!(self.0, [0, 0, 0, 0, 0, 0])
    }

    /// Whether the address was chosen locally rather than by a manufacturer.
    pub const fn is_locally_administered(self) -> bool {
        self.0[0] & 2 != 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six hexadecimal octets joined by colons or hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a MAC address has six two-digit hexadecimal octets joined by colons, such as 02:42:ac:11:00:02")]
pub struct InvalidMac;

impl FromStr for MacAddr {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().ok_or(InvalidMac)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(InvalidMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| InvalidMac)?;
        }
        if parts.next().is_some() {
            return Err(InvalidMac);
        }
        Ok(Self(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_follows_from_the_mac() {
        // RFC 4291, appendix A: the universal/local bit is inverted.
        let mac = MacAddr([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn text_goes_both_ways() {
        let mac = MacAddr([0x02, 0x42, 0xac, 0x11, 0x00, 0xff]);
        assert_eq!(mac.to_string(), "02:42:ac:11:00:ff");
        for text in ["02:42:ac:11:00:ff", "02:42:AC:11:00:FF", "02-42-ac-11-00-ff"] {
            assert_eq!(text.parse(), Ok(mac), "{text}");
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "02:42:ac:11:00",
            "02:42:ac:11:00:ff:01",
            "2:42:ac:11:00:ff",
            "+2:42:ac:11:00:ff",
            "02:42:ac:11:00:fg",
            "02:42:ac:11:00:ff ",
            "0242ac1100ff",
            "02:42:ac:11::ff",
            "é2:42:ac:11:00:ff",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(InvalidMac), "{text}");
        }
    }

    #[test]
    fn kinds_of_addresses() {
        // (address, multicast, broadcast, zero, local)
        for (text, kinds) in [
            ("ff:ff:ff:ff:ff:ff", (true, true, false, true)),
            ("00:00:00:00:00:00", (false, false, true, false)),
            ("01:00:5e:00:00:01", (true, false, false, false)),
            ("33:33:00:00:00:01", (true, false, false, true)),
            ("02:42:0a:00:00:01", (false, false, false, true)),
            ("00:1b:21:00:00:01", (false, false, false, false)),
        ] {
            let mac: MacAddr = text.parse().unwrap();
            let found = (
                mac.is_multicast(),
                mac.is_broadcast(),
                mac.is_zero(),
                mac.is_locally_administered(),
            );
            assert_eq!(found, kinds, "{text}");
        }
        assert_eq!(MacAddr::BROADCAST.to_string(), "ff:ff:ff:ff:ff:ff");
        assert!(MacAddr::ZERO.is_zero());
    }

    #[test]
    fn an_address_of_a_container() {
        assert_eq!(
            MacAddr::from_ipv4(Ipv4Addr::new(10, 0, 0, 1)).to_string(),
            "02:42:0a:00:00:01"
        );
    }
}
