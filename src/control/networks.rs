//! Commands on networks.

use ipnet::IpNet;
use vswitch_proxy::config::{Policy, Source};

use super::{
    Control, ControlError, Filters, Verb, Writer,
    endpoints::Addresses,
    error::ErrorClass,
    filters::FilterError,
    network_plan::{NetworkPlan, Pools, SOURCE, UPLINK},
    pools::{SubnetPool, overlap},
    store::Change,
    uplink::{InvalidWay, way},
};
use crate::{
    api::types::NetworkCreate,
    dataplane::{NetworkSpec, Uplink, Way},
    model::{Network, NetworkId, OutboundSettings, Timestamp},
    uplink::DeviceUplink,
};

/// A network that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: NetworkId,
    /// What of the request was ignored; empty for nothing.
    pub warning: String,
}

impl Control {
    /// Creates a network.
    ///
    /// # Errors
    ///
    /// The request is wrong, its name or subnet is taken, or something below failed; nothing has changed.
    pub async fn create_network(&self, request: NetworkCreate) -> Result<Created, ControlError> {
        let control = self.clone();
        self.detached(async move {
            let mut writer = control.writer().await?;
            let plan = NetworkPlan::check(request.clone())?;
            if control.read(|state| state.networks().any(|network| network.name == request.name)) {
                return Err(ControlError::NetworkExists(request.name));
            }
            let warning = plan.warning_beside(control.uplink());
            let id = control.build_network(&mut writer, plan).await?;
            Ok(Created { id, warning })
        })
        .await
    }

    /// Removes a network that no endpoint is on.
    ///
    /// # Errors
    ///
    /// There is none such, it is predefined or in use. After [`ControlError::Teardown`] it is gone.
    pub async fn remove_network(&self, term: &str) -> Result<(), ControlError> {
        let (control, term) = (self.clone(), term.to_owned());
        self.detached(async move {
            let mut writer = control.writer().await?;
            let network = control.read(|state| state.resolve_network(&term, Verb::Change).cloned())?;
            if network.is_predefined() {
                return Err(ControlError::PredefinedNetwork(network.name));
            }
            control.drop_network(&mut writer, network).await
        })
        .await
    }

    /// Removes all networks that match, are not predefined and that no endpoint is on; gives their names.
    ///
    /// # Errors
    ///
    /// A filter is wrong. A network that cannot be removed is logged and left out.
    pub async fn prune_networks(&self, filters: Filters) -> Result<Vec<String>, PruneError> {
        // What the filters may be is checked first, so that their error keeps its type.
        self.read(|state| filters.prunable(state, Timestamp::now()).map(drop))?;
        let control = self.clone();
        let pruned = self.detached(async move {
            let mut writer = control.writer().await?;
            let candidates: Vec<Network> = control.read(|state| {
                let networks = filters.prunable(state, Timestamp::now()).unwrap_or_default();
                networks.into_iter().cloned().collect()
            });
            let mut names = Vec::new();
            for network in candidates {
                let name = network.name.clone();
                match control.drop_network(&mut writer, network).await {
                    Ok(()) => names.push(name),
                    Err(error @ ControlError::Teardown(_)) => {
                        tracing::warn!(network = name, %error, "pruned");
                        names.push(name);
                    }
                    Err(error) => tracing::warn!(network = name, %error, "cannot prune"),
                }
            }
            control.shared.events.pruned();
            Ok(names)
        });
        Ok(pruned.await?)
    }

    /// Chooses what the plan leaves open, stores the network and creates its switch.
    pub(super) async fn build_network(
        &self,
        writer: &mut Writer,
        plan: NetworkPlan,
    ) -> Result<NetworkId, ControlError> {
        let used: Vec<_> = self.read(|state| {
            state
                .networks()
                .flat_map(|network| network.subnets().map(|subnet| subnet.prefix))
                .collect()
        });
        let mut avoided = (self.shared.avoided)();
        let outside: &[IpNet] = self.uplink().map_or(&[], |uplink| &uplink.addresses);
        avoided.extend(outside.iter().map(IpNet::trunc));
        let unique_local = SubnetPool::unique_local(&self.shared.host_id);
        let pools = Pools {
            configured: &self.shared.pools,
            unique_local,
        };
        let network = plan.build(&used, &avoided, pools)?;
        if let Some((subnet, outside)) = uplinks_own(&network, self.uplink()) {
            return Err(ControlError::UplinkOverlap { subnet, outside });
        }
        let id = network.id;
        let spec = spec(&network, self.uplink()).map_err(|error| match error {
            InvalidWay::NoDevice => refusal(UPLINK, "device", &error),
            InvalidWay::Source { address, .. } => refusal(SOURCE, &address.to_string(), &error),
        })?;
        self.commit(vec![Change::PutNetwork(network.clone())]).await?;
        if let Err(error) = self.shared.plane.add_network(spec).await {
            if let Err(stored) = self.commit(vec![Change::RemoveNetwork(id)]).await {
                // The next start makes its switch.
                tracing::error!(error = %stored, "cannot take back a stored network");
            }
            return Err(error.into());
        }
        self.enter_network(writer, network);
        self.reroute_ports().await;
        Ok(id)
    }

    /// Makes a stored network visible.
    pub(super) fn enter_network(&self, writer: &mut Writer, network: Network) {
        writer.addresses.insert(network.id, Addresses::of(&network));
        self.shared.events.network("create", &network);
        tracing::info!(network = network.name, id = network.id.short(), "network created");
        self.state().networks.insert(network.id, network);
    }

    async fn drop_network(&self, writer: &mut Writer, network: Network) -> Result<(), ControlError> {
        let endpoints = self.read(|state| {
            let name = |sandbox| {
                state
                    .sandbox(sandbox)
                    .map_or_else(String::new, |sandbox| sandbox.name.clone())
            };
            let on_it = state.endpoints_on(network.id);
            on_it
                .map(|endpoint| (name(endpoint.sandbox), endpoint.id))
                .collect::<Vec<_>>()
        });
        if !endpoints.is_empty() {
            return Err(ControlError::NetworkActive {
                name: network.name,
                endpoints,
            });
        }
        self.commit(vec![Change::RemoveNetwork(network.id)]).await?;
        self.state().networks.remove(&network.id);
        writer.addresses.remove(&network.id);
        self.shared.events.network("destroy", &network);
        tracing::info!(network = network.name, id = network.id.short(), "network removed");
        let removed = self.shared.plane.remove_network(network.id).await;
        self.reroute_ports().await;
        removed.map_err(|error| ControlError::Teardown(vec![error.to_string()]))
    }
}

/// Why pruning failed.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// The command could not run.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A filter is wrong.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

impl PruneError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Control(error) => error.class(),
            Self::Filter(_) => ErrorClass::Invalid,
        }
    }
}

/// What the data plane must know.
///
/// # Errors
///
/// Its packets cannot leave as it says.
pub(super) fn spec(network: &Network, uplink: Option<&DeviceUplink>) -> Result<NetworkSpec, InvalidWay> {
    let leaving = match network.internal {
        true => None,
        false => Some(leaving(&network.settings.outbound, uplink)?),
    };
    Ok(NetworkSpec {
        uplink: leaving,
        ..isolated(network)
    })
}

/// The same without a way out.
pub(super) fn isolated(network: &Network) -> NetworkSpec {
    NetworkSpec {
        id: network.id,
        name: network.name.clone(),
        gateway_mac: network.gateway_mac,
        gateways: network.gateways(),
        mtu: network.settings.mtu,
        inter_container: network.settings.inter_container,
        uplink: None,
    }
}

/// A subnet of the network that hosts on the uplink's link have addresses of, with their prefix. None of them could reach the
/// other: each would look for the other on its own link.
pub(super) fn uplinks_own(network: &Network, uplink: Option<&DeviceUplink>) -> Option<(IpNet, IpNet)> {
    let uplink = uplink?;
    let leaves_by_device = matches!(
        way(&network.settings.outbound, Some(uplink)),
        Ok(Way::Device { .. })
    );
    if network.internal || !leaves_by_device {
        return None;
    }
    let outside = uplink.addresses.iter().map(IpNet::trunc);
    network
        .subnets()
        .flat_map(|subnet| outside.clone().map(move |outside| (subnet.prefix, outside)))
        .find(|&(subnet, outside)| overlap(subnet, outside))
}

fn leaving(settings: &OutboundSettings, uplink: Option<&DeviceUplink>) -> Result<Uplink, InvalidWay> {
    let way = way(settings, uplink)?;
    Ok(Uplink {
        policy: Policy {
            host_loopback: settings.host_loopback,
            metadata: settings.metadata,
            denied: settings.denied,
        },
        source: match way {
            // The addresses are the uplink's, and no socket of the host can have them.
            Way::Device { .. } => Source {
                interface: settings.interface.clone(),
                ..Source::default()
            },
            Way::Sockets => Source {
                v4: settings.ipv4,
                v6: settings.ipv6,
                interface: settings.interface.clone(),
            },
        },
        way,
    })
}

fn refusal(label: &str, value: &str, error: &InvalidWay) -> ControlError {
    ControlError::DriverOption {
        label: label.to_owned(),
        value: value.to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use vswitch_proxy::config::Denial;

    use super::*;
    use crate::{control::fixtures, model::UplinkKind};

    /// Another daemon may have had one.
    #[tokio::test]
    async fn a_network_whose_device_uplink_is_missing_is_there_without_a_way_out() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (control, _) = fixtures::control(directory.path()).await;
        let request = NetworkCreate {
            name: "lan".into(),
            ..NetworkCreate::default()
        };
        let created = control.create_network(request).await.expect("a fine name");
        let mut network = control
            .read(|state| state.resolve_network("lan", Verb::Change).cloned())
            .expect("it is there");
        network.settings.outbound.uplink = Some(UplinkKind::Device);
        assert_eq!(
            spec(&network, None).expect_err("there is none"),
            InvalidWay::NoDevice
        );
        control
            .commit(vec![Change::PutNetwork(network)])
            .await
            .expect("stored");
        drop(control);
        // Watchers of the old daemon hold the state's lock for a moment.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let (control, _) = fixtures::control(directory.path()).await;
        let ports = control.dataplane().ports(Some(created.id)).await;
        assert_eq!(ports.expect("it has a switch").len(), 1);
    }

    #[test]
    fn a_network_cannot_have_the_addresses_of_the_uplinks_link() {
        let (mut network, ..) = fixtures::objects();
        let uplink = |address: &str| -> DeviceUplink {
            format!("device=eth1,address={address}").parse().expect("valid")
        };
        let found = |network: &Network, address| uplinks_own(network, Some(&uplink(address)));
        let net = |text: &str| -> IpNet { text.parse().expect("a prefix") };
        for (address, outside) in [("10.0.0.9/24", "10.0.0.0/24"), ("10.9.9.9/8", "10.0.0.0/8")] {
            let expected = Some((net("10.0.0.0/24"), net(outside)));
            assert_eq!(found(&network, address), expected);
        }
        assert_eq!(
            found(&network, "fd00::9/64"),
            Some((net("fd00::/64"), net("fd00::/64")))
        );
        assert_eq!(found(&network, "10.0.1.9/24"), None);
        assert_eq!(uplinks_own(&network, None), None);
        network.settings.outbound.uplink = Some(UplinkKind::Sockets);
        assert_eq!(found(&network, "10.0.0.9/24"), None);
        network.settings.outbound.uplink = None;
        network.internal = true;
        assert_eq!(found(&network, "10.0.0.9/24"), None);
    }

    #[test]
    fn r_lim_6_an_internal_network_has_no_uplink() {
        let (mut network, ..) = fixtures::objects();
        assert_eq!(
            spec(&network, None).expect("sockets").uplink,
            Some(Uplink::default()),
            "loopback and metadata are closed"
        );
        network.settings.outbound = OutboundSettings {
            metadata: true,
            denied: Denial::Drop,
            ipv4: Some([192, 0, 2, 1].into()),
            interface: Some("wan0".into()),
            ..OutboundSettings::default()
        };
        let uplink = spec(&network, None)
            .expect("sockets")
            .uplink
            .expect("it is not internal");
        let policy = Policy {
            host_loopback: false,
            metadata: true,
            denied: Denial::Drop,
        };
        assert_eq!(uplink.policy, policy);
        assert_eq!(
            (
                uplink.source.v4,
                uplink.source.v6,
                uplink.source.interface.as_deref()
            ),
            (Some([192, 0, 2, 1].into()), None, Some("wan0"))
        );
        network.internal = true;
        assert_eq!(spec(&network, None).expect("nothing to check").uplink, None);
    }
}
