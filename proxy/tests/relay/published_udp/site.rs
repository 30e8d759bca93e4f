//! A relay with a published UDP port, its container, and clients of it.

use std::{
    collections::HashMap,
    hash::RandomState,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use mio::{Events, Poll, Registry, Token};
use socket2::{Domain, Socket, Type};
use vswitch_proxy::{
    Delivery, Hop, Link, Outbound, Relay, Scratch, SocketId,
    config::{Descriptors, Limits, Policy, RelayConfig, Source, Timeouts},
    listing::Protocol,
    publish::{Backend, Bound, Connections, Listener, MappingId, MappingSpec, Rules},
    relay::Readiness,
};
use vswitch_testkit::Clock;
use vswitch_wire::{
    Gso, GsoKind, MacAddr, Offload, PartialChecksum, Refusal,
    segment::{Segmenter, complete_checksum},
};

pub(crate) const CONTAINER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const CONTAINER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
pub(crate) const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CONTAINER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const CONTAINER_PORT: u16 = 5353;
pub(crate) const ENDPOINT: u32 = 3;
pub(crate) const MAPPING: MappingId = MappingId(7);

/// A relay, its poll set, and what it sent.
pub(crate) struct Site {
    pub(crate) relay: Relay,
    pub(crate) clock: Clock,
    poll: Poll,
    scratch: Scratch,
    registry: Registry,
    pub(crate) backend: Backend,
    sent: Vec<(Vec<u8>, Offload)>,
}

/// The packet loop of the test.
pub(crate) struct Gate<'a> {
    registry: &'a Registry,
    sent: &'a mut Vec<(Vec<u8>, Offload)>,
}

impl Link for Gate<'_> {
    fn send(&mut self, frame: &mut [u8], offload: Offload) -> Delivery {
        assert_eq!(
            offload.header().validate(frame),
            Ok(offload),
            "a device would refuse it"
        );
        self.sent.push((frame.to_vec(), offload));
        Delivery::Sent
    }

    fn refuse(&mut self, endpoint: u32, _: &mut [u8], _: Offload, _: Refusal) {
        assert_eq!(endpoint, ENDPOINT);
    }

    fn registry(&self) -> &Registry {
        self.registry
    }

    fn token(&self, socket: SocketId) -> Token {
        Token(socket.0 as usize)
    }
}

/// A datagram as the container gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) payload: Vec<u8>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with_limits(|_| {})
    }

    pub(crate) fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let clock = Clock::new();
        let mut limits = Limits::new(Arc::new(Descriptors::new(1000)));
        change(&mut limits);
        let config = RelayConfig {
            gateway_mac: MacAddr(GATEWAY_MAC),
            gateways: vec![GATEWAY_V4.into(), GATEWAY_V6.into()],
            mtu: 1500,
            policy: Policy {
                host_loopback: true,
                ..Policy::default()
            },
            source: Source::default(),
            limits,
            timeouts: Timeouts::default(),
            published: Arc::default(),
        };
        let poll = Poll::new().expect("a poll set");
        let registry = poll.registry().try_clone().expect("a registry");
        Self {
            relay: Relay::new(clock.now(), config, RandomState::new()),
            clock,
            poll,
            scratch: Scratch::new(),
            registry,
            backend: Backend {
                endpoint: ENDPOINT,
                station: MacAddr(CONTAINER_MAC),
                v4: Some(CONTAINER_V4),
                v6: Some(CONTAINER_V6),
                routed_v4: true,
                routed_v6: true,
                on_link: Arc::new([]),
                sockets: None,
            },
            sent: Vec::new(),
        }
    }

    /// Publishes a port of the host's choice, and gives it.
    pub(crate) fn publish(&mut self, bound: (IpAddr, bool), rules: Rules) -> u16 {
        self.publish_if_possible(bound, rules).expect("IPv4")
    }

    /// As [`publish`](Self::publish); `None` where the host has no such address.
    pub(crate) fn publish_if_possible(
        &mut self,
        (address, dual_stack): (IpAddr, bool),
        rules: Rules,
    ) -> Option<u16> {
        let address = SocketAddr::new(address, 0);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).ok()?;
        if dual_stack {
            socket.set_only_v6(false).expect("IPV6_V6ONLY");
        }
        if socket.bind(&address.into()).is_err() {
            println!("skipped: {address} is not here");
            return None;
        }
        let address = socket
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("an IP address");
        let listener = Listener {
            socket: socket.into(),
            bound: Bound { address, dual_stack },
            container_port: CONTAINER_PORT,
        };
        self.publish_listeners(MAPPING, vec![listener], rules)
            .expect("published");
        Some(address.port())
    }

    pub(crate) fn publish_listeners(
        &mut self,
        id: MappingId,
        listeners: Vec<Listener>,
        rules: Rules,
    ) -> io::Result<()> {
        let spec = MappingSpec {
            id,
            protocol: Protocol::Udp,
            backend: self.backend.clone(),
            rules,
        };
        self.with_gate(|relay, now, _, gate| relay.publish(now, spec, listeners, gate))
    }

    pub(crate) fn unpublish(&mut self, id: MappingId) -> Vec<Listener> {
        let taken = self.with_gate(|relay, now, scratch, gate| {
            relay.unpublish(now, id, Connections::Keep, scratch, gate)
        });
        taken.expect("it was published")
    }

    pub(crate) fn relay_removes_all(&mut self) {
        self.with_gate(|relay, now, scratch, gate| relay.remove_all(now, scratch, gate));
    }

    pub(crate) fn with_gate<R>(
        &mut self,
        act: impl FnOnce(&mut Relay, std::time::Instant, &mut Scratch, &mut Gate<'_>) -> R,
    ) -> R {
        let mut gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
        };
        act(&mut self.relay, self.clock.now(), &mut self.scratch, &mut gate)
    }

    /// Handles the readiness that there is now; whether there was any.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut events = Events::with_capacity(64);
        self.poll
            .poll(&mut events, Some(Duration::ZERO))
            .expect("readiness");
        for event in &events {
            let readiness = Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                error: event.is_error(),
            };
            let id = SocketId(event.token().0 as u32);
            self.with_gate(|relay, now, scratch, gate| relay.handle_ready(now, id, readiness, scratch, gate));
        }
        !events.is_empty()
    }

    /// Handles everything that has happened. The loopback device delivers before a call that sends returns.
    pub(crate) fn runs(&mut self) {
        while self.is_ready() || self.relay.has_turns() {
            self.with_gate(|relay, now, scratch, gate| relay.take_turns(now, 64, scratch, gate));
        }
    }

    pub(crate) fn times_out(&mut self) {
        self.with_gate(|relay, now, scratch, gate| relay.handle_timeout(now, scratch, gate));
    }

    pub(crate) fn passes(&mut self, time: Duration) {
        self.clock.advance(time);
        self.times_out();
    }

    /// The datagrams that have come for the container, exactly so many.
    pub(crate) fn receives(&mut self, count: usize) -> Vec<Arrived> {
        self.runs();
        let arrived = self.taken();
        assert_eq!(arrived.len(), count, "{arrived:?}");
        arrived
    }

    pub(crate) fn taken(&mut self) -> Vec<Arrived> {
        self.take_frames().iter().flat_map(datagrams_of).collect()
    }

    pub(crate) fn take_frames(&mut self) -> Vec<(Vec<u8>, Offload)> {
        std::mem::take(&mut self.sent)
    }

    /// The errors that have come for the container: whom its datagram was for, and what it was.
    pub(crate) fn errors(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        self.take_frames()
            .iter()
            .map(|(frame, _)| unreachable(frame))
            .collect()
    }

    /// The container answers to a datagram.
    pub(crate) fn answers(&mut self, to: &Arrived, payload: &[u8]) {
        let mut frame = frame_of(to, payload);
        self.sends(&mut frame, Offload::NONE, Hop::Gateway);
    }

    /// The container answers with several datagrams of that size in one super-frame.
    pub(crate) fn answers_segmented(&mut self, to: &Arrived, payload: &[u8], size: u16) {
        let mut frame = frame_of(to, payload);
        let offload = Offload {
            checksum: Some(PartialChecksum { start: 34, offset: 6 }),
            gso: Some(Gso {
                kind: GsoKind::Udp,
                ecn: false,
                size,
                header_len: 42,
            }),
            data_valid: false,
        };
        self.sends(&mut frame, offload, Hop::Gateway);
    }

    pub(crate) fn sends(&mut self, frame: &mut [u8], offload: Offload, hop: Hop) {
        let outbound = Outbound {
            endpoint: ENDPOINT,
            frame,
            offload,
            hop,
        };
        self.with_gate(|relay, now, scratch, gate| relay.handle_packet(now, outbound, scratch, gate));
    }

    /// What the mapping has counted, and how many clients it has.
    pub(crate) fn counters(&self) -> (HashMap<&'static str, u64>, u32) {
        let view = self.relay.mappings().next().expect("a mapping");
        let counters = view.counters.into_iter().filter(|&(_, count)| count > 0);
        (counters.collect(), view.active)
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let mut counters = self.relay.counters();
        counters
            .find(|&(known, _)| known == name)
            .map_or(0, |(_, count)| count)
    }
}

pub(crate) fn counted(counters: &[(&'static str, u64)], active: u32) -> (HashMap<&'static str, u64>, u32) {
    let counters = counters.iter().copied().filter(|&(_, count)| count > 0);
    (counters.collect(), active)
}

/// The datagrams of a frame as other software reads them, checksums and all.
pub(crate) fn datagrams_of((frame, offload): &(Vec<u8>, Offload)) -> Vec<Arrived> {
    let mut frames = Vec::new();
    if offload.gso.is_some() {
        let mut segments = Segmenter::new(frame, offload).expect("it fits");
        while let Some(segment) = segments.next_segment() {
            frames.push([segment.header, segment.payload].concat());
        }
    } else {
        let mut frame = frame.clone();
        if let Some(partial) = offload.checksum {
            complete_checksum(&mut frame, partial).expect("it fits");
        }
        frames.push(frame);
    }
    frames.iter().map(|frame| datagram_of(frame)).collect()
}

fn datagram_of(frame: &[u8]) -> Arrived {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        panic!("no UDP: {packet:?}");
    };
    let header = udp.to_header();
    // R-UDP-14.
    assert_ne!(header.checksum, 0);
    let (from, to, checksum): (IpAddr, IpAddr, _) = match packet.net.expect("IP") {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            let checksum = header.calc_checksum_ipv4(&ip, udp.payload());
            (ip.source.into(), ip.destination.into(), checksum)
        }
        NetSlice::Ipv6(ip) => {
            let ip = ip.header().to_header();
            let checksum = header.calc_checksum_ipv6(&ip, udp.payload());
            (ip.source.into(), ip.destination.into(), checksum)
        }
        net => panic!("no IP: {net:?}"),
    };
    assert_eq!(Ok(header.checksum), checksum);
    Arrived {
        from: SocketAddr::new(from, header.source_port),
        to: SocketAddr::new(to, header.destination_port),
        payload: udp.payload().to_vec(),
    }
}

/// What a port unreachable quotes: where the container's datagram went, and what it was.
fn unreachable(frame: &[u8]) -> (SocketAddr, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
    let quoted = match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 3));
            icmp.payload()
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (1, 4));
            icmp.payload()
        }
        _ => panic!("no ICMP: {packet:?}"),
    };
    let quoted = SlicedPacket::from_ip(quoted).expect("a packet");
    let Some(TransportSlice::Udp(udp)) = &quoted.transport else {
        panic!("no UDP: {quoted:?}");
    };
    let (src, dst): (IpAddr, IpAddr) = match &quoted.net {
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        _ => panic!("no IP: {quoted:?}"),
    };
    assert!([IpAddr::from(CONTAINER_V4), CONTAINER_V6.into()].contains(&src));
    assert_eq!(udp.source_port(), CONTAINER_PORT);
    (
        SocketAddr::new(dst, udp.destination_port()),
        udp.payload().to_vec(),
    )
}

/// The container's frame to where a datagram came from.
fn frame_of(to: &Arrived, payload: &[u8]) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2(CONTAINER_MAC, GATEWAY_MAC);
    let ip = match (to.to.ip(), to.from.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), 64),
        ends => panic!("two versions: {ends:?}"),
    };
    let udp = ip.udp(to.to.port(), to.from.port());
    let mut frame = Vec::new();
    udp.write(&mut frame, payload).expect("written");
    frame
}

/// A client that takes answers from that address only.
pub(crate) fn client(asked: SocketAddr) -> UdpSocket {
    let any: IpAddr = match asked {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = UdpSocket::bind((any, 0)).expect("a socket");
    client.connect(asked).expect("connected");
    client
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a timeout");
    client
}

pub(crate) fn receive(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let len = client.recv(&mut buffer).expect("an answer");
    buffer.truncate(len);
    buffer
}

pub(crate) fn local_port(client: &UdpSocket) -> u16 {
    client.local_addr().expect("an address").port()
}

pub(crate) const ANY_V4: (IpAddr, bool) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), false);
pub(crate) const DUAL_STACK: (IpAddr, bool) = (IpAddr::V6(Ipv6Addr::UNSPECIFIED), true);
