//! Prefixes that the host uses itself, which automatic subnets stay away from.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The destinations of the host's routes, without the default routes, and its name servers.
///
/// What cannot be read is left out: a host without IPv6 has no IPv6 routes.
pub fn host_prefixes() -> Vec<IpNet> {
    let read = |path: &str| match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!(%error, path, "cannot read what the host uses; subnets may overlap it");
            String::new()
        }
    };
    let mut prefixes = ipv4_routes(&read("/proc/net/route"));
    prefixes.extend(ipv6_routes(&read("/proc/net/ipv6_route")));
    prefixes.extend(name_servers(&read("/etc/resolv.conf")));
    prefixes
}

/// kernel: net/ipv4/fib_trie.c, fib_route_seq_show; addresses are native-endian hexadecimal words.
fn ipv4_routes(table: &str) -> Vec<IpNet> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace();
        let (destination, mask) = (columns.nth(1)?, columns.nth(5)?);
        let word = |text| u32::from_str_radix(text, 16).ok();
        let address = Ipv4Addr::from(word(destination)?.to_ne_bytes());
        let length = word(mask)?.count_ones() as u8;
        (length > 0)
            .then(|| Ipv4Net::new(address, length).ok().map(IpNet::V4))
            .flatten()
    });
    routes.collect()
}

/// kernel: net/ipv6/route.c, rt6_info_route; 32 hexadecimal digits and the prefix length. Link-local and
/// multicast routes and host routes of the loopback device never meet a unique local prefix.
fn ipv6_routes(table: &str) -> Vec<IpNet> {
    let routes = table.lines().filter_map(|line| {
        let mut columns = line.split_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(columns.next()?, 16).ok()?);
        let length = u8::from_str_radix(columns.next()?, 16).ok()?;
        (length > 0)
            .then(|| Ipv6Net::new(address, length).ok().map(IpNet::V6))
            .flatten()
    });
    routes.collect()
}

/// resolv.conf(5).
fn name_servers(text: &str) -> Vec<IpNet> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next()? != "nameserver" {
            return None;
        }
        words
            .next()?
            .split('%')
            .next()?
            .parse::<IpAddr>()
            .ok()
            .map(IpNet::from)
    });
    servers.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let word = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let line = |to, mask| {
            format!(
                "eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n",
                word(to),
                word(mask)
            )
        };
        let table = format!(
            "Iface\tDestination\tGateway\n{}{}garbage\n\n",
            line([0, 0, 0, 0], [0, 0, 0, 0]),
            line([172, 17, 0, 0], [255, 255, 0, 0])
        );
        assert_eq!(
            ipv4_routes(&table),
            ["172.17.0.0/16".parse::<IpNet>().expect("a prefix")]
        );

        let table = "fd120007000000000000000000000000 40 0 00 x\n\
                     00000000000000000000000000000000 00 0 00 x\nzz\n";
        assert_eq!(
            ipv6_routes(table),
            ["fd12:7::/64".parse::<IpNet>().expect("a prefix")]
        );
    }

    #[test]
    fn name_servers_are_hosts() {
        let text =
            "# nameserver 9.9.9.9\nsearch x\nnameserver 192.168.0.1\nnameserver fe80::1%eth0\nnameserver\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.168.0.1/32", "fe80::1/128"]);
    }
}
