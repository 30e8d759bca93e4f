//! `/etc/hosts` and `/etc/resolv.conf` of a sandbox.

use std::{fmt::Write, net::IpAddr};

use serde::{Deserialize, Serialize};

/// What a sandbox's name files say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Lines of `/etc/hosts` behind the static part, in order: extra hosts first, own addresses last.
    pub hosts: Vec<HostsEntry>,
    /// Name servers; with none the sandbox keeps the host's `/etc/resolv.conf`.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options, such as `ndots:0`.
    pub options: Vec<String>,
}

/// One line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsEntry {
    /// The address.
    pub address: IpAddr,
    /// Its names, the canonical one first.
    pub names: Vec<String>,
}

impl Names {
    /// The text of `/etc/hosts` in Docker's form.
    pub fn hosts_file(&self) -> String {
        let mut text = String::from(STATIC_HOSTS);
        for HostsEntry { address, names } in &self.hosts {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{address}\t{}", names.join(" "));
        }
        text
    }

    /// The text of `/etc/resolv.conf`, or `None` if there is no name server to name.
    pub fn resolv_conf(&self) -> Option<String> {
        if self.nameservers.is_empty() {
            return None;
        }
        let mut text = String::new();
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        Some(text)
    }
}

/// The static part, as Docker 28 writes it.
const STATIC_HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_one_line_per_address() {
        let entry = |address: &str, names: &[&str]| HostsEntry {
            address: address.parse().expect("an address"),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        };
        let names = Names {
            hosts: vec![
                entry("10.50.0.9", &["web.example", "web"]),
                entry("fd00:50::9", &["web.example", "web"]),
            ],
            ..Names::default()
        };
        let text = names.hosts_file();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0], "127.0.0.1\tlocalhost");
        assert_eq!(
            lines[6..],
            ["10.50.0.9\tweb.example web", "fd00:50::9\tweb.example web"]
        );
    }

    #[test]
    fn resolv_conf_has_only_what_is_given() {
        let mut names = Names {
            search: vec!["example".into()],
            ..Names::default()
        };
        assert_eq!(names.resolv_conf(), None);
        names.nameservers = vec!["10.0.0.1".parse().expect("an address")];
        assert_eq!(
            names.resolv_conf().as_deref(),
            Some("nameserver 10.0.0.1\nsearch example\n")
        );
        names.options = vec!["ndots:0".into(), "edns0".into()];
        let text = names.resolv_conf().expect("there is a server");
        assert!(text.ends_with("options ndots:0 edns0\n"), "{text}");
    }
}
