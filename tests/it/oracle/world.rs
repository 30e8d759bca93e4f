//! What happens: conversations that share a few hosts and ports, so that they collide and come again.

use vswitch_wire::IpVersion;

use super::{
    compare::Layout,
    errors,
    flow::{End, Flow, Party, Way},
    mischief, odd,
    packet::{self, Ends, Header, icmp_protocol},
    plan::{self, Side},
    random::Random,
    tcp::Move,
};

/// The conversations of one epoch.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) flows: Vec<Flow>,
    /// Identification of the next packet, so that a listing tells packets apart.
    id: u16,
}

/// One packet to be sent, with what it means.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) side: Side,
    /// For the kernel and for us: they differ where an external port is named.
    pub(super) packets: [Vec<u8>; 2],
    pub(super) flow: Option<usize>,
    /// Set if it is of the conversation, rather than about it.
    pub(super) from: Option<Party>,
    pub(super) what: &'static str,
    pub(super) segment: Option<Move>,
    /// Of an error that quotes a segment: whether its sequence number was sent and not acknowledged.
    pub(super) is_in_flight: Option<bool>,
}

impl Step {
    /// The flags of the segment, if it is one; else 0.
    pub(super) fn flags(&self) -> u8 {
        let packet = &self.packets[1];
        let layout = Layout::of(packet).filter(|layout| layout.protocol == 6 && layout.fragment.is_none());
        let said = self.segment.as_ref().map(|said| said.segment.flags);
        said.or_else(|| packet.get(layout?.transport + 13).copied())
            .unwrap_or_default()
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            flows: Vec::new(),
            id: 0,
        }
    }

    /// The next packets, which belong together.
    pub(super) fn next(&mut self) -> Vec<Step> {
        let kind = self.random.weighted(&[
            (76, Kind::Conversation),
            (10, Kind::Error),
            (6, Kind::Fragments),
            (8, Kind::Odd),
        ]);
        if let Kind::Odd = kind {
            return vec![odd::packet(self)];
        }
        let index = self.flow();
        match kind {
            Kind::Error => errors::about(self, index).into_iter().collect(),
            Kind::Fragments => mischief::fragments(self, index),
            Kind::Conversation | Kind::Odd => {
                let step = self.say(index);
                vec![mischief::varied(self, step)]
            }
        }
    }

    /// The step as one of the conversation that it reaches: where its own has not begun or is over, another client may have
    /// the port. `None` if each router would take it for another's.
    pub(super) fn addressed(&self, mut step: Step) -> Option<Step> {
        let (Some(index), Some(Party::Server)) = (step.flow, step.from) else {
            return Some(step);
        };
        let flow = &self.flows[index];
        if flow.protocol != 6 || flow.opinion.is_some() {
            return Some(step);
        }
        let owners = [0, 1].map(|router| {
            self.flows.iter().position(|other| {
                let is_known = other.protocol == 6 && other.opinion.is_some();
                is_known
                    && (other.target, other.alias) == (flow.target, flow.alias)
                    && other.external[router] == flow.external[router]
            })
        });
        let [owner, other] = owners;
        step.flow = owner.or(step.flow);
        (owner == other).then_some(step)
    }

    /// Notes what became of a step for which both routers did the same.
    pub(super) fn learn(&mut self, step: &Step, outputs: [&[(Side, Vec<u8>)]; 2], are_same: bool) {
        let (Some(index), Some(from)) = (step.flow, step.from) else {
            return;
        };
        let flow = &mut self.flows[index];
        let there = flow.side(from.opposite());
        // An error comes back to where the packet came from, and a packet inside may go back there, too.
        let first = outputs.map(|outputs| match outputs {
            [(side, packet)] if *side == there => Some(packet),
            [(side, packet), ..] if *side == there => Some(packet),
            _ => None,
        });
        let [Some(kernel), Some(ours)] = first else { return };
        if errors::is_error(kernel) {
            return;
        }
        flow.learn(from, [kernel, ours], are_same);
        flow.turns += 1;
        if let Some(said) = &step.segment {
            flow.tcp.arrived(said);
        }
    }

    /// Ends a conversation over which the routers have parted, and those that want its external port.
    pub(super) fn burn(&mut self, index: usize) {
        let parted = self.flows[index].clone();
        for flow in &mut self.flows {
            flow.is_burnt |= flow.meets(&parted) && flow.client.port == parted.client.port;
        }
        self.flows[index].is_burnt = true;
    }

    /// A header as most are.
    pub(super) fn header(&mut self) -> Header {
        self.id = self.id.wrapping_add(1);
        Header::plain(self.id)
    }

    /// A conversation that exists, or a new one.
    fn flow(&mut self) -> usize {
        if !self.random.percent(6) {
            let live: Vec<usize> = (0..self.flows.len())
                .filter(|&index| !self.flows[index].is_burnt)
                .collect();
            if !live.is_empty() {
                // The later ones more often, so that some come to their end.
                let from = live.len().saturating_sub(12);
                let among = if self.random.percent(80) {
                    &live[from..]
                } else {
                    &live
                };
                return self.random.pick(among);
            }
        }
        let flow = self.new_flow();
        let same = |other: &Flow| {
            other.protocol == flow.protocol
                && (other.server.address, other.server.port) == (flow.server.address, flow.server.port)
                && other.client.port == flow.client.port
        };
        // Whoever has the very tuple goes on; what was burnt is not touched again, by any host.
        match self
            .flows
            .iter()
            .position(|other| same(other) && (other.is_burnt || other.client == flow.client))
        {
            Some(index) if self.flows[index].is_burnt => self.flow(),
            Some(index) => index,
            None => {
                self.flows.push(flow);
                self.flows.len() - 1
            }
        }
    }

    fn new_flow(&mut self) -> Flow {
        let random = &mut self.random;
        let version = random.weighted(&[(70, IpVersion::V4), (30, IpVersion::V6)]);
        let protocol = random.weighted(&[
            (50, 6),
            (25, 17),
            (12, icmp_protocol(version)),
            (3, 132),
            (2, 47),
            (2, 50),
        ]);
        let way = match protocol {
            6 | 17 => random.weighted(&[(70, Way::Outbound), (20, Way::Published), (10, Way::Hairpin)]),
            _ => Way::Outbound,
        };
        let (near, far) = match way {
            Way::Outbound => (Side::Inside, Side::Outside),
            Way::Published => (Side::Outside, Side::Inside),
            Way::Hairpin => (Side::Inside, Side::Inside),
        };
        let port = random.pick(&[5000, 5000, 5001, 5002, 40_000, 300, 301, 700, 8080, 5353]);
        let port = if random.percent(30) {
            1024 + random.below(64_000) as u16
        } else {
            port
        };
        let caller = random.pick(&[2, 3, 4]);
        let client = End {
            address: plan::host(near, version, caller),
            port: if matches!(protocol, 47 | 50) { 0 } else { port },
        };
        let (server, target) = match way {
            Way::Outbound => {
                let port = match protocol {
                    6 | 17 | 132 => random.pick(&[80, 53, 443]),
                    _ => 0,
                };
                let last = random.pick(&[2, 3]);
                let server = End {
                    address: plan::host(far, version, last),
                    port,
                };
                (server, server)
            }
            Way::Published | Way::Hairpin => {
                let published: Vec<_> = plan::PUBLISHED
                    .iter()
                    .filter(|entry| entry.0.0 == protocol && entry.1 == version)
                    .collect();
                let (_, _, [first, last], target, base) = *random.pick(&published);
                let offset = random.below(u32::from(last - first) + 1) as u16;
                let server = End {
                    address: plan::router(Side::Outside, version),
                    port: first + offset,
                };
                let target = End {
                    address: plan::host(Side::Inside, version, target),
                    port: base + offset,
                };
                (server, target)
            }
        };
        Flow::new(protocol, way, client, server, target)
    }

    /// The next packet of a conversation.
    pub(super) fn say(&mut self, index: usize) -> Step {
        let header = self.header();
        let flow = &self.flows[index];
        let random = &mut self.random;
        if flow.protocol == 6 {
            let said = flow.tcp.next(random);
            let (from, what) = (said.from, said.what);
            let packets = flow
                .ends(from)
                .map(|ends| header.packet(&ends, 6, &packet::tcp(&ends, &said.segment)));
            return self.step(index, from, what, packets, Some(said));
        }
        let turn = match flow.protocol {
            // Mostly the next one, sometimes another.
            132 if random.percent(85) => ASSOCIATION[flow.turns.min(ASSOCIATION.len() - 1)],
            132 => random.pick(ASSOCIATION),
            _ if random.percent(60) => (Party::Client, 0, 0),
            _ => (Party::Server, 0, 0),
        };
        let (from, kind, tag) = turn;
        let length = random.pick(&[0, 1, 7, 40, 500]);
        let payload = random.bytes(length);
        let word = random.next() as u32;
        let is_timestamp = flow.client.port % 5 == 3;
        let (protocol, v4) = (flow.protocol, flow.version() == IpVersion::V4);
        let packets = flow.ends(from).map(|ends| {
            let content = match protocol {
                17 => packet::udp(&ends, &payload),
                132 => packet::sctp(&ends, tag, kind, &sctp_value(kind)),
                // The kernel does not translate what has less than eight bytes.
                47 => [&[0, 0, 0x08, 0x00, 0, 0, 0, 0], &payload[..]].concat(),
                50 => [&word.to_be_bytes(), &[0, 0, 0, 1], &payload[..]].concat(),
                _ => {
                    let request = match (v4, is_timestamp) {
                        (true, true) => [13, 14],
                        (true, false) => [8, 0],
                        (false, _) => [128, 129],
                    };
                    query(&ends, from, request, &payload)
                }
            };
            header.packet(&ends, protocol, &content)
        });
        let what = match from {
            Party::Client => "packet of the client",
            Party::Server => "packet of the server",
        };
        self.step(index, from, what, packets, None)
    }

    pub(super) fn step(
        &self,
        index: usize,
        from: Party,
        what: &'static str,
        packets: [Vec<u8>; 2],
        segment: Option<Move>,
    ) -> Step {
        Step {
            side: self.flows[index].side(from),
            packets,
            flow: Some(index),
            from: Some(from),
            what,
            segment,
            is_in_flight: None,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Conversation,
    Error,
    Fragments,
    Odd,
}

fn query(ends: &Ends, from: Party, [request, reply]: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let (kind, id) = match from {
        Party::Client => (request, ends.src_port),
        Party::Server => (reply, ends.dst_port),
    };
    packet::icmp(ends, kind, 0, &[&id.to_be_bytes(), &[0, 1], payload].concat())
}

/// An SCTP association from beginning to end: who sends which chunk (RFC 9260 §3.2) with which tag.
const ASSOCIATION: &[(Party, u8, u32)] = &[
    (Party::Client, 1, 0),
    (Party::Server, 2, 1),
    (Party::Client, 10, 2),
    (Party::Server, 11, 1),
    (Party::Client, 0, 2),
    (Party::Server, 3, 1),
    (Party::Server, 4, 1),
    (Party::Client, 5, 2),
    (Party::Server, 0, 1),
    (Party::Client, 3, 2),
    (Party::Client, 7, 2),
    (Party::Server, 8, 1),
    (Party::Client, 14, 2),
];

/// What chunks of that type begin with (RFC 9260 §3.3).
fn sctp_value(kind: u8) -> Vec<u8> {
    match kind {
        // Tag, window, streams out and in, first sequence number.
        1 => vec![0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
        // The same and a cookie.
        2 => [
            &[0, 0, 0, 2, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1],
            &[0, 7, 0, 8, 9, 9, 9, 9][..],
        ]
        .concat(),
        0 => vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        3 => vec![0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0],
        4 | 5 => vec![0, 1, 0, 8, 1, 2, 3, 4],
        7 => vec![0, 0, 0, 1],
        10 => vec![9; 4],
        _ => Vec::new(),
    }
}
