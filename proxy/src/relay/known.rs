//! Which of a container's packets are the relay's where others leave by another way.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use vswitch_wire::{FlowKey, IpProtocol, Ports, TcpFlags, TcpSegment};

use super::{Relay, table::Tuple, target};
use crate::{listing::Protocol, payload::Packet};

impl Relay {
    /// Whether an IP packet that a container sends belongs to a flow that is here already. On a network whose packets
    /// leave by a device these are answers to clients of published ports who came by the host's sockets.
    ///
    /// A fragment other than the first tells no ports. It is the relay's if an earlier one was; senders begin with the
    /// first, and one that comes before it anyway is nobody's: its datagram is lost.
    #[inline]
    pub fn knows(&self, now: Instant, endpoint: u32, packet: &[u8]) -> bool {
        if self.flows.len() == 0 && self.time_wait.poll_timeout().is_none() {
            return false;
        }
        self.finds(now, endpoint, packet)
    }

    /// Whether an IP packet is the relay's by its destination alone, to carry or to refuse, where others leave by another
    /// way: what the network's policy closes, and what no router may forward.
    #[inline]
    pub fn reserves(&self, destination: IpAddr) -> bool {
        target::is_reserved(&self.config.policy, destination)
    }

    fn finds(&self, now: Instant, endpoint: u32, packet: &[u8]) -> bool {
        let Ok(key) = FlowKey::parse(packet) else {
            return false;
        };
        let protocol = match (key.protocol, key.ports) {
            (IpProtocol::TCP, Some(_)) => Protocol::Tcp,
            (IpProtocol::UDP, Some(_)) => Protocol::Udp,
            (IpProtocol::ICMP | IpProtocol::ICMPV6, _) => {
                return matches!(Packet::parse(packet), Ok(Some(error)) if self.has_session_of(endpoint, &error));
            }
            _ => {
                let reassembly = self.reassembly.as_ref();
                return reassembly.is_some_and(|reassembly| reassembly.expects(endpoint, packet));
            }
        };
        let Some(Ports { src, dst }) = key.ports else {
            return false;
        };
        let tuple = Tuple {
            endpoint,
            protocol,
            container: SocketAddr::new(key.src, src),
            remote: SocketAddr::new(key.dst, dst),
        };
        if self.flows.find(&tuple).is_some() {
            return true;
        }
        // Who begins anew does not answer what has ended.
        self.time_wait.find(now, &tuple).is_some() && !begins(packet)
    }
}

/// Whether a packet is the first of a TCP connection.
fn begins(packet: &[u8]) -> bool {
    let Ok(Some(packet)) = Packet::parse(packet) else {
        return false;
    };
    let segment = TcpSegment::parse(packet.body);
    segment.is_ok_and(|segment| {
        let flags = segment.header().flags();
        flags.contains(TcpFlags::SYN) && !flags.contains(TcpFlags::ACK)
    })
}
