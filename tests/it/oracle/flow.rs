//! A conversation through the router, as its two parties see it.

use std::net::IpAddr;

use vswitch_wire::IpVersion;

use super::{
    compare::{Chosen, Layout},
    packet::Ends,
    plan::{self, Side},
    router::Entry,
    tcp::TcpModel,
};

/// Who of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Party {
    Client = 0,
    Server = 1,
}

impl Party {
    pub(super) const fn opposite(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// An address and a port, or the identifier of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct End {
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// Where the parties of a conversation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Inside, calling outside by a router that hides it.
    Outbound,
    /// Outside, calling a published port.
    Published,
    /// Both inside, by a published port.
    Hairpin,
}

/// A conversation. What the server sees of the client each router chooses for itself.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) protocol: u8,
    pub(super) way: Way,
    pub(super) client: End,
    /// As the client sees it.
    pub(super) server: End,
    /// As it is.
    pub(super) target: End,
    /// As whom the server sees the client.
    pub(super) alias: IpAddr,
    /// The client's port as the server sees it: the kernel's choice, and ours.
    pub(super) external: [u16; 2],
    /// What each party last received, of each router.
    pub(super) received: [Option<[Vec<u8>; 2]>; 2],
    pub(super) tcp: TcpModel,
    /// Of what each party sent, where it ends and how much of it was acknowledged.
    sent: [Option<[u32; 2]>; 2],
    /// The number of each party's last SYN.
    syns: [Option<u32>; 2],
    /// A party has sent SYNs of different numbers.
    pub(super) was_renumbered: bool,
    /// What the kernel last thought of it, if it is one of TCP.
    pub(super) opinion: Option<Entry>,
    /// Something of it went no further than to a router, which may have counted it.
    pub(super) is_vague: bool,
    /// Both sides have sent a SYN of their own.
    pub(super) was_simultaneous: bool,
    /// It was open and went back to its handshake.
    pub(super) was_resynchronized: bool,
    /// Something in it was not as it should be, so that nobody can say for sure what is in flight.
    pub(super) is_irregular: bool,
    /// How many chunks of an SCTP association were exchanged.
    pub(super) turns: usize,
    /// The routers have parted over it on purpose.
    pub(super) is_burnt: bool,
}

impl Flow {
    pub(super) fn new(protocol: u8, way: Way, client: End, server: End, target: End) -> Self {
        let version = version(client.address);
        let alias = match way {
            Way::Outbound => plan::router(Side::Outside, version),
            Way::Published => client.address,
            Way::Hairpin => plan::router(Side::Inside, version),
        };
        Self {
            protocol,
            way,
            client,
            server,
            target,
            alias,
            external: [client.port; 2],
            received: [None, None],
            tcp: TcpModel::default(),
            sent: [None; 2],
            syns: [None; 2],
            was_renumbered: false,
            opinion: None,
            is_vague: false,
            was_simultaneous: false,
            was_resynchronized: false,
            is_irregular: false,
            turns: 0,
            is_burnt: false,
        }
    }

    /// Whether packets of the one may be taken for packets of the other somewhere.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let far = |flow: &Self| match flow.way {
            Way::Published => flow.client,
            Way::Outbound | Way::Hairpin => flow.server,
        };
        self.protocol == other.protocol && far(self) == far(other)
    }

    pub(super) fn version(&self) -> IpVersion {
        version(self.client.address)
    }

    /// Where a party is.
    pub(super) fn side(&self, party: Party) -> Side {
        match (self.way, party) {
            (Way::Outbound, Party::Server) | (Way::Published, Party::Client) => Side::Outside,
            _ => Side::Inside,
        }
    }

    /// How a party addresses its packets, for each router.
    pub(super) fn ends(&self, from: Party) -> [Ends; 2] {
        self.external.map(|external| match from {
            Party::Client => Ends {
                src: self.client.address,
                dst: self.server.address,
                src_port: self.client.port,
                dst_port: self.server.port,
            },
            Party::Server => Ends {
                src: self.target.address,
                dst: self.alias,
                src_port: self.target.port,
                dst_port: external,
            },
        })
    }

    /// Which ports the routers may have chosen.
    pub(super) fn chosen(&self) -> Chosen {
        Chosen {
            original: (self.way == Way::Published).then_some(self.client.port),
            external: Some(self.external),
        }
    }

    /// Whether a sequence number of a party's is one that it sent and that was not acknowledged.
    pub(super) fn is_in_flight(&self, sender: Party, sequence: u32) -> bool {
        !self.is_irregular
            && self.sent[sender as usize].is_some_and(|[end, acknowledged]| {
                sequence.wrapping_sub(acknowledged) <= end.wrapping_sub(acknowledged)
            })
    }

    /// Whether a party has sent all before that number, and got it through.
    pub(super) fn has_sent(&self, sender: Party, number: u32) -> bool {
        self.sent[sender as usize].is_some_and(|[end, _]| end.wrapping_sub(number) < 1 << 20)
    }

    /// Whether a number is beyond all that a party has sent and that was acknowledged.
    pub(super) fn is_unacknowledged(&self, sender: Party, number: u32) -> bool {
        self.sent[sender as usize]
            .is_some_and(|[_, acknowledged]| number.wrapping_sub(acknowledged).wrapping_sub(1) < 1 << 31)
    }

    /// Whether a packet is what the other party should see of a party's, as our router translates it.
    pub(super) fn is_translated(&self, from: Party, packet: &[u8]) -> bool {
        let Some(layout) = Layout::of(packet).filter(|layout| layout.protocol == self.protocol) else {
            return false;
        };
        let (src, dst) = match from {
            Party::Client => {
                let port = self.external[1];
                (
                    End {
                        address: self.alias,
                        port,
                    },
                    self.target,
                )
            }
            Party::Server => (self.server, self.client),
        };
        let port = |offset| super::compare::word(packet, layout.transport + offset);
        let is_later_piece = layout.fragment.is_some_and(|(offset, _)| offset != 0);
        (layout.src, layout.dst) == (src.address, dst.address)
            && (is_later_piece || (port(0), port(2)) == (Some(src.port), Some(dst.port)))
    }

    /// Notes how far a segment goes.
    fn note_segment(&mut self, from: Party, packet: &[u8]) {
        let Some(layout) = Layout::of(packet).filter(|layout| layout.protocol == 6) else {
            return;
        };
        let at = layout.transport;
        let long = |at: usize| {
            packet
                .get(at..at + 4)
                .and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))
        };
        let (Some(seq), Some(ack), Some(&flags)) = (long(at + 4), long(at + 8), packet.get(at + 13)) else {
            return;
        };
        if flags & 4 != 0 {
            return;
        }
        let header = usize::from(packet[at + 12] >> 4) * 4;
        let length = packet.len().saturating_sub(at + header) as u32;
        let end = seq.wrapping_add(length + u32::from(flags & 1) + u32::from(flags >> 1 & 1));
        let is_later = |new: u32, old: u32| new.wrapping_sub(old) < 1 << 31;
        if flags & 2 != 0 {
            let before = self.syns[from as usize].replace(seq);
            self.was_renumbered |= before.is_some_and(|number| number != seq);
        }
        let own = &mut self.sent[from as usize];
        match own {
            // A SYN may come again.
            Some([until, _]) if flags & 2 == 0 || until.wrapping_sub(seq) < 1 << 20 => {
                *until = if is_later(end, *until) { end } else { *until };
            }
            _ if flags & 2 != 0 => *own = Some([end, seq]),
            // Nothing is known of who has not begun.
            _ => {}
        }
        if let (Some([until, acknowledged]), true) =
            (&mut self.sent[from.opposite() as usize], flags & 16 != 0)
            && is_later(ack, *acknowledged)
            && is_later(*until, ack)
        {
            *acknowledged = ack;
        }
    }

    /// Notes what the other party received.
    pub(super) fn learn(&mut self, from: Party, packets: [&[u8]; 2], are_same: bool) {
        let layouts = packets.map(Layout::of);
        if are_same && layouts.iter().flatten().any(|layout| layout.fragment.is_none()) {
            self.received[from.opposite() as usize] = Some(packets.map(<[u8]>::to_vec));
        }
        self.note_segment(from, packets[0]);
        if from == Party::Server {
            return;
        }
        for (external, packet) in self.external.iter_mut().zip(packets) {
            if let Some(port) = source_port(packet, self.protocol) {
                *external = port;
            }
        }
    }
}

/// The source port, or the identifier of a query that asks.
fn source_port(packet: &[u8], protocol: u8) -> Option<u16> {
    let layout = Layout::of(packet).filter(|layout| layout.protocol == protocol)?;
    if layout.fragment.is_some_and(|(offset, _)| offset != 0) {
        return None;
    }
    let at = match protocol {
        6 | 17 | 132 => layout.transport,
        1 | 58 => layout.transport + 4,
        _ => return None,
    };
    super::compare::word(packet, at)
}

pub(super) fn version(address: IpAddr) -> IpVersion {
    if address.is_ipv4() {
        IpVersion::V4
    } else {
        IpVersion::V6
    }
}
