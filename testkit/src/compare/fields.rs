//! A packet as fields with names.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice, UdpHeaderSlice, checksum::Sum16BitWords};

/// The fields of an IP packet, as far as it can be read.
pub(super) fn fields(packet: &[u8]) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    fields.ip("", packet);
    fields.0
}

#[derive(Default)]
struct Fields(Vec<(String, String)>);

impl Fields {
    fn add(&mut self, name: String, value: impl ToString) {
        self.0.push((name, value.to_string()));
    }

    fn ip(&mut self, prefix: &str, packet: &[u8]) {
        self.add(format!("{prefix}bytes"), packet.len());
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => self.ipv4(prefix, packet),
            Some(6) => self.ipv6(prefix, packet),
            _ => self.add(format!("{prefix}ip"), "not IP"),
        }
    }

    fn ipv4(&mut self, prefix: &str, packet: &[u8]) {
        let Ok(header) = Ipv4HeaderSlice::from_slice(packet) else {
            return self.add(format!("{prefix}ip"), "damaged");
        };
        let name = |field: &str| format!("{prefix}ip.{field}");
        self.add(name("src"), Ipv4Addr::from(header.source()));
        self.add(name("dst"), Ipv4Addr::from(header.destination()));
        self.add(name("tos"), format_args!("{:#04x}", packet[1]));
        self.add(name("len"), header.total_len());
        self.add(name("id"), format_args!("{:#06x}", header.identification()));
        self.add(name("dont_fragment"), header.dont_fragment());
        self.add(name("more_fragments"), header.more_fragments());
        let offset = u16::from(header.fragments_offset()) * 8;
        self.add(name("fragment_offset"), offset);
        self.add(name("ttl"), header.ttl());
        self.add(name("protocol"), header.protocol().0);
        let sum = Sum16BitWords::new().add_slice(header.slice()).ones_complement();
        let checksum = header.header_checksum();
        self.add(
            name("checksum"),
            format_args!("{checksum:#06x} ({})", right(sum == 0)),
        );
        let options = header.options();
        if !options.is_empty() {
            self.add(name("options"), format_args!("{options:02x?}"));
        }
        let rest = &packet[header.slice().len()..];
        if offset == 0 {
            self.upper(prefix, header.protocol().0, rest);
        } else {
            self.payload(prefix, rest);
        }
    }

    fn ipv6(&mut self, prefix: &str, packet: &[u8]) {
        let Ok(header) = Ipv6HeaderSlice::from_slice(packet) else {
            return self.add(format!("{prefix}ip"), "damaged");
        };
        let name = |field: &str| format!("{prefix}ip.{field}");
        self.add(name("src"), Ipv6Addr::from(header.source()));
        self.add(name("dst"), Ipv6Addr::from(header.destination()));
        self.add(
            name("traffic_class"),
            format_args!("{:#04x}", header.traffic_class()),
        );
        self.add(
            name("flow_label"),
            format_args!("{:#x}", header.flow_label().value()),
        );
        self.add(name("payload_len"), header.payload_length());
        self.add(name("next_header"), header.next_header().0);
        self.add(name("ttl"), header.hop_limit());
        let rest = &packet[header.slice().len()..];
        match (header.next_header().0, rest) {
            (super::FRAGMENT, &[next, _, a, b, c, d, e, f, ref rest @ ..]) => {
                let place = u16::from_be_bytes([a, b]);
                let id = u32::from_be_bytes([c, d, e, f]);
                self.add(name("id"), format_args!("{id:#010x}"));
                self.add(name("fragment_offset"), place & !7);
                self.add(name("more_fragments"), place & 1 == 1);
                if place & !7 == 0 {
                    self.upper(prefix, next, rest);
                } else {
                    self.payload(prefix, rest);
                }
            }
            (next, rest) => self.upper(prefix, next, rest),
        }
    }

    fn upper(&mut self, prefix: &str, protocol: u8, bytes: &[u8]) {
        match protocol {
            ICMP | ICMPV6 => self.icmp(prefix, protocol, bytes),
            TCP => self.tcp(prefix, bytes),
            UDP => self.udp(prefix, bytes),
            _ => self.payload(prefix, bytes),
        }
    }

    fn icmp(&mut self, prefix: &str, protocol: u8, bytes: &[u8]) {
        let &[kind, code, a, b, c, d, e, f, ref rest @ ..] = bytes else {
            return self.payload(prefix, bytes);
        };
        let name = |field: &str| format!("{prefix}icmp.{field}");
        self.add(name("type"), kind);
        self.add(name("code"), code);
        self.add(name("checksum"), format_args!("{a:02x}{b:02x}"));
        let quotes = match protocol {
            ICMP => [3, 4, 5, 11, 12].contains(&kind),
            _ => (1..=4).contains(&kind),
        };
        if quotes {
            self.add(name("rest"), format_args!("{c:02x}{d:02x}{e:02x}{f:02x}"));
            self.ip(&format!("{prefix}icmp.quoted."), rest);
        } else {
            self.add(name("id"), u16::from_be_bytes([c, d]));
            self.add(name("sequence"), u16::from_be_bytes([e, f]));
            self.payload(prefix, rest);
        }
    }

    fn tcp(&mut self, prefix: &str, bytes: &[u8]) {
        let name = |field: &str| format!("{prefix}tcp.{field}");
        let Ok(header) = TcpHeaderSlice::from_slice(bytes) else {
            return self.ports(&format!("{prefix}tcp"), bytes);
        };
        self.ports(&format!("{prefix}tcp"), &bytes[..4]);
        self.add(name("sequence"), header.sequence_number());
        self.add(name("acknowledgment"), header.acknowledgment_number());
        self.add(name("flags"), format_args!("{:#04x}", bytes[13]));
        self.add(name("window"), header.window_size());
        self.add(name("checksum"), format_args!("{:#06x}", header.checksum()));
        self.add(name("urgent"), header.urgent_pointer());
        self.add(name("options"), format_args!("{:02x?}", header.options()));
        self.payload(prefix, &bytes[header.slice().len()..]);
    }

    fn udp(&mut self, prefix: &str, bytes: &[u8]) {
        let name = |field: &str| format!("{prefix}udp.{field}");
        let Ok(header) = UdpHeaderSlice::from_slice(bytes) else {
            return self.ports(&format!("{prefix}udp"), bytes);
        };
        self.ports(&format!("{prefix}udp"), &bytes[..4]);
        self.add(name("len"), header.length());
        self.add(name("checksum"), format_args!("{:#06x}", header.checksum()));
        self.payload(prefix, &bytes[header.slice().len()..]);
    }

    /// The ports, and whatever follows: a quoted header may be cut.
    fn ports(&mut self, name: &str, bytes: &[u8]) {
        let &[a, b, c, d, ref rest @ ..] = bytes else {
            return self.payload("", bytes);
        };
        self.add(format!("{name}.src_port"), u16::from_be_bytes([a, b]));
        self.add(format!("{name}.dst_port"), u16::from_be_bytes([c, d]));
        if !rest.is_empty() {
            self.add(format!("{name}.rest"), format_args!("{rest:02x?}"));
        }
    }

    /// How long it is and a sum of it: where it differs, the view of the bytes shows.
    fn payload(&mut self, prefix: &str, bytes: &[u8]) {
        let sum = Sum16BitWords::new().add_slice(bytes).ones_complement();
        self.add(
            format!("{prefix}payload"),
            format_args!("{} bytes, sum {sum:04x}", bytes.len()),
        );
    }
}

fn right(is_right: bool) -> &'static str {
    if is_right { "right" } else { "wrong" }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
