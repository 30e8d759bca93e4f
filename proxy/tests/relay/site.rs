//! A relay whose container is the test, and whose host sockets are real.

use std::{
    collections::hash_map::RandomState,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use mio::{Events, Poll, Registry, Token};
use vswitch_proxy::{
    Delivery, Hop, Link, Outbound, Relay, Scratch, SocketId,
    config::{Denial, Descriptors, Limits, Policy, RelayConfig, Source, Timeouts},
    publish::{Connections, Listener, MappingId, MappingSpec},
    relay::Readiness,
};
use vswitch_testkit::{Clock, frames::mac};
use vswitch_wire::{
    EtherType, EthernetHeader, IpProtocol, Ipv4Header, Ipv4Packet, Offload, PartialChecksum, Refusal,
    TcpFlags, TcpHeader, TcpSegment, checksum, segment::complete_checksum,
};
use zerocopy::IntoBytes;

use crate::segment::Segment;

pub(crate) const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(crate) const ENDPOINT: u32 = 3;

/// A relay, its poll set, and what it sent.
pub(crate) struct Site {
    pub(crate) relay: Relay,
    pub(crate) clock: Clock,
    pub(crate) poll: Poll,
    pub(crate) scratch: Scratch,
    pub(crate) registry: Registry,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) refused: Vec<Refusal>,
}

/// The packet loop of the test.
struct Gate<'a> {
    registry: &'a Registry,
    sent: &'a mut Vec<Vec<u8>>,
    refused: &'a mut Vec<Refusal>,
}

impl Link for Gate<'_> {
    fn send(&mut self, frame: &mut [u8], offload: Offload) -> Delivery {
        let mut frame = frame.to_vec();
        if let Some(partial) = offload.checksum {
            complete_checksum(&mut frame, partial).expect("the offload fits the frame");
        }
        self.sent.push(frame);
        Delivery::Sent
    }

    fn refuse(&mut self, endpoint: u32, _: &mut [u8], _: Offload, refusal: Refusal) {
        assert_eq!(endpoint, ENDPOINT);
        self.refused.push(refusal);
    }

    fn registry(&self) -> &Registry {
        self.registry
    }

    fn token(&self, socket: SocketId) -> Token {
        Token(socket.0 as usize)
    }
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
            gateway_mac: mac(1),
            gateways: vec![GATEWAY.into()],
            mtu: 1500,
            policy: Policy {
                host_loopback: true,
                metadata: false,
                denied: Denial::Reset,
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
            sent: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// The container sends segments to `to`, all in one batch.
    pub(crate) fn sends(&mut self, to: (Ipv4Addr, u16), segments: &[Segment]) {
        self.sends_from(40_000, to, segments);
    }

    /// The same from another port of it.
    pub(crate) fn sends_from(&mut self, port: u16, to: (Ipv4Addr, u16), segments: &[Segment]) {
        for segment in segments {
            let mut frame = frame(port, to, segment);
            let hop = match to.0 {
                GATEWAY => Hop::Gateway,
                _ => Hop::Beyond,
            };
            let outbound = Outbound {
                endpoint: ENDPOINT,
                frame: &mut frame,
                offload: Offload::NONE,
                hop,
            };
            let mut gate = Gate {
                registry: &self.registry,
                sent: &mut self.sent,
                refused: &mut self.refused,
            };
            self.relay
                .handle_packet(self.clock.now(), outbound, &mut self.scratch, &mut gate);
        }
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        let mut gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
            refused: &mut self.refused,
        };
        self.relay.flush(self.clock.now(), &mut self.scratch, &mut gate);
    }

    /// Handles readiness of sockets until the container has got something.
    pub(crate) fn answered(&mut self) -> Vec<String> {
        self.wait();
        self.out()
    }

    /// Handles readiness of sockets until something has happened.
    pub(crate) fn waits_until(&mut self, mut has_happened: impl FnMut(&Self) -> bool) {
        for _ in 0..100 {
            self.take_turns();
            if has_happened(self) {
                return;
            }
            self.handle_events();
        }
        panic!("it did not happen");
    }

    /// Handles readiness of sockets until the container has got something, or a while has passed.
    pub(crate) fn wait(&mut self) {
        for _ in 0..100 {
            self.take_turns();
            if !self.sent.is_empty() {
                return;
            }
            self.handle_events();
        }
    }

    fn handle_events(&mut self) {
        let mut events = Events::with_capacity(64);
        self.poll
            .poll(&mut events, Some(Duration::from_millis(100)))
            .expect("readiness");
        for event in &events {
            let readiness = Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                error: event.is_error(),
            };
            let mut gate = Gate {
                registry: &self.registry,
                sent: &mut self.sent,
                refused: &mut self.refused,
            };
            let id = SocketId(event.token().0 as u32);
            self.relay
                .handle_ready(self.clock.now(), id, readiness, &mut self.scratch, &mut gate);
        }
        self.flush();
    }

    /// What the container has got.
    pub(crate) fn out(&mut self) -> Vec<String> {
        self.sent
            .drain(..)
            .map(|frame| line(&segment_of(&frame)))
            .collect()
    }

    /// Publishes ports; each listener leads to the container's port with it.
    pub(crate) fn publish(&mut self, spec: MappingSpec, listeners: Vec<Listener>) -> io::Result<()> {
        let gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
            refused: &mut self.refused,
        };
        self.relay.publish(self.clock.now(), spec, listeners, &gate)
    }

    pub(crate) fn unpublish(&mut self, id: MappingId, connections: Connections) -> Option<Vec<Listener>> {
        let mut gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
            refused: &mut self.refused,
        };
        self.relay
            .unpublish(self.clock.now(), id, connections, &mut self.scratch, &mut gate)
    }

    pub(crate) fn remove_endpoint(&mut self) {
        let mut gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
            refused: &mut self.refused,
        };
        self.relay
            .remove_endpoint(self.clock.now(), ENDPOINT, &mut self.scratch, &mut gate);
    }

    /// Lets time pass.
    pub(crate) fn runs(&mut self, by: Duration) {
        self.clock.advance(by);
        let mut gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
            refused: &mut self.refused,
        };
        self.relay
            .handle_timeout(self.clock.now(), &mut self.scratch, &mut gate);
        self.take_turns();
    }

    /// Lets sockets that stopped at their budget go on.
    pub(crate) fn take_turns(&mut self) {
        for _ in 0..1000 {
            if !self.relay.has_turns() {
                return self.flush();
            }
            let mut gate = Gate {
                registry: &self.registry,
                sent: &mut self.sent,
                refused: &mut self.refused,
            };
            self.relay
                .take_turns(self.clock.now(), 16, &mut self.scratch, &mut gate);
        }
        panic!("turns without end");
    }

    /// What was sent to the container, as it came.
    pub(crate) fn frames(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.sent)
    }

    /// Opens a connection; what the container sends next.
    pub(crate) fn connects(&mut self, to: (Ipv4Addr, u16), isn: u32) -> Segment {
        self.sends(to, &[Segment::syn(isn, 1460)]);
        let out = self.answered();
        let [synack] = &out[..] else { panic!("{out:?}") };
        let words: Vec<_> = synack.split(' ').collect();
        assert_eq!((words[0], words[3]), ("SA", (isn + 1).to_string().as_str()));
        let ours: u32 = words[1].parse().expect("a number");
        let ack = Segment::ack(isn + 1, ours.wrapping_add(1));
        self.sends(to, std::slice::from_ref(&ack));
        assert_eq!(self.out(), [""; 0]);
        ack
    }
}

/// The frame of a segment from the container.
pub(crate) fn frame(src_port: u16, (dst, port): (Ipv4Addr, u16), segment: &Segment) -> Vec<u8> {
    let mut tcp = segment.bytes();
    tcp[..2].copy_from_slice(&src_port.to_be_bytes());
    tcp[2..4].copy_from_slice(&port.to_be_bytes());
    let pseudo_header = checksum::pseudo_header_v4(CONTAINER, dst, IpProtocol::TCP, tcp.len() as u16);
    let place = usize::from(TcpHeader::CHECKSUM_OFFSET);
    tcp[place..place + 2].copy_from_slice(&checksum::fold(pseudo_header).to_be_bytes());
    let ethernet = EthernetHeader {
        dst: mac(1),
        src: mac(2),
        ethertype: EtherType::IPV4,
    };
    let ip = Ipv4Header::new(CONTAINER, dst, IpProtocol::TCP, tcp.len()).expect("fits a packet");
    let mut frame = [ethernet.as_bytes(), ip.as_bytes(), &tcp].concat();
    let partial = PartialChecksum {
        start: (EthernetHeader::LEN + Ipv4Header::LEN) as u16,
        offset: TcpHeader::CHECKSUM_OFFSET,
    };
    complete_checksum(&mut frame, partial).expect("made for this frame");
    frame
}

pub(crate) fn segment_of(frame: &[u8]) -> TcpSegment<'_> {
    let (_, rest) = EthernetHeader::parse(frame).expect("a frame");
    let packet = Ipv4Packet::parse(rest).expect("a packet");
    assert_eq!(packet.header().dst(), CONTAINER);
    let segment = TcpSegment::parse(packet.payload()).expect("a segment");
    let sum = checksum::pseudo_header_v4(
        packet.header().src(),
        CONTAINER,
        IpProtocol::TCP,
        packet.payload().len() as u16,
    );
    assert!(packet.has_valid_checksum() && segment.has_valid_checksum(sum));
    segment
}

pub(crate) fn line(segment: &TcpSegment<'_>) -> String {
    let header = segment.header();
    let mut line = format!("{} {}", header.flags(), header.sequence());
    if header.flags().contains(TcpFlags::ACK) {
        line += &format!(" ack {}", header.acknowledgment());
    }
    line
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}
