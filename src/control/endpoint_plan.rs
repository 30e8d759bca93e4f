//! From what a client wrote to what an endpoint shall have. Texts are those of moby 28
//! (daemon/container_operations.go, `validateEndpointSettings`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    error::{ControlError, Problems},
    interface::check_interface,
};
use crate::{
    api::types::{EndpointSettings, SandboxNetwork},
    model::{Driver, EndpointRequest, LinkKind, Network, Origin, Subnet},
};

/// Docker's option for the device's name.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

/// Reads the settings of Docker's `connect`.
pub(super) fn from_settings(settings: EndpointSettings) -> Result<EndpointRequest, ControlError> {
    let ipam = settings.ipam_config.unwrap_or_default();
    if !ipam.link_local_ips.is_empty() {
        return Err(ControlError::Unsupported(
            "a link-local address for an endpoint".into(),
        ));
    }
    if settings.links.is_some_and(|links| !links.is_empty()) {
        return Err(ControlError::Unsupported("a link between containers".into()));
    }
    let options = settings.driver_opts.unwrap_or_default();
    let interface = options.get(INTERFACE_NAME).cloned();
    let kind = kind(options.get(LinkKind::OPTION))?;
    let mut request = parse(
        &ipam.ipv4_address,
        &ipam.ipv6_address,
        &settings.mac_address,
        interface,
    )?;
    request.aliases = settings.aliases.unwrap_or_default();
    request.kind = kind;
    request.options = options;
    Ok(request)
}

/// Reads one network of a new sandbox.
pub(super) fn from_sandbox(wish: &SandboxNetwork) -> Result<EndpointRequest, ControlError> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (ipv4, ipv6, mac) = (
        text(&wish.ipv4_address),
        text(&wish.ipv6_address),
        text(&wish.mac_address),
    );
    let mut request = parse(&ipv4, &ipv6, &mac, wish.interface.clone())?;
    request.aliases = wish.aliases.clone();
    request.kind = kind(wish.endpoint.as_ref())?;
    Ok(request)
}

fn kind(text: Option<&String>) -> Result<Option<LinkKind>, ControlError> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<LinkKind>() {
        Ok(kind) => Ok(Some(kind)),
        Err(error) => {
            let problem = format!("invalid kind of endpoint {text:?}: {error}");
            Err(ControlError::InvalidEndpoint(Problems(vec![problem])))
        }
    }
}

/// Checks the request against the network.
pub(super) fn check_against(request: &EndpointRequest, network: &Network) -> Result<(), ControlError> {
    match network.driver {
        Driver::Bridge => {}
        Driver::Host => return Err(ControlError::ConnectHost),
        Driver::Null => return Err(ControlError::ConnectNone),
    }
    let mut problems = Vec::new();
    let wishes = [
        (request.ipv4.map(IpAddr::V4), &network.ipv4),
        (request.ipv6.map(IpAddr::V6), &network.ipv6),
    ];
    if network.is_predefined() {
        if wishes.iter().any(|(address, _)| address.is_some()) {
            problems.push("user specified IP address is supported on user defined networks only".to_owned());
        }
        if !request.aliases.is_empty() {
            let text = "network-scoped alias is supported only for containers in user defined networks";
            problems.push(text.to_owned());
        }
    } else {
        for (address, subnet) in wishes {
            problems.extend(address.and_then(|address| misfit(address, subnet.as_ref())));
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(ControlError::InvalidEndpoint(Problems(problems)))
    }
}

/// Why an address cannot be asked for in a subnet.
fn misfit(address: IpAddr, subnet: Option<&Subnet>) -> Option<String> {
    match subnet {
        Some(subnet) if subnet.origin == Origin::Automatic => Some(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .to_owned(),
        ),
        Some(subnet) if subnet.prefix.contains(&address) => None,
        Some(_) | None => Some(format!("no configured subnet or ip-range contain the IP address {address}")),
    }
}

fn parse(
    ipv4: &str,
    ipv6: &str,
    mac: &str,
    interface: Option<String>,
) -> Result<EndpointRequest, ControlError> {
    let mut request = EndpointRequest {
        interface,
        ..EndpointRequest::default()
    };
    let mut problems = Vec::new();
    if !ipv4.is_empty() {
        match ipv4.parse::<Ipv4Addr>() {
            Ok(address) => request.ipv4 = Some(address),
            Err(_) => problems.push(format!("invalid IPv4 address: {ipv4}")),
        }
    }
    if !ipv6.is_empty() {
        match ipv6.parse::<Ipv6Addr>() {
            Ok(address) if address.to_ipv4_mapped().is_none() => request.ipv6 = Some(address),
            Ok(_) | Err(_) => problems.push(format!("invalid IPv6 address: {ipv6}")),
        }
    }
    if !mac.is_empty() {
        match mac.parse::<vswitch_wire::MacAddr>() {
            Ok(address) if !address.is_multicast() && !address.is_zero() => request.mac = Some(address),
            Ok(_) => problems.push(format!(
                "invalid MAC address: {mac} is not the address of one station"
            )),
            Err(_) => problems.push(format!("invalid MAC address: {mac}")),
        }
    }
    if !problems.is_empty() {
        return Err(ControlError::InvalidEndpoint(Problems(problems)));
    }
    if let Some(name) = &request.interface {
        check_interface(name)?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixtures;

    fn error(ipv4: &str, ipv6: &str, mac: &str) -> String {
        parse(ipv4, ipv6, mac, None).expect_err("it is wrong").to_string()
    }

    #[test]
    fn the_kind_of_endpoint_is_one_that_there_is() {
        let docker = |text: &str| EndpointSettings {
            driver_opts: Some([("endpoint".to_owned(), text.to_owned())].into()),
            ..EndpointSettings::default()
        };
        let request = from_settings(docker("veth")).expect("there is veth");
        assert_eq!(request.kind, Some(LinkKind::Veth));
        let none = from_settings(EndpointSettings::default()).expect("nothing is asked for");
        assert_eq!(none.kind, None);
        let ours = |text: &str| SandboxNetwork {
            endpoint: Some(text.to_owned()),
            ..SandboxNetwork::default()
        };
        assert_eq!(
            from_sandbox(&ours("tap")).map(|wish| wish.kind).ok(),
            Some(Some(LinkKind::Tap))
        );
        for error in [from_settings(docker("macvlan")), from_sandbox(&ours("macvlan"))] {
            let text = error.expect_err("there is none such").to_string();
            assert!(
                text.ends_with("invalid kind of endpoint \"macvlan\": must be tap or veth"),
                "{text}"
            );
        }
    }

    #[test]
    fn bad_addresses_are_listed_together() {
        assert_eq!(
            error("x", "", ""),
            "invalid endpoint settings:\ninvalid IPv4 address: x"
        );
        assert_eq!(
            error("fd00::1", "10.0.0.1", "02:42"),
            "invalid endpoint settings:\n* invalid IPv4 address: fd00::1\n* invalid IPv6 address: 10.0.0.1\n\
             * invalid MAC address: 02:42"
        );
        for mac in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"] {
            assert!(error("", "", mac).contains(mac));
        }
        parse("10.0.0.1", "fd00::1", "02-42-00-00-00-01", Some("lan0".into())).expect("all is well");
    }

    #[test]
    fn static_addresses_need_a_user_defined_subnet_that_contains_them() {
        let (mut network, ..) = fixtures::objects();
        let wish = |ipv4: &str| parse(ipv4, "", "", None).expect("an address");
        check_against(&wish("10.0.0.77"), &network).expect("inside");
        let error = check_against(&wish("10.99.0.1"), &network)
            .expect_err("outside")
            .to_string();
        assert!(
            error.ends_with("no configured subnet or ip-range contain the IP address 10.99.0.1"),
            "{error}"
        );
        network.ipv4.as_mut().expect("it has IPv4").origin = Origin::Automatic;
        let error = check_against(&wish("10.0.0.77"), &network)
            .expect_err("automatic subnet")
            .to_string();
        assert!(error.contains("with user configured subnets"), "{error}");
        network.name = "bridge".into();
        let error = check_against(&wish("10.0.0.77"), &network)
            .expect_err("predefined")
            .to_string();
        assert!(
            error.ends_with("supported on user defined networks only"),
            "{error}"
        );
        network.driver = Driver::Host;
        check_against(&wish(""), &network).expect_err("nothing connects to host");
    }
}
