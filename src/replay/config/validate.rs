//! What the parts of a configuration mean.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use vswitch_nat::{
    Config as EngineConfig, Egress, Eviction, Filtering, HairpinSource, Mapping, MappingId, Network, Outside,
    PortChoice, PortMapping, PrefixPair, Timeouts, Timer, Unsolicited, Zone,
};

use super::{Checksums, RawConfig, RawNetwork, RawOutside, RawPublish, Side, parse::Problems};

impl Problems {
    pub(super) fn engine(&mut self, raw: &RawConfig) -> EngineConfig {
        let profile = self.choice("profile", raw.profile.as_deref(), PROFILES);
        let mut engine = match profile.unwrap_or_default() {
            Profile::Linux => EngineConfig::linux(raw.seed),
            Profile::Rfc => EngineConfig::rfc(raw.seed),
            Profile::Standard => EngineConfig::standard(raw.seed),
        };
        let config = &mut engine;
        set(
            &mut config.mapping,
            self.choice("mapping", raw.mapping.as_deref(), MAPPINGS),
        );
        set(
            &mut config.filtering,
            self.choice("filtering", raw.filtering.as_deref(), FILTERINGS),
        );
        set(
            &mut config.port_choice,
            self.choice("port-choice", raw.port_choice.as_deref(), PORT_CHOICES),
        );
        set(
            &mut config.eviction,
            self.choice("eviction", raw.eviction.as_deref(), EVICTIONS),
        );
        set(
            &mut config.unsolicited,
            self.choice("unsolicited", raw.unsolicited.as_deref(), UNSOLICITED),
        );
        set(
            &mut config.hairpin,
            self.choice("hairpin-source", raw.hairpin_source.as_deref(), HAIRPIN_SOURCES),
        );
        let ports = raw.ports.as_deref();
        set(
            &mut config.ports,
            ports.and_then(|ports| self.ports("ports", ports)),
        );
        set(&mut config.unchecked_ports, raw.unchecked_ports.clone());
        if (config.port_choice, config.mapping) == (PortChoice::FullyRandom, Mapping::EndpointIndependent) {
            // N-PORT-5.
            self.add(
                "port-choice",
                "fully-random gives a host one port for each destination; it needs mapping = \"overlapping\"",
            );
        }
        self.timeouts(&mut config.timeouts, &raw.timeouts);
        let (limits, raw_limits) = (&mut config.limits, raw.limits);
        set(&mut limits.connections, raw_limits.connections);
        set(&mut limits.per_zone, raw_limits.per_network);
        set(&mut limits.per_host, raw_limits.per_host);
        set(&mut limits.rate_per_host, raw_limits.rate_per_host);
        let (fragments, raw_fragments) = (&mut config.fragments, raw.fragments);
        set(&mut fragments.zone_bytes, raw_fragments.network_bytes);
        set(&mut fragments.total_bytes, raw_fragments.total_bytes);
        set(&mut fragments.pieces, raw_fragments.pieces);
        set(&mut fragments.per_source, raw_fragments.per_source);
        let (tcp, raw_tcp) = (&mut config.tcp, raw.tcp);
        set(&mut tcp.loose, raw_tcp.loose);
        set(&mut tcp.liberal, raw_tcp.liberal);
        set(&mut tcp.max_retrans, raw_tcp.max_retrans);
        set(&mut tcp.watch_unacknowledged, raw_tcp.watch_unacknowledged);
        engine
    }

    fn timeouts(&mut self, timeouts: &mut Timeouts, written: &BTreeMap<String, u32>) {
        for (name, &seconds) in written {
            let span = Duration::from_secs(seconds.into());
            match Timer::ALL.iter().find(|(_, timer)| timer == name) {
                Some(&(timer, _)) => timeouts.set(timer, seconds),
                None if name == "reassembly-v4" => timeouts.reassembly_v4 = span,
                None if name == "reassembly-v6" => timeouts.reassembly_v6 = span,
                None => {
                    let known = Timer::ALL.iter().map(|(_, name)| *name);
                    let known: Vec<&str> = known.chain(["reassembly-v4", "reassembly-v6"]).collect();
                    self.add(
                        &format!("timeouts.{name}"),
                        format_args!("there is no such timer; there are {}", known.join(", ")),
                    );
                }
            }
        }
    }

    pub(super) fn outside(&mut self, raw: &RawOutside) -> Outside {
        let addresses: Vec<IpAddr> = self.each("outside.addresses", &raw.addresses, "an address");
        Outside {
            addresses,
            prefixes: self.prefixes("outside.prefixes", &raw.prefixes),
            mtu: self.mtu("outside.mtu", raw.mtu),
        }
    }

    pub(super) fn network(&mut self, index: usize, raw: &RawNetwork) -> (Network, Side) {
        let path = format!("network[{index}]");
        let zone = u16::try_from(index + 1).map(Zone).unwrap_or_else(|_| {
            self.add(&path, "there are too many networks");
            Zone(u16::MAX)
        });
        if raw.name.is_empty() {
            self.add(&format!("{path}.name"), "it needs one");
        }
        let prefixes = self.prefixes(&format!("{path}.prefixes"), &raw.prefixes);
        if raw.prefixes.is_empty() {
            self.add(
                &format!("{path}.prefixes"),
                "it needs one, for example [\"10.0.0.0/24\"]",
            );
        }
        let gateways: Vec<IpAddr> = self.each(&format!("{path}.gateways"), &raw.gateways, "an address");
        for gateway in &gateways {
            if !prefixes.is_empty() && !prefixes.iter().any(|prefix| prefix.contains(gateway)) {
                self.add(
                    &format!("{path}.gateways"),
                    format_args!("{gateway} is in none of the network's prefixes"),
                );
            }
        }
        let side = self.side(&path, &raw.name, raw.interface.as_deref(), &raw.mac);
        let filtering = self.choice(&format!("{path}.filtering"), raw.filtering.as_deref(), FILTERINGS);
        let network = Network {
            zone,
            prefixes: prefixes.clone(),
            gateways,
            mtu: self.mtu(&format!("{path}.mtu"), raw.mtu),
            egress: self.egress(&path, raw),
            filtering,
        };
        (
            network,
            Side {
                zone,
                prefixes,
                ..side
            },
        )
    }

    fn egress(&mut self, path: &str, raw: &RawNetwork) -> Egress {
        let way = self.choice(&format!("{path}.egress"), raw.egress.as_deref(), WAYS);
        let way = way.unwrap_or_default();
        if raw.addresses.is_some() && way != Way::Masquerade {
            self.add(
                &format!("{path}.addresses"),
                "only egress = \"masquerade\" has addresses",
            );
        }
        if (raw.internal.is_some() || raw.external.is_some()) && way != Way::Npt {
            self.add(
                path,
                "only egress = \"npt\" has an internal and an external prefix",
            );
        }
        match way {
            Way::Masquerade => {
                let addresses = raw.addresses.as_deref().unwrap_or_default();
                Egress::Masquerade(self.each(&format!("{path}.addresses"), addresses, "an address"))
            }
            Way::Npt => match self.prefix_pair(path, raw) {
                Some(pair) => Egress::Prefix(pair),
                None => Egress::Masquerade(Vec::new()),
            },
            Way::Routed => Egress::Routed { open: false },
            Way::RoutedOpen => Egress::Routed { open: true },
        }
    }

    fn prefix_pair(&mut self, path: &str, raw: &RawNetwork) -> Option<PrefixPair> {
        let mut side = |name: &str, text: &Option<String>| {
            let path = format!("{path}.{name}");
            let Some(text) = text else {
                self.add(&path, "egress = \"npt\" needs it");
                return None;
            };
            self.value(&path, text, "an IPv6 prefix")
        };
        let (internal, external) = (side("internal", &raw.internal), side("external", &raw.external));
        let pair = PrefixPair::new(internal?, external?);
        pair.map_err(|error| self.add(path, error)).ok()
    }

    pub(super) fn mapping(&mut self, index: usize, raw: &RawPublish, sides: &[Side]) -> Option<PortMapping> {
        let path = format!("publish[{index}]");
        let protocol = self.protocol(&format!("{path}.protocol"), &raw.protocol);
        let external = raw.external.as_deref();
        let external = external.map(|text| self.value(&format!("{path}.external"), text, "an address"));
        let ports = self.ports(&format!("{path}.ports"), &raw.ports);
        let target = self.value(&format!("{path}.target"), &raw.target, "an address");
        let network = sides.iter().skip(1).find(|side| side.name == raw.network);
        if network.is_none() {
            self.add(
                &format!("{path}.network"),
                format_args!("there is no network {:?}", raw.network),
            );
        }
        let ports = ports?;
        Some(PortMapping {
            id: MappingId(index as u64 + 1),
            protocol: protocol?,
            external: match external {
                Some(address) => Some(address?),
                None => None,
            },
            zone: network?.zone,
            target: target?,
            target_port: raw.target_port.unwrap_or(*ports.start()),
            ports,
        })
    }

    pub(super) fn side(
        &mut self,
        path: &str,
        name: &str,
        interface: Option<&str>,
        mac: &Option<String>,
    ) -> Side {
        let mac = mac.as_deref();
        Side {
            zone: Zone::OUTSIDE,
            name: name.to_owned(),
            interface: interface.unwrap_or(name).to_owned(),
            mac: mac.and_then(|text| self.value(&format!("{path}.mac"), text, "an Ethernet address")),
            prefixes: Vec::new(),
        }
    }
}

/// Replaces a value where another was given.
fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

#[derive(Clone, Copy, Default)]
enum Profile {
    Linux,
    Rfc,
    #[default]
    Standard,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Masquerade,
    Npt,
    Routed,
    RoutedOpen,
}

/// The name of the side that is no network.
pub(super) const OUTSIDE: &str = "outside";

const PROFILES: &[(&str, Profile)] = &[
    ("standard", Profile::Standard),
    ("rfc", Profile::Rfc),
    ("linux", Profile::Linux),
];
pub(super) const CHECKSUMS: &[(&str, Checksums)] =
    &[("verify", Checksums::Verified), ("believe", Checksums::Believed)];
const MAPPINGS: &[(&str, Mapping)] = &[
    ("endpoint-independent", Mapping::EndpointIndependent),
    ("overlapping", Mapping::Overlapping),
];
const FILTERINGS: &[(&str, Filtering)] = &[
    ("address-and-port", Filtering::AddressAndPort),
    ("address", Filtering::Address),
    ("endpoint-independent", Filtering::EndpointIndependent),
];
const PORT_CHOICES: &[(&str, PortChoice)] = &[
    ("preserve", PortChoice::Preserve),
    ("random", PortChoice::Random),
    ("fully-random", PortChoice::FullyRandom),
];
const EVICTIONS: &[(&str, Eviction)] = &[("offender", Eviction::Offender), ("never", Eviction::Never)];
const UNSOLICITED: &[(&str, Unsolicited)] = &[
    ("silent", Unsolicited::Silent),
    ("port-unreachable", Unsolicited::PortUnreachable),
];
const HAIRPIN_SOURCES: &[(&str, HairpinSource)] = &[
    ("external", HairpinSource::External),
    ("gateway", HairpinSource::Gateway),
];
const WAYS: &[(&str, Way)] = &[
    ("masquerade", Way::Masquerade),
    ("routed", Way::Routed),
    ("routed-open", Way::RoutedOpen),
    ("npt", Way::Npt),
];
