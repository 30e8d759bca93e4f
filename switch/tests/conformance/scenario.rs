//! The reference's topology: ports p1 to p4 with one station each, on a virtual clock.

use std::time::Duration;

use vswitch_switch::{
    DropReason, EntryKind, Event, OnWire, PortConfig, PortId, Switch, SwitchConfig, TagOp, Verdict,
};
use vswitch_testkit::{
    Clock,
    frames::{Frame, mac},
};
use vswitch_wire::MacAddr;

pub(crate) const M1: MacAddr = mac(1);
pub(crate) const M2: MacAddr = mac(2);
pub(crate) const M3: MacAddr = mac(3);
pub(crate) const M4: MacAddr = mac(4);
pub(crate) const BC: MacAddr = MacAddr::BROADCAST;
/// An ordinary multicast group.
pub(crate) const GROUP: MacAddr = MacAddr([0x03, 0, 0, 0, 0, 1]);
pub(crate) const SWITCH_MAC: MacAddr = MacAddr([0x02, 0xff, 0, 0, 0, 0xfe]);

/// A switch under test. Ports are called by number, from 1.
pub(crate) struct Scenario {
    pub(crate) clock: Clock,
    pub(crate) switch: Switch,
    ports: Vec<PortId>,
}

impl Scenario {
    /// Four open ports without guard, without storm limits, without loop guard.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Four open ports of a switch that differs from the default.
    pub(crate) fn with(change: impl FnOnce(&mut SwitchConfig)) -> Self {
        Self::with_ports(change, [(); 4].map(|()| PortConfig::uplink()))
    }

    /// A switch with these ports.
    pub(crate) fn with_ports(
        change: impl FnOnce(&mut SwitchConfig),
        ports: impl IntoIterator<Item = PortConfig>,
    ) -> Self {
        let mut config = SwitchConfig::new(SWITCH_MAC, 0x5eed);
        change(&mut config);
        let mut scenario = Self {
            clock: Clock::new(),
            switch: Switch::new(config),
            ports: Vec::new(),
        };
        for port in ports {
            scenario.add(port);
        }
        scenario
    }

    /// Adds a port and returns its number.
    pub(crate) fn add(&mut self, config: PortConfig) -> usize {
        let id = self
            .switch
            .add_port(self.clock.now(), config)
            .expect("a valid port");
        self.ports.push(id);
        self.ports.len()
    }

    pub(crate) fn id(&self, port: usize) -> PortId {
        self.ports[port - 1]
    }

    /// Reconfigures a port.
    pub(crate) fn configure(&mut self, port: usize, change: impl FnOnce(&mut PortConfig)) {
        let id = self.id(port);
        let mut config = self
            .switch
            .ports()
            .find(|&(other, _)| other == id)
            .expect("a known port")
            .1
            .clone();
        change(&mut config);
        self.switch
            .configure_port(self.clock.now(), id, config)
            .expect("a valid configuration");
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
    }

    /// Lets time pass, and the switch's timers with it.
    pub(crate) fn settle(&mut self, by: Duration) {
        let end = self.clock.now() + by;
        while let Some(due) = self.switch.poll_timeout().filter(|&due| due <= end) {
            let now = due.max(self.clock.now());
            self.clock.advance(now - self.clock.now());
            self.switch.handle_timeout(now);
        }
        self.clock.advance(end - self.clock.now());
    }

    /// Puts bytes in at a port.
    pub(crate) fn put(&mut self, port: usize, bytes: &[u8]) -> Verdict {
        let id = self.id(port);
        self.switch
            .handle_frame(self.clock.now(), id, bytes, OnWire::one(bytes.len()))
    }

    /// Puts a frame in at a port and names the ports that send it, which must be each at most once.
    pub(crate) fn out(&mut self, port: usize, frame: &Frame) -> Vec<usize> {
        self.out_tagged(port, frame)
            .into_iter()
            .map(|(port, _)| port)
            .collect()
    }

    /// As [`Self::out`], with what becomes of the tag.
    pub(crate) fn out_tagged(&mut self, port: usize, frame: &Frame) -> Vec<(usize, TagOp)> {
        let verdict = self.put(port, &frame.bytes());
        let mut out: Vec<_> = self
            .switch
            .egress()
            .iter()
            .map(|egress| {
                let position = self.ports.iter().position(|&id| id == egress.port);
                (position.expect("a known port") + 1, egress.tag)
            })
            .collect();
        out.sort_by_key(|&(port, _)| port);
        assert!(
            out.windows(2).all(|pair| pair[0].0 != pair[1].0),
            "a port sends a frame once: {out:?}"
        );
        assert_eq!(
            verdict == Verdict::Forward,
            !out.is_empty(),
            "{verdict:?} with {out:?}"
        );
        out
    }

    /// Puts a frame in that must be dropped, and says why it was; checks that exactly this was counted.
    pub(crate) fn refused(&mut self, port: usize, frame: &Frame) -> DropReason {
        let before = self.dropped(port);
        match self.put(port, &frame.bytes()) {
            Verdict::Forward => panic!("forwarded to {:?}", self.switch.egress()),
            Verdict::Drop(reason) => {
                assert!(self.switch.egress().is_empty());
                let counted = self.dropped(port) - before;
                assert_eq!(counted, u64::from(!reason.is_egress()), "{reason}");
                reason
            }
        }
    }

    /// Puts a frame in that breaks an ingress rule: it is dropped for this reason and its source is not
    /// learnt.
    pub(crate) fn refused_unlearnt(&mut self, port: usize, frame: &Frame, reason: DropReason) {
        let before = self.table();
        assert_eq!(self.refused(port, frame), reason);
        assert_eq!(self.table(), before, "a refused frame must not teach");
    }

    pub(crate) fn dropped(&self, port: usize) -> u64 {
        self.counters(port).dropped_total()
    }

    pub(crate) fn counters(&self, port: usize) -> &vswitch_switch::Counters {
        self.switch.counters(self.id(port)).expect("a known port")
    }

    /// The port that a station is known on.
    pub(crate) fn whereabouts(&self, mac: MacAddr) -> Option<usize> {
        let entry = self.switch.fdb(self.clock.now()).find(|entry| entry.mac == mac)?;
        self.ports
            .iter()
            .position(|&id| Some(id) == entry.port)
            .map(|index| index + 1)
    }

    /// All entries but local ones: VLAN (0 without), address, port; sorted.
    pub(crate) fn table(&self) -> Vec<(u16, MacAddr, usize)> {
        let mut table: Vec<_> = self
            .switch
            .fdb(self.clock.now())
            .filter(|entry| entry.kind != EntryKind::Local)
            .map(|entry| {
                let port = self.ports.iter().position(|&id| Some(id) == entry.port);
                let vlan = entry.vlan.map_or(0, |vlan| vlan.value());
                (vlan, entry.mac, port.expect("a known port") + 1)
            })
            .collect();
        table.sort();
        table
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.switch.poll_event()).collect()
    }
}

/// A plain frame from one station to another.
pub(crate) fn frame(src: MacAddr, dst: MacAddr) -> Frame {
    Frame::new(src, dst)
}

/// Station number `n` of many behind one port.
pub(crate) fn station(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([0x06, 0x40, a, b, c, d])
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
