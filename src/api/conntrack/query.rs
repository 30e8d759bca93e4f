//! Which connections a query means.

use std::{collections::HashMap, fmt::Display, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use vswitch_wire::IpProtocol;

use super::{super::error::ApiError, entry::PROTOCOLS};
use crate::{
    control::{State as Objects, Verb},
    dataplane::{ConnEvent, ConnFilter, EndsFilter, Family, Status},
};

/// The filter of a query.
///
/// # Errors
///
/// An unknown key, network or sandbox, or a value that is none.
pub(super) fn filter(state: &Objects, query: &HashMap<String, String>) -> Result<ConnFilter, ApiError> {
    if let Some(unknown) = query.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(ApiError::invalid(format!(
            "invalid filter {unknown:?}: use one of {}",
            KEYS.join(", ")
        )));
    }
    let ends = |prefix: &str| {
        let key = |name: &str| format!("{prefix}_{name}");
        Ok::<_, ApiError>(EndsFilter {
            src: value(query, &key("src"), net)?,
            dst: value(query, &key("dst"), net)?,
            src_port: value(query, &key("sport"), parsed)?,
            dst_port: value(query, &key("dport"), parsed)?,
        })
    };
    let network = match query.get("network") {
        Some(term) => Some(state.resolve_network(term, Verb::Inspect)?.id),
        None => None,
    };
    let hosts = match query.get("sandbox") {
        Some(term) => {
            let endpoints = state.endpoints_of(state.resolve_sandbox(term)?.id).into_iter();
            let hosts = endpoints.flat_map(|(endpoint, network)| {
                endpoint
                    .addresses()
                    .map(move |address| (network.id, address.addr()))
            });
            Some(hosts.collect())
        }
        None => None,
    };
    Ok(ConnFilter {
        family: value(query, "family", family)?,
        protocol: value(query, "protocol", protocol)?,
        original: ends("orig")?,
        reply: ends("reply")?,
        state: value(query, "state", state_name)?,
        status: value(query, "status", status)?,
        network,
        hosts,
    })
}

/// Which kinds of events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    new: bool,
    update: bool,
    destroy: bool,
}

impl Wanted {
    /// Whether it is one of them; a loss always is.
    pub(super) const fn has(self, event: &ConnEvent) -> bool {
        match event {
            ConnEvent::Destroyed(_) => self.destroy,
            ConnEvent::Lost(_) => true,
            ConnEvent::New(_) => self.new,
            ConnEvent::Updated(_) => self.update,
        }
    }
}

/// `new,update,destroy`; all without it.
///
/// # Errors
///
/// One is none of these.
pub(super) fn kinds(text: Option<String>) -> Result<Wanted, ApiError> {
    let all = || "new,update,destroy".to_owned();
    let mut wanted = Wanted {
        new: false,
        update: false,
        destroy: false,
    };
    for kind in text.unwrap_or_else(all).split(',') {
        match kind {
            "new" => wanted.new = true,
            "update" => wanted.update = true,
            "destroy" => wanted.destroy = true,
            _ => return Err(invalid("types", kind, "use new, update or destroy")),
        }
    }
    Ok(wanted)
}

const KEYS: [&str; 14] = [
    "family",
    "network",
    "orig_dport",
    "orig_dst",
    "orig_sport",
    "orig_src",
    "protocol",
    "reply_dport",
    "reply_dst",
    "reply_sport",
    "reply_src",
    "sandbox",
    "state",
    "status",
];

fn value<T>(
    query: &HashMap<String, String>,
    key: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, ApiError> {
    let text = query.get(key);
    text.map(|text| read(text).map_err(|reason| invalid(key, text, reason)))
        .transpose()
}

fn invalid(key: &str, text: &str, reason: impl Display) -> ApiError {
    ApiError::invalid(format!("invalid {key} {text:?}: {reason}"))
}

fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// An address or a prefix.
fn net(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "use an address or a prefix such as 10.0.0.0/8".into())
}

fn protocol(text: &str) -> Result<IpProtocol, String> {
    let named = PROTOCOLS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(text))
        .map(|&(_, number)| number);
    named
        .or_else(|| text.parse().ok())
        .map(IpProtocol)
        .ok_or_else(|| "use tcp, udp, icmp, icmpv6, sctp or a number up to 255".into())
}

fn family(text: &str) -> Result<Family, String> {
    match text {
        "ipv4" => Ok(Family::Ipv4),
        "ipv6" => Ok(Family::Ipv6),
        _ => Err("use ipv4 or ipv6".into()),
    }
}

fn status(text: &str) -> Result<Status, String> {
    match text {
        "assured" => Ok(Status::Assured),
        "seen_reply" => Ok(Status::SeenReply),
        "unreplied" => Ok(Status::Unreplied),
        _ => Err("use assured, seen_reply or unreplied".into()),
    }
}

fn state_name(text: &str) -> Result<String, String> {
    match STATES.iter().find(|state| state.eq_ignore_ascii_case(text)) {
        Some(&state) => Ok(state.to_owned()),
        None => Err(format!("use one of {}", STATES.join(", "))),
    }
}

/// Of TCP, then of SCTP alone, as conntrack(8) calls them.
const STATES: [&str; 16] = [
    "SYN_SENT",
    "SYN_SENT2",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];
