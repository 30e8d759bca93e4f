//! The NAT engine alone: packets a second of one core, with few and with a million connections, new connections a
//! second, memory of a connection, and the proof that no packet of an established connection allocates.
#![deny(unsafe_code)]
#![allow(missing_docs)] // criterion's macros

use std::{
    hint::black_box,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use bench::sys::CountingAllocator;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vswitch_nat::{Config, Egress, Limits, Nat, Network, Output, Outside, Verdict, Zone};
use vswitch_testkit::{
    Clock,
    frames::{Packet, Upper},
};
use vswitch_wire::{Offload, checksum};

/// An engine with connections, all of one network.
struct Site {
    nat: Nat,
    clock: Clock,
    transport: Transport,
    flows: u32,
    /// Out, and the answer's.
    templates: [Vec<u8>; 2],
    /// The external address and port of each flow, as the engine chose them.
    external: Vec<(Ipv4Addr, u16)>,
    /// Packets of established connections, of every flow one, in no order that a cache could learn; batches go out and
    /// come in by turns. Read one after another they cost next to nothing, as those that a NIC has put into the cache.
    traffic: Vec<[u8; LEN]>,
    /// Where the traffic goes on.
    next: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Transport {
    Tcp,
    Udp,
}

/// Takes what the engine makes by itself; here nothing.
struct Nothing;

impl Output for Nothing {
    fn send(&mut self, _: Zone, _: &mut [u8], _: Offload) {
        unreachable!("nothing is cut or refused here");
    }
}

impl Site {
    /// Begins `flows` connections and answers each, so that they are established.
    fn new(transport: Transport, flows: u32) -> Self {
        let mut site = Self::empty(transport, flows);
        let now = site.clock.now();
        site.external = Vec::with_capacity(flows as usize);
        for flow in 0..flows {
            let mut packet = site.outbound(flow, Stage::Begin);
            assert_eq!(
                site.handle(now, INSIDE, &mut packet),
                Verdict::Forward(Zone::OUTSIDE)
            );
            let octets: [u8; 4] = packet[12..16].try_into().expect("four bytes");
            let port = u16::from_be_bytes([packet[20], packet[21]]);
            site.external.push((octets.into(), port));
            let mut answer = site.inbound(flow, Stage::Begin);
            assert_eq!(
                site.handle(now, Zone::OUTSIDE, &mut answer),
                Verdict::Forward(INSIDE)
            );
            if transport == Transport::Tcp {
                let mut last = site.outbound(flow, Stage::Established);
                assert_eq!(
                    site.handle(now, INSIDE, &mut last),
                    Verdict::Forward(Zone::OUTSIDE)
                );
            }
        }
        site.clock.advance(Duration::from_secs(3));
        site
    }

    fn empty(transport: Transport, flows: u32) -> Self {
        let clock = Clock::new();
        let mut config = Config::standard(0x5eed);
        config.limits = Limits {
            connections: flows as usize + 1,
            per_zone: usize::MAX,
            per_host: usize::MAX,
            rate_per_host: u32::MAX,
        };
        let mut nat = Nat::new(clock.now(), config);
        nat.add_network(Network {
            zone: INSIDE,
            prefixes: vec!["10.0.0.0/8".parse().expect("a prefix")],
            gateways: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
            mtu: 1500,
            egress: Egress::Masquerade(Vec::new()),
            filtering: None,
        })
        .expect("the only network");
        let addresses = (1..=EXTERNAL).map(|last| Ipv4Addr::new(203, 0, 113, last).into());
        nat.set_outside(
            clock.now(),
            Outside {
                addresses: addresses.collect(),
                ..Outside::default()
            },
        );
        let template = |src, dst| {
            let upper = match transport {
                Transport::Tcp => Upper::Tcp(0, 0, 0, vec![0; 6]),
                Transport::Udp => Upper::Udp(0, 0, vec![0; 18]),
            };
            Packet::new(src, dst, upper).bytes()
        };
        let zero = Ipv4Addr::UNSPECIFIED;
        Self {
            nat,
            clock,
            transport,
            flows,
            templates: [template(zero, zero), template(zero, zero)],
            external: Vec::new(),
            traffic: Vec::new(),
            next: 0,
        }
    }

    fn handle(&mut self, now: Instant, zone: Zone, packet: &mut [u8]) -> Verdict {
        self.nat
            .handle_packet(now, zone, packet, &Offload::NONE, &mut Nothing)
    }

    /// Makes the traffic.
    fn record(&mut self) {
        let mut order: Vec<u32> = (0..self.flows).collect();
        let mut random = 1u64;
        for last in (1..order.len()).rev() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order.swap(last, (random >> 33) as usize % (last + 1));
        }
        let packet = |(index, &flow): (usize, &u32)| {
            let packet = match index / BATCH % 2 {
                0 => self.outbound(flow, Stage::Established),
                _ => self.inbound(flow, Stage::Established),
            };
            packet.try_into().expect("all are of one length")
        };
        self.traffic = order.iter().enumerate().map(packet).collect();
        self.traffic.truncate(order.len() / (2 * BATCH) * 2 * BATCH);
    }

    fn outbound(&self, flow: u32, stage: Stage) -> Vec<u8> {
        let mut packet = self.templates[0].clone();
        self.fill_outbound(&mut packet, flow, stage);
        packet
    }

    fn inbound(&self, flow: u32, stage: Stage) -> Vec<u8> {
        let mut packet = self.templates[1].clone();
        self.fill_inbound(&mut packet, flow, stage);
        packet
    }

    fn fill_outbound(&self, packet: &mut [u8], flow: u32, stage: Stage) {
        let numbers = match stage {
            Stage::Begin => (ISS, 0, SYN),
            Stage::Established => (ISS + 1, PEER_ISS + 1, ACK),
        };
        self.fill(packet, inside(flow), server(flow), numbers);
    }

    fn fill_inbound(&self, packet: &mut [u8], flow: u32, stage: Stage) {
        let numbers = match stage {
            Stage::Begin => (PEER_ISS, ISS + 1, SYN | ACK),
            Stage::Established => (PEER_ISS + 1, ISS + 1, ACK),
        };
        self.fill(packet, server(flow), self.external[flow as usize], numbers);
    }

    /// Makes the packet of these ends: what a NIC would have put into the cache.
    fn fill(
        &self,
        packet: &mut [u8],
        (src, src_port): (Ipv4Addr, u16),
        (dst, dst_port): (Ipv4Addr, u16),
        (sequence, acknowledgment, flags): (u32, u32, u8),
    ) {
        let (header, payload) = packet.split_at_mut(20);
        header[8] = 64;
        header[10..12].fill(0);
        header[12..16].copy_from_slice(&src.octets());
        header[16..20].copy_from_slice(&dst.octets());
        let sum = checksum::finish(checksum::sum(header));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        payload[..2].copy_from_slice(&src_port.to_be_bytes());
        payload[2..4].copy_from_slice(&dst_port.to_be_bytes());
        let place = match self.transport {
            Transport::Tcp => {
                payload[4..8].copy_from_slice(&sequence.to_be_bytes());
                payload[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
                payload[13] = flags;
                payload[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
                16
            }
            Transport::Udp => 6,
        };
        payload[place..place + 2].fill(0);
        let pseudo = checksum::sum(&header[12..20]) + u32::from(header[9]) + payload.len() as u32;
        let sum = checksum::finish_udp(pseudo + checksum::sum(payload));
        payload[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Packets of established connections, as many out as in: one at a time, or looked ahead at in batches as a packet socket
    /// gives them.
    fn round(&mut self, look_ahead: LookAhead) {
        let mut buffers = [[0; LEN]; BATCH];
        for _ in 0..ROUND / BATCH {
            let now = self.clock.advance(Duration::from_micros(10));
            if self.next == self.traffic.len() {
                self.next = 0;
            }
            let zone = match self.next / BATCH % 2 {
                0 => INSIDE,
                _ => Zone::OUTSIDE,
            };
            buffers.copy_from_slice(&self.traffic[self.next..self.next + BATCH]);
            self.next += BATCH;
            if look_ahead == LookAhead::Batch {
                self.nat
                    .look_ahead(zone, buffers.iter().map(|buffer| &buffer[..]));
            }
            for buffer in &mut buffers {
                let verdict = self
                    .nat
                    .handle_packet(now, zone, buffer, &Offload::NONE, &mut Nothing);
                assert!(matches!(black_box(verdict), Verdict::Forward(_)));
            }
        }
    }
}

impl Site {
    /// Begins every connection.
    fn begin_all(&mut self) {
        let mut packet = self.templates[0].clone();
        let now = self.clock.advance(Duration::from_secs(1));
        for flow in 0..self.flows {
            self.fill_outbound(&mut packet, flow, Stage::Begin);
            let verdict = self.handle(now, INSIDE, &mut packet);
            assert_eq!(verdict, Verdict::Forward(Zone::OUTSIDE));
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum LookAhead {
    Batch,
    No,
}

#[derive(Clone, Copy)]
enum Stage {
    Begin,
    Established,
}

const INSIDE: Zone = Zone(1);
/// External addresses: a million connections of as many endpoints need 16 at least.
const EXTERNAL: u8 = 20;
const ROUND: usize = 4096;
const BATCH: usize = 32;
/// Bytes of every packet: of the smallest Ethernet frame, what is neither header nor trailer.
const LEN: usize = 46;
const ISS: u32 = 1000;
const PEER_ISS: u32 = 5000;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// 64 connections of each host, each from a port of its own.
fn inside(flow: u32) -> (Ipv4Addr, u16) {
    (
        Ipv4Addr::from_bits(0x0a00_0100 + flow / 64),
        20_000 + (flow % 64) as u16,
    )
}

fn server(flow: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0xc633_6402 + flow % 200), 443)
}

fn established(c: &mut Criterion) {
    let mut group = c.benchmark_group("nat/established");
    group.throughput(Throughput::Elements(ROUND as u64));
    for (name, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
        for flows in [1_000, 1_000_000] {
            // Made when the first of the measurements is wanted.
            let mut site = None;
            for (how, look_ahead) in [("singly", LookAhead::No), ("in batches", LookAhead::Batch)] {
                group.bench_function(format!("{name}, {flows}, {how}"), |bencher| {
                    let site = site.get_or_insert_with(|| prepared(name, transport, flows));
                    site.round(look_ahead);
                    let allocated = ALLOCATOR.count(|| site.round(look_ahead));
                    assert_eq!(allocated, 0, "{name}: allocations in {ROUND} packets");
                    bencher.iter(|| site.round(look_ahead));
                });
            }
        }
    }
    group.finish();
}

/// A site with its traffic; tells what a connection takes.
fn prepared(name: &str, transport: Transport, flows: u32) -> Site {
    let before = ALLOCATOR.held();
    let mut site = Site::new(transport, flows);
    // The list of external ports is the bench's own.
    let list = site.external.capacity() * size_of::<(Ipv4Addr, u16)>();
    let engine = ALLOCATOR.held() - before - list as u64;
    println!(
        "nat/memory/{name}, {flows}: {} bytes a connection",
        engine / u64::from(flows)
    );
    site.record();
    site
}

/// What a connection takes where 16 of them share an endpoint, as with clients of many servers, and with it an external port.
fn memory(_: &mut Criterion) {
    const FLOWS: u32 = 1_000_000;
    let before = ALLOCATOR.held();
    let mut site = Site::empty(Transport::Tcp, FLOWS);
    let now = site.clock.now();
    for flow in 0..FLOWS {
        let mut packet = site.templates[0].clone();
        let to = (Ipv4Addr::from_bits(0xc633_6402 + flow % 16), 443);
        site.fill(&mut packet, inside(flow / 16), to, (ISS, 0, SYN));
        assert_eq!(
            site.handle(now, INSIDE, &mut packet),
            Verdict::Forward(Zone::OUTSIDE)
        );
    }
    println!(
        "nat/memory/16 to an endpoint, {FLOWS}: {} bytes a connection",
        (ALLOCATOR.held() - before) / u64::from(FLOWS)
    );
}

/// Connections that begin, each from an endpoint of its own, in a table that has had as many before; what it takes to remove
/// them is not measured.
fn new_flows(c: &mut Criterion) {
    const FLOWS: u32 = 200_000;
    let mut group = c.benchmark_group("nat/new");
    group.throughput(Throughput::Elements(FLOWS.into()));
    group.sample_size(10);
    for (name, transport) in [("udp", Transport::Udp), ("tcp", Transport::Tcp)] {
        group.bench_function(name, |bencher| {
            let mut site = Site::empty(transport, FLOWS);
            site.begin_all();
            site.nat.flush(site.clock.now());
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let begin = Instant::now();
                    site.begin_all();
                    spent += begin.elapsed();
                    site.nat.flush(site.clock.now());
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, memory, established, new_flows);
criterion_main!(benches);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();
