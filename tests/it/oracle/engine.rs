//! Our engine as a router.

use std::{
    io,
    time::{Duration, Instant},
};

use vswitch_nat::{
    Config, Egress, MappingId, Nat, Network, Output, Outside, PortMapping, Verdict, Zone, packet_len,
};
use vswitch_wire::{IpVersion, Offload};

use super::{
    plan::{self, Side, TIMER_STEP},
    router::{Entry, Passage, Router},
};

/// The engine, in the kernel's profile, with the kernel's timers.
pub(super) struct Engine {
    nat: Nat,
    /// Runs ahead, so that no limit on the rate of ICMP errors hides one.
    now: Instant,
}

impl Engine {
    pub(super) fn new(seed: u64) -> Self {
        let now = Instant::now();
        let mut config = Config::linux(seed);
        for (timer, _, seconds) in plan::timers() {
            config.timeouts.set(timer, seconds);
        }
        let mut nat = Nat::new(now, config);
        let prefixes = |side: Side| {
            let texts = plan::PREFIXES[side as usize].iter();
            texts.map(|text| text.parse().expect("a prefix")).collect()
        };
        let addresses = |side| {
            [IpVersion::V4, IpVersion::V6]
                .map(|version| plan::router(side, version))
                .to_vec()
        };
        nat.add_network(Network {
            zone: INSIDE,
            prefixes: prefixes(Side::Inside),
            gateways: addresses(Side::Inside),
            mtu: plan::MTU[0],
            egress: Egress::Masquerade(Vec::new()),
            filtering: None,
        })
        .expect("the first network");
        nat.set_outside(
            now,
            Outside {
                addresses: addresses(Side::Outside),
                prefixes: prefixes(Side::Outside),
                mtu: plan::MTU[1],
            },
        );
        for (id, (protocol, version, [first, last], target, target_port)) in (1..).zip(plan::PUBLISHED) {
            nat.publish(PortMapping {
                id: MappingId(id),
                protocol,
                external: Some(plan::router(Side::Outside, version)),
                ports: first..=last,
                zone: INSIDE,
                target: plan::host(Side::Inside, version, target),
                target_port,
            })
            .expect("ports that nobody has");
        }
        Self { nat, now }
    }
}

impl Router for Engine {
    fn pass(&mut self, side: Side, packet: &[u8]) -> io::Result<Passage> {
        self.now += TICK;
        self.nat.handle_timeout(self.now);
        let mut buffer = packet.to_vec();
        let mut sent = Sent(Vec::new());
        let zone = [INSIDE, Zone::OUTSIDE][side as usize];
        let verdict = self
            .nat
            .handle_packet(self.now, zone, &mut buffer, &Offload::NONE, &mut sent);
        let mut passage = Passage {
            outputs: sent.0,
            reason: None,
        };
        match verdict {
            Verdict::Forward(zone) => {
                buffer.truncate(packet_len(&buffer));
                passage.outputs.push((side_of(zone), buffer));
            }
            Verdict::Drop(reason) => passage.reason = Some(reason),
            Verdict::Consumed | Verdict::Local => {}
        }
        Ok(passage)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.nat.flush(self.now);
        Ok(())
    }

    fn entries(&mut self, protocol: Option<u8>) -> io::Result<Vec<Entry>> {
        let conns = self.nat.connections(self.now);
        let conns = conns.filter(|conn| protocol.is_none_or(|protocol| protocol == conn.original.protocol));
        let entries = conns.map(|conn| Entry {
            protocol: conn.original.protocol,
            src: conn.original.src.ip(),
            dst: conn.original.dst.ip(),
            src_port: conn.original.src_port,
            dst_port: conn.original.dst_port,
            state: conn.state.map(str::to_owned),
            is_replied: conn.is_replied,
            is_assured: conn.is_assured,
            timer: (conn.remaining.as_secs_f64() / f64::from(TIMER_STEP)).ceil() as u32,
        });
        Ok(entries.collect())
    }
}

/// What the engine sent of its own accord.
struct Sent(Vec<(Side, Vec<u8>)>);

impl Output for Sent {
    fn send(&mut self, to: Zone, packet: &mut [u8], _: Offload) {
        self.0.push((side_of(to), packet.to_vec()));
    }
}

fn side_of(zone: Zone) -> Side {
    if zone.is_outside() {
        Side::Outside
    } else {
        Side::Inside
    }
}

const INSIDE: Zone = Zone(1);

/// Time between two packets.
const TICK: Duration = Duration::from_millis(50);
