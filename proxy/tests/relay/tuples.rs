//! Which connection a segment belongs to: the reference's vectors about more than one (T15, T15b, T17, T18), and
//! what limits new ones (R-OUT-6, R-LIM-2). The relay's host sockets are real and lead to a listener on the
//! loopback; waiting for them is waiting for the kernel, never a sleep.

use std::{
    collections::hash_map::RandomState,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use mio::{Events, Poll, Registry, Token};
use vswitch_proxy::{
    Delivery, Hop, Link, Outbound, Relay, Scratch, SocketId,
    config::{Denial, Descriptors, Limits, Policy, RelayConfig, Source, Timeouts},
    relay::Readiness,
};
use vswitch_testkit::{Clock, frames::mac};
use vswitch_wire::{
    EtherType, EthernetHeader, IpProtocol, Ipv4Header, Ipv4Packet, Offload, PartialChecksum, Refusal,
    TcpFlags, TcpHeader, TcpSegment, checksum, segment::complete_checksum,
};
use zerocopy::IntoBytes;

use crate::segment::Segment;

const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const ENDPOINT: u32 = 3;

/// A relay, its poll set, and what it sent.
struct Site {
    relay: Relay,
    clock: Clock,
    poll: Poll,
    scratch: Scratch,
    registry: Registry,
    sent: Vec<Vec<u8>>,
    refused: Vec<Refusal>,
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
    fn new() -> Self {
        Self::with_limits(|_| {})
    }

    fn with_limits(change: impl FnOnce(&mut Limits)) -> Self {
        let clock = Clock::new();
        let mut limits = Limits::new(Arc::new(Descriptors::new(1000)));
        change(&mut limits);
        let config = RelayConfig {
            gateway_mac: mac(1),
            gateways: Vec::new(),
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
    fn sends(&mut self, to: (Ipv4Addr, u16), segments: &[Segment]) {
        for segment in segments {
            let mut frame = frame(to, segment);
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

    fn flush(&mut self) {
        let mut gate = Gate {
            registry: &self.registry,
            sent: &mut self.sent,
            refused: &mut self.refused,
        };
        self.relay.flush(self.clock.now(), &mut self.scratch, &mut gate);
    }

    /// Handles readiness of sockets until the container has got something.
    fn answered(&mut self) -> Vec<String> {
        let mut events = Events::with_capacity(64);
        for _ in 0..100 {
            if !self.sent.is_empty() {
                break;
            }
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
        self.out()
    }

    /// What the container has got.
    fn out(&mut self) -> Vec<String> {
        self.sent
            .drain(..)
            .map(|frame| line(&segment_of(&frame)))
            .collect()
    }

    /// Opens a connection; what the container sends next.
    fn connects(&mut self, to: (Ipv4Addr, u16), isn: u32) -> Segment {
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
fn frame((dst, port): (Ipv4Addr, u16), segment: &Segment) -> Vec<u8> {
    let mut tcp = segment.bytes();
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

fn segment_of(frame: &[u8]) -> TcpSegment<'_> {
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

fn line(segment: &TcpSegment<'_>) -> String {
    let header = segment.header();
    let mut line = format!("{} {}", header.flags(), header.sequence());
    if header.flags().contains(TcpFlags::ACK) {
        line += &format!(" ack {}", header.acknowledgment());
    }
    line
}

/// A listener on the host's loopback, and how a container names it.
fn listener() -> (TcpListener, (Ipv4Addr, u16)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    (listener, (GATEWAY, port))
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("a connection");
    let patience = Some(Duration::from_secs(10));
    stream.set_read_timeout(patience).expect("a timeout");
    stream
}

/// Both ends have ended their streams, the server first; the container's last segment.
fn closed(site: &mut Site, listener: &TcpListener, to: (Ipv4Addr, u16), isn: u32) -> Segment {
    let ack = site.connects(to, isn);
    drop(accept(listener));
    let out = site.answered();
    assert_eq!(out, [format!("FA {} ack {}", ack.ack.0, isn + 1)]);
    let last = Segment::ack(isn + 1, ack.ack.0.wrapping_add(1)).fin();
    site.sends(to, std::slice::from_ref(&last));
    assert_eq!(site.out(), [format!("A {} ack {}", last.ack.0, isn + 2)]);
    assert!(site.relay.is_empty());
    last
}

#[test]
fn t15_stale() {
    let mut site = Site::new();
    site.sends((OUTSIDE, 80), &[Segment::ack(77, 88)]);
    assert_eq!(site.out(), ["R 88"]);
    site.sends((OUTSIDE, 80), &[Segment::ack(77, 88).payload(b"data").fin()]);
    assert_eq!(site.out(), ["R 88"]);
    site.sends((OUTSIDE, 80), &[Segment::reset(77)]);
    assert_eq!(site.out(), [""; 0], "a reset is never answered");
}

#[test]
fn t15b_stale_without_ack() {
    let mut site = Site::new();
    let fin = Segment::ack(77, 0).flags(TcpFlags::FIN);
    site.sends((OUTSIDE, 80), std::slice::from_ref(&fin));
    assert_eq!(site.out(), ["RA 0 ack 78"]);
    site.sends((OUTSIDE, 80), &[fin.payload(b"four")]);
    assert_eq!(site.out(), ["RA 0 ack 82"]);
}

#[test]
fn r_cl_5_resets_of_strays_are_limited() {
    let mut site = Site::new();
    for _ in 0..10_000 {
        site.sends((OUTSIDE, 80), &[Segment::ack(77, 88)]);
    }
    let answers = site.out().len();
    assert!((1..5000).contains(&answers), "{answers}");
}

#[test]
fn r_cl_4_a_repeated_fin_is_answered_for_a_minute() {
    let (listener, to) = listener();
    let mut site = Site::new();
    let fin = closed(&mut site, &listener, to, 1000);
    let answer = format!("A {} ack 1002", fin.ack.0);
    site.clock.advance(Duration::from_secs(59));
    site.sends(to, std::slice::from_ref(&fin));
    assert_eq!(site.out(), [answer]);
    site.clock.advance(Duration::from_secs(2));
    site.sends(to, std::slice::from_ref(&fin));
    assert_eq!(site.out(), [format!("R {}", fin.ack.0)], "forgotten");
}

#[test]
fn t17_reuse() {
    let (listener, to) = listener();
    let mut site = Site::new();
    closed(&mut site, &listener, to, 1000);
    site.clock.advance(Duration::from_millis(900));
    site.connects(to, 101_000);
    assert_eq!(site.relay.len(), 1);
    accept(&listener).write_all(b"new").expect("connected");
    assert_eq!(site.answered().len(), 1);
}

#[test]
fn t18_a_reset_and_a_new_syn_in_one_batch() {
    let (listener, to) = listener();
    let mut site = Site::new();
    site.connects(to, 1000);
    let mut old = accept(&listener);
    site.sends(to, &[Segment::reset(1001), Segment::syn(500_000, 1460)]);
    let error = old.read(&mut [0]).expect_err("the server sees a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let out = site.answered();
    assert!(out.len() == 1 && out[0].ends_with("ack 500001"), "{out:?}");
    accept(&listener);
    assert_eq!(site.relay.len(), 1);
}

#[test]
fn t18_a_syn_of_another_connection_replaces_a_pending_one() {
    let (listener, to) = listener();
    let mut site = Site::new();
    site.sends(to, &[Segment::syn(1000, 1460), Segment::syn(500_000, 1460)]);
    let out = site.answered();
    let last = out.last().expect("an answer");
    assert!(last.starts_with("SA") && last.ends_with("ack 500001"), "{out:?}");
    assert_eq!(site.relay.len(), 1);
    drop(listener);
}

#[test]
fn r_out_2_a_closed_port_of_the_host_refuses() {
    let (listener, to) = listener();
    drop(listener);
    let mut site = Site::new();
    site.sends(to, &[Segment::syn(1000, 1460)]);
    assert_eq!(site.answered(), ["RA 0 ack 1001"]);
    assert!(site.relay.is_empty());
}

#[test]
fn r_out_6_only_stations_have_connections() {
    let mut site = Site::new();
    let nobody = [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(240, 0, 0, 1),
    ];
    for address in nobody {
        site.sends((address, 80), &[Segment::syn(1000, 1460)]);
        assert_eq!((site.out(), site.refused.len()), (vec![], 0), "{address}");
    }
    site.sends((OUTSIDE, 0), &[Segment::syn(1000, 1460)]);
    assert_eq!((site.out(), site.relay.len()), (vec![], 0), "port 0");
}

#[test]
fn r_lim_6_what_policy_denies_is_told() {
    let mut site = Site::new();
    for denied in [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(169, 254, 7, 7)] {
        site.sends((denied, 80), &[Segment::syn(1000, 1460)]);
        assert_eq!(site.out(), ["RA 0 ack 1001"], "{denied}");
    }
    assert!(site.relay.is_empty());
}

#[test]
fn r_lim_2_without_descriptors_a_syn_is_a_lost_one() {
    let (first, to_first) = listener();
    let (_second, to_second) = listener();
    let mut site = Site::with_limits(|limits| limits.descriptors = Arc::new(Descriptors::new(1)));
    site.connects(to_first, 1000);
    site.sends(to_second, &[Segment::syn(2000, 1460)]);
    assert_eq!((site.out(), site.refused.len()), (vec![], 0));
    // What exists goes on, and gives its descriptor back at its end.
    accept(&first).write_all(b"still here").expect("connected");
    assert_eq!(site.answered().len(), 1);
    site.sends(to_first, &[Segment::reset(1001)]);
    assert!(site.relay.is_empty());
    site.connects(to_second, 3000);
}
