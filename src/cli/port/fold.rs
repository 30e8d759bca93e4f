//! Docker's way to write a container's ports in one column.

use super::join;
use crate::api::types::Port;

/// Consecutive ports of the same address and protocol that have the same number on both sides.
#[derive(Debug)]
struct Group<'a> {
    ip: &'a str,
    transport: &'a str,
    first: u16,
    last: u16,
}

/// `0.0.0.0:80-81->80-81/tcp, 0.0.0.0:8080->90/tcp`: ports that keep their number are folded into ranges, others are
/// written singly behind them. As in docker/cli, `cli/command/formatter/container.go`.
pub fn folded(ports: &[Port]) -> String {
    let mut ports: Vec<&Port> = ports.iter().collect();
    ports.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.transport));
    let (mut texts, mut open, mut moved) = (Vec::new(), Vec::<Group<'_>>::new(), Vec::new());
    for port in ports {
        let (ip, transport) = (port.ip.as_deref().unwrap_or_default(), &*port.transport);
        if !ip.is_empty() && port.public_port != Some(port.private_port) {
            let host = join(ip, &port.public_port.unwrap_or_default().to_string());
            moved.push(format!("{host}->{}/{transport}", port.private_port));
            continue;
        }
        let number = port.private_port;
        let known = open
            .iter_mut()
            .find(|group| (group.ip, group.transport) == (ip, transport));
        match known {
            Some(group) if group.last.checked_add(1) == Some(number) => group.last = number,
            Some(group) => {
                texts.push(group.text());
                (group.first, group.last) = (number, number);
            }
            None => open.push(Group {
                ip,
                transport,
                first: number,
                last: number,
            }),
        }
    }
    texts.extend(open.iter().map(Group::text));
    texts.extend(moved);
    texts.join(", ")
}

impl Group<'_> {
    fn text(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        match self.ip {
            "" => format!("{ports}/{}", self.transport),
            ip => format!("{}->{ports}/{}", join(ip, &ports), self.transport),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `container[/udp][ ip host]`.
    fn ports(texts: &[&str]) -> Vec<Port> {
        let port = |text: &&str| {
            let mut words = text.split(' ');
            let (port, protocol) = words
                .next()
                .and_then(|word| word.split_once('/'))
                .expect("a port");
            let mut value = json!({"PrivatePort": port.parse::<u16>().expect("a number"), "Type": protocol});
            if let (Some(ip), Some(host)) = (words.next(), words.next()) {
                value["IP"] = ip.into();
                value["PublicPort"] = host.parse::<u16>().expect("a number").into();
            }
            serde_json::from_value(value).expect("this is a port")
        };
        texts.iter().map(port).collect()
    }

    #[test]
    fn p15_ports_are_folded_as_docker_folds_them() {
        for (what, given, wanted) in [
            ("nothing", &[][..], ""),
            ("known only", &["80/tcp"], "80/tcp"),
            (
                "known only, a range",
                &["7001/tcp", "7000/tcp", "7002/tcp"],
                "7000-7002/tcp",
            ),
            ("one, moved", &["80/tcp 0.0.0.0 8080"], "0.0.0.0:8080->80/tcp"),
            (
                "both families",
                &["80/tcp :: 8080", "80/tcp 0.0.0.0 8080"],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                "a range that keeps its numbers",
                &[
                    "9000/tcp 127.0.0.1 9000",
                    "9002/tcp 127.0.0.1 9002",
                    "9001/tcp 127.0.0.1 9001",
                ],
                "127.0.0.1:9000-9002->9000-9002/tcp",
            ),
            (
                "the same of both families",
                &[
                    "80/tcp 0.0.0.0 80",
                    "80/tcp :: 80",
                    "81/tcp 0.0.0.0 81",
                    "81/tcp :: 81",
                ],
                "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp",
            ),
            (
                "a gap closes a group, which comes first",
                &[
                    "80/tcp 0.0.0.0 80",
                    "81/tcp 0.0.0.0 81",
                    "83/tcp 0.0.0.0 83",
                    "53/udp 0.0.0.0 53",
                ],
                "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:53->53/udp, 0.0.0.0:83->83/tcp",
            ),
            (
                "a range that is moved is not folded",
                &["9000/tcp 0.0.0.0 8000", "9001/tcp 0.0.0.0 8001"],
                "0.0.0.0:8000->9000/tcp, 0.0.0.0:8001->9001/tcp",
            ),
            (
                "moved ones come last",
                &["53/udp", "80/tcp 0.0.0.0 8080", "443/tcp 0.0.0.0 443"],
                "53/udp, 0.0.0.0:443->443/tcp, 0.0.0.0:8080->80/tcp",
            ),
            (
                "protocols do not mix",
                &["53/tcp 0.0.0.0 53", "53/udp 0.0.0.0 53", "54/udp 0.0.0.0 54"],
                "0.0.0.0:53->53/tcp, 0.0.0.0:53-54->53-54/udp",
            ),
            (
                "the last port has no next",
                &["65535/tcp 0.0.0.0 65535", "65534/tcp 0.0.0.0 65534"],
                "0.0.0.0:65534-65535->65534-65535/tcp",
            ),
            (
                "several ports of the host lead to one",
                &[
                    "80/tcp 0.0.0.0 8081",
                    "80/tcp 0.0.0.0 8080",
                    "80/tcp 127.0.0.1 80",
                ],
                "127.0.0.1:80->80/tcp, 0.0.0.0:8080->80/tcp, 0.0.0.0:8081->80/tcp",
            ),
        ] {
            assert_eq!(folded(&ports(given)), wanted, "{what}");
        }
    }
}
