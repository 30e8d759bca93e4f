//! Learn and forward, in memory: how many frames a second one core decides about, and that none of them
//! allocates.
#![deny(unsafe_code)]
#![allow(missing_docs)] // criterion's macros

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use bench::sys::CountingAllocator;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vswitch_switch::{Guard, OnWire, PortConfig, PortId, Switch, SwitchConfig, Verdict};
use vswitch_testkit::{
    Clock,
    frames::{Packet, Upper},
};
use vswitch_wire::MacAddr;

/// Stations that send to each other, one frame each, in turn.
struct Traffic {
    switch: Switch,
    clock: Clock,
    frames: Vec<(PortId, Vec<u8>)>,
}

impl Traffic {
    /// `stations` on `ports` ports; every frame is `frame_len` bytes of TCP to a station of another port.
    fn new(stations: u32, ports: u32, frame_len: usize, guards: Guards) -> Self {
        let clock = Clock::new();
        let mut switch = Switch::new(SwitchConfig::new(MacAddr([0x02, 0xff, 0, 0, 0, 1]), 0x0123_4567));
        let ids: Vec<_> = (0..ports)
            .map(|port| {
                let config = match guards {
                    Guards::Off => PortConfig::uplink(),
                    Guards::On => {
                        PortConfig::container(Guard::new(mac(port), vec![IpAddr::V4(address(port))]))
                    }
                };
                switch.add_port(clock.now(), config).expect("a valid port")
            })
            .collect();
        let frames = (0..stations)
            .map(|station| {
                let peer = (0..stations)
                    .map(|step| (station * 7919 + 1 + step) % stations)
                    .find(|peer| peer % ports != station % ports)
                    .expect("there are two ports");
                let payload = vec![0; frame_len - 14 - 20 - 20];
                let upper = Upper::Tcp(40_000, 80, 0x10, payload);
                let frame =
                    Packet::new(address(station), address(peer), upper).frame(mac(station), mac(peer));
                (ids[(station % ports) as usize], frame.bytes())
            })
            .collect();
        Self {
            switch,
            clock,
            frames,
        }
    }

    /// Every station sends its frame; the clock ticks as after each batch of reads.
    fn round(&mut self) -> u32 {
        let mut now = self.clock.now();
        let mut forwarded = 0;
        for (index, (port, frame)) in self.frames.iter().enumerate() {
            if index % 64 == 0 {
                now = self.clock.advance(Duration::from_micros(20));
            }
            let verdict = self
                .switch
                .handle_frame(now, *port, black_box(frame), OnWire::one(frame.len()));
            forwarded += u32::from(verdict == Verdict::Forward);
            black_box(self.switch.egress());
        }
        forwarded
    }
}

#[derive(Clone, Copy)]
enum Guards {
    Off,
    On,
}

fn mac(station: u32) -> MacAddr {
    let [a, b, c, d] = station.to_be_bytes();
    MacAddr([0x02, 0x42, a, b, c, d])
}

fn address(station: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0001 + station)
}

fn learn_and_forward(criterion: &mut Criterion) {
    let cases = [
        (
            "open, 1000 stations on 16 ports, 64 bytes",
            1000,
            16,
            64,
            Guards::Off,
        ),
        (
            "open, 1000 stations on 16 ports, 1514 bytes",
            1000,
            16,
            1514,
            Guards::Off,
        ),
        (
            "guarded, 16 stations on 16 ports, 64 bytes",
            16,
            16,
            64,
            Guards::On,
        ),
        (
            "guarded, 1000 stations on 1000 ports, 64 bytes",
            1000,
            1000,
            64,
            Guards::On,
        ),
        (
            "guarded, 1000 stations on 1000 ports, 1514 bytes",
            1000,
            1000,
            1514,
            Guards::On,
        ),
    ];
    let mut group = criterion.benchmark_group("switch");
    group
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    for (name, stations, ports, frame_len, guards) in cases {
        let mut traffic = Traffic::new(stations, ports, frame_len, guards);
        traffic.round();
        while traffic.switch.poll_event().is_some() {}
        let allocated = ALLOCATOR.count(|| {
            assert_eq!(traffic.round(), stations, "{name}: every frame is forwarded");
        });
        assert_eq!(allocated, 0, "{name}: allocations in {stations} frames");
        group.throughput(Throughput::Elements(stations.into()));
        group.bench_function(name, |bencher| bencher.iter(|| traffic.round()));
    }
    group.finish();
}

/// A full table under a flood of addresses: every frame learns one station and evicts another.
fn churn(criterion: &mut Criterion) {
    let start = Instant::now();
    let config = SwitchConfig {
        port_limit: usize::MAX,
        ..SwitchConfig::new(MacAddr([0x02, 0xff, 0, 0, 0, 1]), 7)
    };
    let mut switch = Switch::new(config);
    let ports: Vec<_> = (0..2)
        .map(|_| {
            switch
                .add_port(start, PortConfig::uplink())
                .expect("a valid port")
        })
        .collect();
    let mut frame = Packet::tcp(address(1), address(2))
        .frame(mac(0), MacAddr::BROADCAST)
        .bytes();
    let mut next = 0_u32;
    let mut flood = |frames: u32| {
        for _ in 0..frames {
            next = next.wrapping_add(1);
            frame[8..12].copy_from_slice(&next.to_be_bytes());
            let now = start + Duration::from_micros(next.into());
            let _ = black_box(switch.handle_frame(now, ports[0], &frame, OnWire::one(frame.len())));
            while switch.poll_event().is_some() {}
        }
    };
    flood(100_000);
    let allocated = ALLOCATOR.count(|| flood(100_000));
    assert_eq!(allocated, 0, "allocations while 100 000 stations came and went");
    let mut group = criterion.benchmark_group("switch");
    group
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1000));
    group.bench_function("a new station each frame, table full", |bencher| {
        bencher.iter(|| flood(1000))
    });
    group.finish();
}

criterion_group!(benches, learn_and_forward, churn);
criterion_main!(benches);

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();
