//! Published ports: which external port leads where (N-DN-1, N-DN-7).

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use vswitch_wire::IpProtocol;

use crate::{Address, MappingId, PortMapping, PublishError, conntrack::List};

/// A mapping with the connections that came by it.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) mapping: PortMapping,
    pub(crate) connections: List,
    /// How many there were.
    pub(crate) hits: u64,
    /// It lets nobody in any more and goes with its last connection.
    pub(crate) is_withdrawn: bool,
}

/// All mappings, by number. Numbers are used again.
#[derive(Debug, Default)]
pub(crate) struct Publications {
    all: Vec<Option<Publication>>,
    free: Vec<u32>,
    by_id: HashMap<MappingId, u32, FixedState>,
    by_port: HashMap<Key, u32, FixedState>,
}

/// An external port. Without an address it is that of all addresses of the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    external: Option<Address>,
    is_v4: bool,
    protocol: u8,
    port: u16,
}

impl Publications {
    pub(crate) fn add(&mut self, mapping: PortMapping) -> Result<(), PublishError> {
        self.check(&mapping)?;
        let number = match self.free.pop() {
            Some(free) => free,
            None => {
                self.all.push(None);
                (self.all.len() - 1) as u32
            }
        };
        for key in keys(&mapping) {
            self.by_port.insert(key, number);
        }
        self.by_id.insert(mapping.id, number);
        self.all[number as usize] = Some(Publication {
            mapping,
            connections: List::EMPTY,
            hits: 0,
            is_withdrawn: false,
        });
        Ok(())
    }

    fn check(&self, mapping: &PortMapping) -> Result<(), PublishError> {
        let &PortMapping {
            id,
            protocol,
            external,
            ref ports,
            target,
            target_port,
            ..
        } = mapping;
        if self.by_id.contains_key(&id) {
            return Err(PublishError::Exists(id));
        }
        if !matches!(protocol, IpProtocol::TCP | IpProtocol::UDP | IpProtocol::SCTP) {
            return Err(PublishError::Protocol(protocol));
        }
        let (first, last) = (*ports.start(), *ports.end());
        let fits = || target_port.checked_add(last - first).is_some();
        if first == 0 || last < first || target_port == 0 || !fits() {
            return Err(PublishError::Ports {
                first,
                last,
                target_port,
            });
        }
        if let Some(external) = external
            && external.is_ipv4() != target.is_ipv4()
        {
            return Err(PublishError::Versions { external, target });
        }
        for key in keys(mapping) {
            if let Some(holder) = self.by_port.get(&key) {
                return Err(PublishError::Taken {
                    port: key.port,
                    holder: self.get(*holder).map_or(id, |holder| holder.mapping.id),
                });
            }
        }
        Ok(())
    }

    /// Where an external port leads: the mapping, and the port inside.
    pub(crate) fn find(&self, external: Address, protocol: u8, port: u16) -> Option<(u32, u16)> {
        if self.by_port.is_empty() {
            return None;
        }
        let key = |external, is_v4| Key {
            external,
            is_v4,
            protocol,
            port,
        };
        let is_v4 = external.is_v4();
        let number = self
            .by_port
            .get(&key(Some(external), is_v4))
            .or_else(|| self.by_port.get(&key(None, is_v4)))?;
        let mapping = &self.get(*number)?.mapping;
        Some((*number, mapping.target_port + (port - mapping.ports.start())))
    }

    /// The mapping that leads to a port inside, if any: what lets strangers in to a routed network.
    pub(crate) fn leading_to(&self, target: std::net::IpAddr, protocol: u8, port: u16) -> Option<u32> {
        let leads = |publication: &Publication| {
            let mapping = &publication.mapping;
            let offset = port.checked_sub(mapping.target_port);
            !publication.is_withdrawn
                && mapping.target == target
                && mapping.protocol.0 == protocol
                && offset.is_some_and(|offset| offset <= mapping.ports.end() - mapping.ports.start())
        };
        let found = self.all.iter().position(|at| at.as_ref().is_some_and(leads));
        found.map(|index| index as u32)
    }

    /// The mappings that lead to a host, those that were withdrawn included.
    pub(crate) fn leading_into(&self, zone: crate::Zone, target: std::net::IpAddr) -> Vec<u32> {
        let leads = |at: &Publication| at.mapping.zone == zone && at.mapping.target == target;
        let numbered = (0..).zip(&self.all);
        let leading = numbered.filter(|(_, at)| at.as_ref().is_some_and(leads));
        leading.map(|(number, _)| number).collect()
    }

    pub(crate) fn number(&self, id: MappingId) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Publication> {
        self.all.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Publication> {
        self.all.get_mut(number as usize)?.as_mut()
    }

    /// Lets nobody in by a mapping any more; its connections go on. Its name and ports are free from now on.
    pub(crate) fn withdraw(&mut self, number: u32) -> Option<PortMapping> {
        let publication = self.get_mut(number)?;
        publication.is_withdrawn = true;
        let mapping = publication.mapping.clone();
        for key in keys(&mapping) {
            self.by_port.remove(&key);
        }
        self.by_id.remove(&mapping.id);
        Some(mapping)
    }

    /// Forgets a withdrawn mapping whose last connection has ended.
    pub(crate) fn forget_withdrawn(&mut self, number: u32) {
        let is_over = |at: &Publication| at.is_withdrawn && at.connections == List::EMPTY;
        if self.get(number).is_some_and(is_over) {
            self.all[number as usize] = None;
            self.free.push(number);
        }
    }

    /// Forgets a mapping, whose connections are gone.
    pub(crate) fn remove(&mut self, number: u32) -> Option<PortMapping> {
        let publication = self.all.get_mut(number as usize)?.take()?;
        self.free.push(number);
        for key in keys(&publication.mapping) {
            self.by_port.remove(&key);
        }
        self.by_id.remove(&publication.mapping.id);
        Some(publication.mapping)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Publication> {
        self.all.iter().flatten().filter(|at| !at.is_withdrawn)
    }
}

fn keys(mapping: &PortMapping) -> impl Iterator<Item = Key> + use<> {
    let (external, is_v4) = (mapping.external.map(Address::from), mapping.target.is_ipv4());
    let protocol = mapping.protocol.0;
    mapping.ports.clone().map(move |port| Key {
        external,
        is_v4,
        protocol,
        port,
    })
}
