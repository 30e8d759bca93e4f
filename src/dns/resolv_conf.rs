//! `/etc/resolv.conf`, as resolv.conf(5) and glibc (resolv/res_init.c) read it.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::Path,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::io::sys::INTERFACE_NAME_MAX;

/// What a resolv.conf says. What cannot be understood in it is passed over, as resolvers do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers in order of preference, at most three; never empty in what was parsed.
    pub servers: Vec<SocketAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options, such as `ndots:2`.
    pub options: Vec<String>,
    /// Whether the file says nothing at all, as one that is about to be written.
    pub is_blank: bool,
}

impl ResolvConf {
    /// Reads a file; scopes of link-local servers are those of this network namespace.
    ///
    /// # Errors
    ///
    /// Those of the file, and one for what is no file.
    pub fn read(path: &Path) -> io::Result<Self> {
        // Opening a pipe would wait for a writer.
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        }
        let mut text = Vec::new();
        File::open(path)?.take(LONGEST).read_to_end(&mut text)?;
        Ok(Self::parse(&String::from_utf8_lossy(&text), interface_index))
    }

    /// Understands a file's text. `index_of` gives the index of an interface by its name.
    pub fn parse(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Self {
        let mut parsed = Self {
            is_blank: text.trim_ascii().is_empty(),
            ..Self::default()
        };
        for line in text.lines() {
            // A keyword must start its line, and a comment has its mark in the first column.
            let (keyword, values) = line.split_once([' ', '\t']).unwrap_or((line, ""));
            let mut values = values.split_ascii_whitespace();
            match keyword {
                "nameserver" if parsed.servers.len() < MOST_SERVERS => {
                    let server = values.next().and_then(|text| server(text, &index_of));
                    parsed.servers.extend(server);
                }
                // The last of them holds.
                "domain" => parsed.search = values.next().map(str::to_owned).into_iter().collect(),
                "search" => parsed.search = values.map(str::to_owned).collect(),
                "options" => parsed.options.extend(values.map(str::to_owned)),
                _ => {}
            }
        }
        if parsed.servers.is_empty() {
            parsed.servers.push(Self::LOCAL);
        }
        parsed
    }

    /// "If no nameserver entries are present, the default is to use the name server on the local machine."
    pub const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
}

/// A server's address; link-local ones need a scope, by name or number.
fn server(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let (address, scope) = match text.split_once('%') {
        None => (text, None),
        Some((address, scope)) => (address, Some(scope)),
    };
    match address.parse().ok()? {
        IpAddr::V4(address) => scope.is_none().then(|| (address, PORT).into()),
        IpAddr::V6(address) if needs_scope(&address) => {
            let index = index_of(scope?).or_else(|| scope?.parse().ok());
            index
                .filter(|&index| index != 0)
                .map(|index| SocketAddrV6::new(address, PORT, 0, index).into())
        }
        // glibc ignores a scope that means nothing.
        IpAddr::V6(address) => Some((address, PORT).into()),
    }
}

/// RFC 4291 sections 2.5.6 and 2.7: link-local unicast and multicast.
fn needs_scope(address: &Ipv6Addr) -> bool {
    address.is_unicast_link_local() || (address.is_multicast() && address.segments()[0] & 0xf == 2)
}

fn interface_index(name: &str) -> Option<u32> {
    // A longer name would be cut to another's.
    if name.len() > INTERFACE_NAME_MAX {
        return None;
    }
    // The kernel answers on any socket; this kind exists without IPv4 and IPv6.
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).ok()?;
    netdevice::name_to_index(socket, name).ok()
}

/// glibc's `MAXNS` (resolv.h).
const MOST_SERVERS: usize = 3;
/// RFC 1035 section 4.2.
const PORT: u16 = 53;
/// Longer than any resolv.conf; a bound on what is read of something else.
const LONGEST: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, |name| (name == "eth0").then_some(7))
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn r_dns_2_servers_keep_their_order_and_loopback_is_kept() {
        let text = "# made by hand\nnameserver 127.0.0.53\n;nameserver 10.0.0.1\nnameserver\t2001:db8::53 # note\n\
                    nameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        assert_eq!(
            servers(text),
            ["127.0.0.53:53", "[2001:db8::53]:53", "192.0.2.1:53"],
            "three at most"
        );
    }

    #[test]
    fn r_dns_2_link_local_servers_have_a_scope_by_name_or_number() {
        for (text, expected) in [
            ("nameserver fe80::1%eth0", "[fe80::1%7]:53"),
            ("nameserver fe80::1%3", "[fe80::1%3]:53"),
            ("nameserver ff02::fb%eth0", "[ff02::fb%7]:53"),
            ("nameserver 2001:db8::1%eth0", "[2001:db8::1]:53"),
            // Unusable: what is left is the default.
            ("nameserver fe80::1", "127.0.0.1:53"),
            ("nameserver fe80::1%", "127.0.0.1:53"),
            ("nameserver fe80::1%0", "127.0.0.1:53"),
            ("nameserver fe80::1%gone0", "127.0.0.1:53"),
        ] {
            assert_eq!(servers(text), [expected], "{text}");
        }
    }

    #[test]
    fn without_a_usable_server_the_host_asks_itself() {
        for text in [
            "",
            "nameserver",
            "nameserver ",
            "nameserver dns.example",
            "nameserver 10.0.0.256",
            "nameserver 10.0.0.1%eth0",
            "nameservers 10.0.0.1",
            " nameserver 10.0.0.1",
            "NAMESERVER 10.0.0.1",
            "#nameserver 10.0.0.1",
            "\u{fffd}\0nameserver 10.0.0.1",
        ] {
            assert_eq!(parse(text).servers, [ResolvConf::LOCAL], "{text:?}");
        }
    }

    #[test]
    fn the_last_search_list_holds_and_options_add_up() {
        let parsed =
            parse("search a.example b.example\noptions ndots:2 edns0\ndomain c.example d\noptions rotate\n");
        assert_eq!(parsed.search, ["c.example"]);
        assert_eq!(parsed.options, ["ndots:2", "edns0", "rotate"]);
        assert_eq!(parse("domain c.example\nsearch a b\n").search, ["a", "b"]);
        assert!(parse("search\noptions\n").search.is_empty());
    }

    #[test]
    fn no_cut_and_no_bit_flip_is_worse_than_garbage() {
        let text = b"nameserver fe80::1%eth0\r\nsearch a\nnameserver ::1\noptions ndots:1\n";
        for len in 0..text.len() {
            parse(&String::from_utf8_lossy(&text[..len]));
            for bit in 0..8 {
                let mut changed = text.to_vec();
                changed[len] ^= 1 << bit;
                let parsed = parse(&String::from_utf8_lossy(&changed));
                assert!((1..=MOST_SERVERS).contains(&parsed.servers.len()));
            }
        }
    }

    #[test]
    fn only_files_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        ResolvConf::read(directory.path()).expect_err("a directory");
        ResolvConf::read(Path::new("/dev/zero")).expect_err("a device");
        let path = directory.path().join("resolv.conf");
        ResolvConf::read(&path).expect_err("nothing is there");
        std::fs::write(&path, b"nameserver fe80::1%lo\n\xff\xfe\n").expect("it is ours");
        let read = ResolvConf::read(&path).expect("it is there");
        assert_eq!(
            read.servers,
            ["[fe80::1%1]:53".parse().expect("an address")],
            "lo is the first"
        );
    }
}
