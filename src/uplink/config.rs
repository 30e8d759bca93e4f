//! What `--uplink` says.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use vswitch_wire::MacAddr;

/// How networks leave that do not say so themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UplinkChoice {
    /// By a device of which the daemon reads and writes frames.
    Device(DeviceUplink),
    /// By sockets of the host.
    #[default]
    Sockets,
}

/// A device by which networks leave, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceUplink {
    /// The interface's name.
    pub interface: String,
    /// Our addresses with the prefixes of the link; at least one, none twice.
    pub addresses: Vec<IpNet>,
    /// Routers on the link, one of each version at most.
    pub gateways: Vec<IpAddr>,
    /// Our Ethernet address.
    pub mac: MacAddr,
    /// Largest IP packet; the interface's own where nothing is said.
    pub mtu: Option<u16>,
}

/// Why an uplink cannot be like that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUplink {
    /// It cannot be the address of a host.
    #[error("{0} cannot be a host's address: give a unicast address that is neither loopback nor link-local")]
    Address(IpNet),
    /// The same address twice.
    #[error("address {0} is given twice; leave one out")]
    AddressTwice(IpAddr),
    /// Nothing says where a router is.
    #[error(
        "gateway {0} is on none of the prefixes of the addresses; give an address with its prefix (address=CIDR), or another gateway"
    )]
    GatewayOffLink(IpAddr),
    /// Our own address.
    #[error("gateway {0} is an address of the uplink itself; give the router's")]
    GatewayIsOurs(IpAddr),
    /// Two routers of one version.
    #[error("more than one gateway of the version of {0}; give one for IPv4 and one for IPv6 at most")]
    Gateways(IpAddr),
    /// Nobody can have it.
    #[error("mac={0} cannot be a station's address: give a unicast one, such as 02:42:c0:00:02:0a")]
    Mac(MacAddr),
    /// No packet would fit.
    #[error(
        "mtu={0} is not between {SMALLEST_MTU} and {LARGEST_MTU} (from {SMALLEST_IPV6_MTU} with an IPv6 address)"
    )]
    Mtu(u16),
    /// There must be one.
    #[error(
        "no address: give at least one as address=CIDR, such as device=eth1,address=192.0.2.10/24,gateway=192.0.2.1"
    )]
    NoAddress,
    /// There must be one.
    #[error("no device: write device=IFACE,address=CIDR[,gateway=IP], or sockets")]
    NoDevice,
    /// Not a name that the kernel knows.
    #[error("device={0:?} is no interface name: 1 to 15 visible characters without '/' and ':'")]
    Interface(String),
    /// The same key twice.
    #[error("{0}= is given twice")]
    Twice(&'static str),
    /// Not a key.
    #[error("{0:?} is none of device=IFACE, address=CIDR, gateway=IP, mac=MAC, mtu=BYTES")]
    Unknown(String),
    /// Not a value.
    #[error("{key}={text}: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        text: String,
        /// What should be.
        why: &'static str,
    },
}

impl FromStr for UplinkChoice {
    type Err = InvalidUplink;

    fn from_str(text: &str) -> Result<Self, InvalidUplink> {
        match text.trim() {
            "sockets" => Ok(Self::Sockets),
            text => Ok(Self::Device(text.parse()?)),
        }
    }
}

impl FromStr for DeviceUplink {
    type Err = InvalidUplink;

    fn from_str(text: &str) -> Result<Self, InvalidUplink> {
        let (mut interface, mut mac, mut mtu) = (None, None, None);
        let (mut addresses, mut gateways) = (Vec::new(), Vec::new());
        for field in text.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| InvalidUplink::Unknown(field.to_owned()))?;
            match key {
                "device" => set("device", &mut interface, value.to_owned())?,
                "address" => addresses.push(read("address", value, "an address with its prefix length")?),
                "gateway" => gateways.push(read("gateway", value, "an IP address")?),
                "mac" => set("mac", &mut mac, read("mac", value, "six octets in hexadecimal")?)?,
                "mtu" => set("mtu", &mut mtu, read("mtu", value, "a number of bytes")?)?,
                _ => return Err(InvalidUplink::Unknown(field.to_owned())),
            }
        }
        let interface = interface.ok_or(InvalidUplink::NoDevice)?;
        check_interface(&interface)?;
        check_addresses(&addresses)?;
        check_gateways(&gateways, &addresses)?;
        check_mtu(mtu, &addresses)?;
        let mac = mac.map_or_else(|| mac_for(&addresses), Ok)?;
        if mac.is_multicast() || mac.is_zero() {
            return Err(InvalidUplink::Mac(mac));
        }
        Ok(Self {
            interface,
            addresses,
            gateways,
            mac,
            mtu,
        })
    }
}

impl fmt::Display for UplinkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => device.fmt(f),
            Self::Sockets => f.write_str("sockets"),
        }
    }
}

impl fmt::Display for DeviceUplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device={}", self.interface)?;
        for address in &self.addresses {
            write!(f, ",address={address}")?;
        }
        for gateway in &self.gateways {
            write!(f, ",gateway={gateway}")?;
        }
        write!(f, ",mac={}", self.mac)?;
        match self.mtu {
            Some(mtu) => write!(f, ",mtu={mtu}"),
            None => Ok(()),
        }
    }
}

fn set<T>(key: &'static str, place: &mut Option<T>, value: T) -> Result<(), InvalidUplink> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(InvalidUplink::Twice(key)),
    }
}

fn read<T: FromStr>(key: &'static str, text: &str, why: &'static str) -> Result<T, InvalidUplink> {
    text.parse().map_err(|_| InvalidUplink::Value {
        key,
        text: text.to_owned(),
        why,
    })
}

/// linux/if.h `IFNAMSIZ`; net/core/dev.c `dev_valid_name`.
fn check_interface(name: &str) -> Result<(), InvalidUplink> {
    let is_valid = (1..=15).contains(&name.len())
        && ![".", ".."].contains(&name)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    match is_valid {
        true => Ok(()),
        false => Err(InvalidUplink::Interface(name.to_owned())),
    }
}

fn check_addresses(addresses: &[IpNet]) -> Result<(), InvalidUplink> {
    if addresses.is_empty() {
        return Err(InvalidUplink::NoAddress);
    }
    for (place, net) in addresses.iter().enumerate() {
        if !is_hosts(*net) {
            return Err(InvalidUplink::Address(*net));
        }
        if addresses[..place].iter().any(|other| other.addr() == net.addr()) {
            return Err(InvalidUplink::AddressTwice(net.addr()));
        }
    }
    Ok(())
}

fn is_hosts(net: IpNet) -> bool {
    match net {
        IpNet::V4(net) => {
            let (address, first) = (net.addr(), net.addr().octets()[0]);
            let is_special = net.prefix_len() < 31 && [net.network(), net.broadcast()].contains(&address);
            first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local() && !is_special
        }
        IpNet::V6(net) => {
            let address = net.addr();
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some())
        }
    }
}

fn check_gateways(gateways: &[IpAddr], addresses: &[IpNet]) -> Result<(), InvalidUplink> {
    for (place, &gateway) in gateways.iter().enumerate() {
        let is_link_local = matches!(gateway, IpAddr::V6(gateway) if gateway.is_unicast_link_local());
        let reaches = |net: &IpNet| net.contains(&gateway) || (is_link_local && net.addr().is_ipv6());
        if addresses.iter().any(|net| net.addr() == gateway) {
            return Err(InvalidUplink::GatewayIsOurs(gateway));
        }
        if !addresses.iter().any(reaches) {
            return Err(InvalidUplink::GatewayOffLink(gateway));
        }
        if gateways[..place]
            .iter()
            .any(|other| other.is_ipv4() == gateway.is_ipv4())
        {
            return Err(InvalidUplink::Gateways(gateway));
        }
    }
    Ok(())
}

fn check_mtu(mtu: Option<u16>, addresses: &[IpNet]) -> Result<(), InvalidUplink> {
    let Some(mtu) = mtu else { return Ok(()) };
    let has_v6 = addresses.iter().any(|net| net.addr().is_ipv6());
    let smallest = if has_v6 { SMALLEST_IPV6_MTU } else { SMALLEST_MTU };
    match (smallest..=LARGEST_MTU).contains(&mtu) {
        true => Ok(()),
        false => Err(InvalidUplink::Mtu(mtu)),
    }
}

/// The same at every start: `02:42` and the first IPv4 address, or the end of the first IPv6 address.
fn mac_for(addresses: &[IpNet]) -> Result<MacAddr, InvalidUplink> {
    let v4 = addresses.iter().find_map(|net| match net {
        IpNet::V4(net) => Some(MacAddr::from_ipv4(net.addr())),
        IpNet::V6(_) => None,
    });
    let v6 = || match addresses.first()?.addr() {
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            Some(MacAddr([0x02, 0x42, a, b, c, d]))
        }
        IpAddr::V4(_) => None,
    };
    v4.or_else(v6).ok_or(InvalidUplink::NoAddress)
}

/// RFC 791: every host must forward 68 bytes.
const SMALLEST_MTU: u16 = 68;
/// RFC 8200 §5.
const SMALLEST_IPV6_MTU: u16 = 1280;
/// As of networks.
const LARGEST_MTU: u16 = 65_520;

#[cfg(test)]
mod tests {
    use super::*;

    fn device(text: &str) -> DeviceUplink {
        text.parse().expect("valid")
    }

    #[test]
    fn every_field_is_understood() {
        let text = "device=eth1,address=192.0.2.10/24,address=2001:db8::a/64,gateway=192.0.2.1,gateway=fe80::1,mac=02:00:00:00:00:01,mtu=1400";
        let uplink = device(text);
        assert_eq!(
            uplink,
            DeviceUplink {
                interface: "eth1".into(),
                addresses: ["192.0.2.10/24", "2001:db8::a/64"]
                    .map(|net| net.parse().expect("a prefix"))
                    .into(),
                gateways: ["192.0.2.1", "fe80::1"]
                    .map(|ip| ip.parse().expect("an address"))
                    .into(),
                mac: MacAddr([2, 0, 0, 0, 0, 1]),
                mtu: Some(1400),
            }
        );
        assert_eq!(uplink.to_string(), text);
        assert_eq!("sockets".parse(), Ok(UplinkChoice::Sockets));
    }

    #[test]
    fn the_mac_is_the_same_at_every_start() {
        let v4 = device("device=eth1,address=2001:db8::a/64,address=192.0.2.10/24");
        assert_eq!(v4.mac, MacAddr([0x02, 0x42, 192, 0, 2, 10]));
        let v6 = device("device=eth1,address=2001:db8::1:203/64");
        assert_eq!(v6.mac, MacAddr([0x02, 0x42, 0, 1, 2, 3]));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        let cases = [
            ("", "no device"),
            ("address=192.0.2.10/24", "no device"),
            ("device=eth1", "give at least one"),
            ("device=a/b,address=192.0.2.10/24", "no interface name"),
            (
                "device=eth1,device=eth2,address=192.0.2.10/24",
                "device= is given twice",
            ),
            (
                "device=eth1,address=192.0.2.10",
                "an address with its prefix length",
            ),
            (
                "device=eth1,address=192.0.2.10/24,address=192.0.2.10/25",
                "given twice",
            ),
            ("device=eth1,address=192.0.2.255/24", "cannot be a host's address"),
            ("device=eth1,address=127.0.0.2/8", "cannot be a host's address"),
            ("device=eth1,address=fe80::2/64", "cannot be a host's address"),
            (
                "device=eth1,address=192.0.2.10/24,gateway=198.51.100.1",
                "is on none of the prefixes",
            ),
            (
                "device=eth1,address=192.0.2.10/24,gateway=fe80::1",
                "is on none of the prefixes",
            ),
            (
                "device=eth1,address=192.0.2.10/24,gateway=192.0.2.10",
                "give the router's",
            ),
            (
                "device=eth1,address=192.0.2.10/24,gateway=192.0.2.1,gateway=192.0.2.2",
                "more than one gateway",
            ),
            (
                "device=eth1,address=192.0.2.10/24,mac=01:00:00:00:00:00",
                "unicast",
            ),
            ("device=eth1,address=192.0.2.10/24,mac=1", "six octets"),
            ("device=eth1,address=192.0.2.10/24,mtu=67", "is not between"),
            ("device=eth1,address=2001:db8::a/64,mtu=1279", "is not between"),
            ("device=eth1,address=192.0.2.10/24,mtu=big", "a number of bytes"),
            ("device=eth1,adress=192.0.2.10/24", "is none of"),
            ("socket", "is none of"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<UplinkChoice>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
