//! A network's whole data path, in memory: vnet header, switch, gateway, egress, with devices that only
//! count. Frames a second of one core, and the proof that none of them allocates.
#![deny(unsafe_code)]
#![allow(missing_docs)] // criterion's macros

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bench::sys::CountingAllocator;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vswitch::{
    dataplane::{EndpointSpec, NetworkSpec},
    engine::{Engine, OutFrame, Transmit},
    model::{EndpointId, NetworkId},
};
use vswitch_switch::{EgressOutcome, PortId};
use vswitch_testkit::{
    Clock,
    frames::{Packet, Upper},
};
use vswitch_wire::{Abilities, IpProtocol, MacAddr, VnetHeader, checksum};

/// Counts frames and bytes, and takes all of them.
#[derive(Default)]
struct Sink {
    frames: u64,
    bytes: u64,
}

impl Transmit for Sink {
    fn transmit(&mut self, _: PortId, frame: &OutFrame<'_>) -> EgressOutcome {
        self.frames += 1;
        self.bytes += black_box(frame).len() as u64;
        EgressOutcome::Sent
    }
}

/// A network with `stations` containers, the last of which has a device with `abilities`.
struct Network {
    engine: Engine,
    clock: Clock,
    ports: Vec<PortId>,
    sink: Sink,
}

impl Network {
    fn new(stations: u8, abilities: Abilities) -> Self {
        let clock = Clock::new();
        let spec = NetworkSpec {
            id: NetworkId::from_bytes([1; 32]),
            name: "bench".into(),
            gateway_mac: mac(0xfe),
            gateways: vec!["10.0.0.254/24".parse().expect("a prefix")],
            mtu: 1500,
            inter_container: true,
            uplink: Some(Default::default()),
        };
        let mut engine = Engine::new(clock.now(), &spec).expect("room for the gateway");
        let ports = (1..=stations).map(|station| {
            let endpoint = EndpointSpec {
                id: EndpointId::from_bytes([station; 32]),
                network: spec.id,
                label: format!("station{station}"),
                mac: mac(station),
                addresses: vec![IpAddr::V4(address(station))],
            };
            let own = if station == stations {
                abilities
            } else {
                Abilities::ALL
            };
            engine
                .add_endpoint(clock.now(), &endpoint, own)
                .expect("room for a port")
        });
        let ports = ports.collect();
        Self {
            engine,
            clock,
            ports,
            sink: Sink::default(),
        }
    }

    /// Station 1 sends the same read `ROUND` times; the clock ticks as after each batch.
    fn round(&mut self, read: &mut [u8]) {
        let mut now = self.clock.now();
        for index in 0..ROUND {
            if index % 64 == 0 {
                now = self.clock.advance(Duration::from_micros(100));
            }
            self.engine.handle_frame(now, self.ports[0], read, &mut self.sink);
        }
    }
}

const ROUND: u32 = 1024;

fn mac(station: u8) -> MacAddr {
    MacAddr([0x02, 0x42, 0, 0, 0, station])
}

fn address(station: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, station)
}

/// A read from a TAP: vnet header and a TCP frame of `payload` bytes, a super-frame if that exceeds a segment.
fn tcp(to: u8, payload: usize) -> Vec<u8> {
    let upper = Upper::Tcp(40_000, 80, 0x10, vec![0x5a; payload]);
    let mut frame = Packet::new(address(1), address(to), upper)
        .frame(mac(1), mac(to))
        .bytes();
    let len = u16::try_from(frame.len() - 34).expect("an IPv4 packet");
    let partial = checksum::pseudo_header_v4(address(1), address(to), IpProtocol::TCP, len);
    frame[50..52].copy_from_slice(&checksum::fold(partial).to_be_bytes());
    let mut header = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0];
    if payload > MSS {
        header[1] = 1;
        header[2] = 54;
        header[4..6].copy_from_slice(&(MSS as u16).to_le_bytes());
    }
    assert_eq!(header.len(), VnetHeader::LEN);
    [&header[..], &frame].concat()
}

const MSS: usize = 1460;

/// An echo request to the gateway.
fn ping_gateway() -> Vec<u8> {
    let upper = Upper::Icmp(8, 0, vec![0, 7, 0, 1]);
    let frame = Packet::new(address(1), address(0xfe), upper)
        .frame(mac(1), mac(0xfe))
        .bytes();
    [&[0; VnetHeader::LEN][..], &frame].concat()
}

fn forward(criterion: &mut Criterion) {
    let all = Abilities::ALL;
    let none = Abilities::EMPTY;
    let cases = [
        ("10 bytes of TCP", tcp(2, 10), 2, all, 1),
        ("60 KiB super-frame, capable device", tcp(2, 60 << 10), 2, all, 1),
        (
            "60 KiB super-frame, device without offloads",
            tcp(2, 60 << 10),
            2,
            none,
            43,
        ),
        ("echo request to the gateway", ping_gateway(), 2, all, 1),
    ];
    let mut group = criterion.benchmark_group("engine");
    group
        .measurement_time(Duration::from_secs(2))
        .warm_up_time(Duration::from_millis(500));
    for (name, mut read, stations, abilities, out_per_in) in cases {
        let mut network = Network::new(stations, abilities);
        network.round(&mut read);
        assert_eq!(
            network.sink.frames,
            u64::from(ROUND) * out_per_in,
            "{name}: every frame arrives"
        );
        let allocated = ALLOCATOR.count(|| network.round(&mut read));
        assert_eq!(allocated, 0, "{name}: allocations in {ROUND} frames");
        group.throughput(Throughput::Elements(ROUND.into()));
        group.bench_function(name, |bencher| bencher.iter(|| network.round(&mut read)));
    }
    group.finish();
}

criterion_group!(benches, forward);
criterion_main!(benches);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();
