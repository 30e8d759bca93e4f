//! Commands: ports come, change and go; stations are entered and forgotten.
//!
//! Each command checks everything before it changes anything.

use std::time::Instant;

use vswitch_wire::{MacAddr, VlanId};

use super::{FlushScope, MAX_PORTS, Switch};
use crate::{
    AddPortError, ConfigurePortError, LinkState, PinError, PortConfig, PortId, PortKind, PortVlans,
    UnknownPort, VlanFiltering,
    fdb::Key,
    port::{Lane, Port},
};

impl Switch {
    /// Adds a port; its link is up. A guard's address is a static entry from now on (B-LRN-11).
    ///
    /// # Errors
    ///
    /// See [`AddPortError`]; the switch is as it was.
    pub fn add_port(&mut self, now: Instant, config: PortConfig) -> Result<PortId, AddPortError> {
        self.timeline.advance(now);
        self.check_config(&config, None)?;
        let index = self
            .ports
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.ports.len());
        if index >= MAX_PORTS {
            return Err(AddPortError::TooManyPorts);
        }
        let id = PortId(index as u32);
        if index == self.ports.len() {
            self.ports.push(None);
            self.lanes.push(Lane::ABSENT);
            self.egress.reserve(self.ports.len());
        }
        self.ports[index] = Some(Port::new(config));
        self.install(id);
        Ok(id)
    }

    /// Removes a port with all its entries and counters, and returns its configuration.
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn remove_port(&mut self, now: Instant, id: PortId) -> Result<PortConfig, UnknownPort> {
        self.timeline.advance(now);
        self.existing(id)?;
        self.uninstall(id);
        self.fdb.retire_port(id);
        self.egress.retain(|egress| egress.port != id);
        self.lanes[id.index()] = Lane::ABSENT;
        self.ports[id.index()]
            .take()
            .map(|port| port.config)
            .ok_or(UnknownPort(id))
    }

    /// Gives a port a new configuration of the same kind. Counters, link state and a guard's disablement
    /// stay; stations that were learnt on it are forgotten if its VLANs or its guard change, and if it no
    /// longer learns.
    ///
    /// # Errors
    ///
    /// See [`ConfigurePortError`]; the port is as it was.
    pub fn configure_port(
        &mut self,
        now: Instant,
        id: PortId,
        config: PortConfig,
    ) -> Result<(), ConfigurePortError> {
        self.timeline.advance(now);
        let old = &self.existing(id)?.config;
        if old.kind != config.kind {
            return Err(ConfigurePortError::KindChanged);
        }
        let keeps_stations =
            old.vlans == config.vlans && old.guard == config.guard && old.learning == config.learning;
        self.check_config(&config, Some(id))?;
        self.uninstall(id);
        if !keeps_stations {
            self.fdb.flush_port(id);
        }
        if let Some(port) = &mut self.ports[id.index()] {
            port.configure(config);
        }
        self.install(id);
        Ok(())
    }

    /// Says whether a port's device can carry frames. A port that goes down loses the stations that were
    /// learnt on it; static ones stay (B-LRN-10), and frames to those are dropped (B-FWD-6).
    ///
    /// # Errors
    ///
    /// There is no such port.
    pub fn set_link(&mut self, now: Instant, id: PortId, link: LinkState) -> Result<(), UnknownPort> {
        self.timeline.advance(now);
        let port = self
            .ports
            .get_mut(id.index())
            .and_then(Option::as_mut)
            .ok_or(UnknownPort(id))?;
        port.link = link;
        self.lanes[id.index()] = port.lane();
        if link == LinkState::Down {
            self.fdb.flush_port(id);
        }
        Ok(())
    }

    /// Whether a port's device can carry frames; `None` if there is no such port.
    pub fn link(&self, id: PortId) -> Option<LinkState> {
        Some(self.port(id)?.link)
    }

    /// Enters a station for a port: it does not age, and nobody else may use its address (B-LRN-7).
    ///
    /// Without `vlan`, or without VLAN filtering, the entry holds in every VLAN.
    ///
    /// # Errors
    ///
    /// See [`PinError`]; the forwarding database is as it was.
    pub fn pin(&mut self, id: PortId, vlan: Option<VlanId>, mac: MacAddr) -> Result<(), PinError> {
        self.existing(id)?;
        if mac.is_multicast() || mac.is_zero() {
            return Err(PinError::InvalidMac(mac));
        }
        self.fdb
            .pin(self.static_key(vlan, mac), id)
            .map_err(|_| PinError::MacInUse(mac))
    }

    /// Removes what [`Self::pin`] entered; whether there was such an entry.
    pub fn unpin(&mut self, id: PortId, vlan: Option<VlanId>, mac: MacAddr) -> bool {
        self.existing(id).is_ok() && self.fdb.unpin(self.static_key(vlan, mac), id)
    }

    /// Forgets stations that were learnt; static entries stay.
    pub fn flush(&mut self, scope: FlushScope) {
        match scope {
            FlushScope::All => self.fdb.flush(|_| true),
            FlushScope::Port(id) if self.existing(id).is_ok() => self.fdb.flush_port(id),
            FlushScope::Port(_) => {}
            FlushScope::Vlan(vlan) => self.fdb.flush(|key| key.vlan() == Some(vlan)),
        }
    }

    /// Checks a configuration for a new port, or for the existing port `of`.
    fn check_config(&self, config: &PortConfig, of: Option<PortId>) -> Result<(), AddPortError> {
        let gateway = self.gateway.filter(|&gateway| Some(gateway) != of);
        if let (PortKind::Gateway, Some(gateway)) = (config.kind, gateway) {
            return Err(AddPortError::GatewayExists(gateway));
        }
        let guard_mac = config.guard.as_ref().map(|guard| guard.mac);
        if let Some(mac) = guard_mac {
            check_mac(mac)?;
            let obstacle = self.fdb.obstacle(self.static_key(guard_vlan(config), mac));
            if obstacle.is_some_and(|obstacle| obstacle.port.is_none() || obstacle.port != of) {
                return Err(AddPortError::MacInUse(mac));
            }
        }
        if let Some(mac) = config.device_mac {
            check_mac(mac)?;
            let is_own_already = of.and_then(|id| self.port(id)?.config.device_mac) == Some(mac);
            if guard_mac == Some(mac) || (!is_own_already && self.fdb.obstacle(Key::new(0, mac)).is_some()) {
                return Err(AddPortError::MacInUse(mac));
            }
        }
        self.check_native_vlan(config, of)
    }

    /// B-VL-8: "native VLAN of trunks is not a container VLAN".
    fn check_native_vlan(&self, config: &PortConfig, of: Option<PortId>) -> Result<(), AddPortError> {
        if self.config.vlan_filtering == VlanFiltering::Off {
            return Ok(());
        }
        let others = || {
            self.ports()
                .filter(|&(id, _)| Some(id) != of)
                .map(|(_, config)| config)
        };
        let clash = match (container_vlan(config), native_vlan(config)) {
            (Some(vlan), _) if others().any(|other| native_vlan(other) == Some(vlan)) => Some(vlan),
            (_, Some(vlan)) if others().any(|other| container_vlan(other) == Some(vlan)) => Some(vlan),
            _ => None,
        };
        clash.map_or(Ok(()), |vlan| Err(AddPortError::NativeVlanOfContainers(vlan)))
    }

    /// Makes the rest of the switch agree with a port's configuration, which was checked.
    fn install(&mut self, id: PortId) {
        let Some(port) = &self.ports[id.index()] else {
            return;
        };
        self.lanes[id.index()] = port.lane();
        self.fdb
            .admit_port(id, port.config.fdb_limit.unwrap_or(self.config.port_limit));
        match port.config.kind {
            PortKind::Gateway => {
                self.gateway = Some(id);
                self.fdb.bind_locals(self.gateway);
            }
            PortKind::Mirror => self.mirrors.push(id),
            PortKind::Container | PortKind::Uplink => {}
        }
        if let Some(mac) = port.config.device_mac {
            self.fdb.add_local(mac, self.gateway);
        }
        if let Some(guard) = &port.config.guard {
            let key = self.static_key(guard_vlan(&port.config), guard.mac);
            // A station that was entered by `pin` before the guard came is the guard's now.
            let is_pinned = self
                .fdb
                .pin(key, id)
                .map_or_else(|at| at.port == Some(id), |()| true);
            debug_assert!(is_pinned, "check_config found the address free");
        }
    }

    /// Undoes [`Self::install`].
    fn uninstall(&mut self, id: PortId) {
        let Some(port) = &self.ports[id.index()] else {
            return;
        };
        match port.config.kind {
            PortKind::Gateway => {
                self.gateway = None;
                self.fdb.bind_locals(None);
            }
            PortKind::Mirror => self.mirrors.retain(|&mirror| mirror != id),
            PortKind::Container | PortKind::Uplink => {}
        }
        if let Some(mac) = port.config.device_mac {
            self.fdb.remove_local(mac);
        }
        if let Some(guard) = &port.config.guard {
            self.fdb
                .unpin(self.static_key(guard_vlan(&port.config), guard.mac), id);
        }
    }

    fn static_key(&self, vlan: Option<VlanId>, mac: MacAddr) -> Key {
        match self.config.vlan_filtering {
            VlanFiltering::Off => Key::new(0, mac),
            VlanFiltering::On { .. } => Key::new(vlan.map_or(0, VlanId::value), mac),
        }
    }

    fn existing(&self, id: PortId) -> Result<&Port, UnknownPort> {
        self.port(id).ok_or(UnknownPort(id))
    }
}

fn check_mac(mac: MacAddr) -> Result<(), AddPortError> {
    if mac.is_multicast() || mac.is_zero() {
        Err(AddPortError::InvalidMac(mac))
    } else {
        Ok(())
    }
}

/// Where a guard's address is entered: in the access VLAN, or for a trunk in every VLAN.
fn guard_vlan(config: &PortConfig) -> Option<VlanId> {
    match config.vlans {
        PortVlans::Access(vlan) => Some(vlan),
        PortVlans::Trunk { .. } => None,
    }
}

fn container_vlan(config: &PortConfig) -> Option<VlanId> {
    match config.kind {
        PortKind::Container => config.vlans.untagged(),
        PortKind::Gateway | PortKind::Mirror | PortKind::Uplink => None,
    }
}

fn native_vlan(config: &PortConfig) -> Option<VlanId> {
    match &config.vlans {
        PortVlans::Trunk { native, .. } if config.kind != PortKind::Container => *native,
        PortVlans::Access(_) | PortVlans::Trunk { .. } => None,
    }
}
