//! Docker's filters: which objects a list shows.

use std::collections::BTreeMap;

use regex::Regex;

use super::state::State;
use crate::model::{InvalidTime, Network, PortMapping, PortRange, Sandbox, Timestamp, Transport};

/// Conditions by key. Several values of one key are alternatives (labels must all match); all keys must
/// match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads the query parameter: `{"name":{"web":true}}` or the older `{"name":["web"]}`.
    ///
    /// # Errors
    ///
    /// [`FilterError::Syntax`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value = serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text);
        let mut filters = BTreeMap::new();
        for (key, value) in value.map_err(|_| FilterError::Syntax)? {
            filters.insert(key, values(value).ok_or(FilterError::Syntax)?);
        }
        Ok(Self(filters))
    }

    /// The networks that match.
    ///
    /// # Errors
    ///
    /// A key that networks do not have, or a value that it does not take.
    pub fn networks<'a>(&self, state: &'a State) -> Result<Vec<&'a Network>, FilterError> {
        let keys = ["dangling", "driver", "id", "label", "name", "scope", "type"];
        self.only(&keys)?;
        let dangling = self.dangling()?;
        for kind in self.of("type") {
            if !matches!(kind.as_str(), "builtin" | "custom") {
                return Err(FilterError::Type(kind.clone()));
            }
        }
        let (id, name) = (self.patterns("id"), self.patterns("name"));
        let matches = |network: &&Network| {
            let kind = if network.is_predefined() {
                "builtin"
            } else {
                "custom"
            };
            let is_dangling = !network.is_predefined() && state.endpoints_on(network.id).next().is_none();
            self.any_is("driver", network.driver.name())
                && self.any_is("scope", "local")
                && self.any_is("type", kind)
                && id.matches(&network.id.to_string())
                && name.matches(&network.name)
                && labels_match(self.of("label"), &network.labels)
                && dangling.is_none_or(|wanted| wanted == is_dangling)
        };
        Ok(state.networks().filter(matches).collect())
    }

    /// The networks that `prune` may remove because of their labels and age.
    ///
    /// # Errors
    ///
    /// See [`networks`](Self::networks).
    pub fn prunable<'a>(&self, state: &'a State, now: Timestamp) -> Result<Vec<&'a Network>, FilterError> {
        self.only(&["label", "label!", "until"])?;
        let until = match self.of("until") {
            [] => None,
            [until] => Some(Timestamp::parse(until, now)?),
            _ => return Err(FilterError::Several("until")),
        };
        let excluded = self.of("label!");
        let matches = |network: &&Network| {
            !network.is_predefined()
                && state.endpoints_on(network.id).next().is_none()
                && labels_match(self.of("label"), &network.labels)
                && (excluded.is_empty() || !labels_match(excluded, &network.labels))
                && until.is_none_or(|until| network.created < until)
        };
        Ok(state.networks().filter(matches).collect())
    }

    /// The sandboxes that match. Ended ones are there when `all` says so or a status is asked for.
    ///
    /// # Errors
    ///
    /// See [`networks`](Self::networks).
    pub fn sandboxes<'a>(&self, state: &'a State, all: bool) -> Result<Vec<&'a Sandbox>, FilterError> {
        self.only(&["expose", "id", "label", "name", "network", "publish", "status"])?;
        let (exposed, published) = (self.ports("expose")?, self.ports("publish")?);
        let statuses = [
            "created",
            "dead",
            "exited",
            "paused",
            "removing",
            "restarting",
            "running",
        ];
        for status in self.of("status") {
            if !statuses.contains(&status.as_str()) {
                return Err(FilterError::Value("status", status.clone()));
            }
        }
        let ended_too = all || !self.of("status").is_empty();
        let (id, name) = (self.patterns("id"), self.patterns("name"));
        let on_network = |sandbox: &Sandbox| {
            let wanted = self.of("network");
            let is_on = |term: &String| {
                let fits = |network: &Network| {
                    network.name == *term || (!term.is_empty() && network.id.to_string().starts_with(term))
                };
                state
                    .endpoints_of(sandbox.id)
                    .iter()
                    .any(|(_, network)| fits(network))
            };
            wanted.is_empty() || wanted.iter().any(is_on)
        };
        let matches = |sandbox: &&Sandbox| {
            let status = if sandbox.finished.is_some() {
                "exited"
            } else {
                "running"
            };
            (ended_too || sandbox.finished.is_none())
                && self.any_is("status", status)
                && id.matches(&sandbox.id.to_string())
                // Docker matches the name with and without its slash.
                && (name.matches(&sandbox.name) || name.matches(&format!("/{}", sandbox.name)))
                && self.of("label").is_empty()
                && on_network(sandbox)
                && any_port(&exposed, &sandbox.ports, |mapping| mapping.container_port)
                && any_port(&published, &sandbox.ports, |mapping| mapping.host_port)
        };
        Ok(state.sandboxes().filter(matches).collect())
    }

    /// Whether an event passes: exact values, but ids and names of networks and containers may be cut.
    pub fn event(&self, event: &crate::api::types::Event) -> bool {
        let attribute = |key: &str| event.actor.attributes.get(key).map_or("", String::as_str);
        self.0.iter().all(|(key, wanted)| {
            let object = |kind: &str| {
                let id = if event.kind == kind {
                    event.actor.id.as_str()
                } else {
                    attribute(kind)
                };
                let name = if event.kind == kind { attribute("name") } else { "" };
                wanted
                    .iter()
                    .any(|term| id.starts_with(term.as_str()) || name.starts_with(term.as_str()))
            };
            match key.as_str() {
                "type" => wanted.contains(&event.kind),
                "event" => wanted.contains(&event.action),
                "scope" => wanted.contains(&event.scope),
                "network" => object("network"),
                "container" => object("container"),
                _ => false,
            }
        })
    }

    fn of(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn only(&self, keys: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !keys.contains(&key.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(FilterError::Key(unknown.clone())),
        }
    }

    fn any_is(&self, key: &str, value: &str) -> bool {
        let wanted = self.of(key);
        wanted.is_empty() || wanted.iter().any(|wanted| wanted == value)
    }

    fn patterns(&self, key: &str) -> Patterns {
        let wanted = self.of(key);
        // An expression that does not parse matches by equality only, as in Docker.
        Patterns(
            wanted
                .iter()
                .map(|text| (text.clone(), Regex::new(text).ok()))
                .collect(),
        )
    }

    /// Ports or ranges with their protocols, TCP by default.
    fn ports(&self, key: &'static str) -> Result<Vec<(PortRange, Transport)>, FilterError> {
        let read = |text: &String| {
            let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
            let read = (ports.parse().ok(), protocol.parse().ok());
            match read {
                (Some(ports), Some(protocol)) => Ok((ports, protocol)),
                _ => Err(FilterError::Value(key, text.clone())),
            }
        };
        self.of(key).iter().map(read).collect()
    }

    fn dangling(&self) -> Result<Option<bool>, FilterError> {
        match self.of("dangling") {
            [] => Ok(None),
            [value] => match value.as_str() {
                "1" | "true" => Ok(Some(true)),
                "0" | "false" => Ok(Some(false)),
                _ => Err(FilterError::Dangling),
            },
            _ => Err(FilterError::Several("dangling")),
        }
    }
}

/// Why filters were refused, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// `dangling` is yes or no.
    #[error("invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")")]
    Dangling,
    /// The objects do not have this property.
    #[error("invalid filter '{0}'")]
    Key(String),
    /// The key takes one value.
    #[error("got more than one value for filter key \"{0}\"")]
    Several(&'static str),
    /// The parameter is no filter at all.
    #[error("invalid filter")]
    Syntax,
    /// The time does not parse.
    #[error("{0}")]
    Time(#[from] InvalidTime),
    /// Networks are `builtin` or `custom`.
    #[error("invalid filter: 'type'='{0}'")]
    Type(String),
    /// The key does not take this value.
    #[error("invalid filter '{0}={1}'")]
    Value(&'static str, String),
}

struct Patterns(Vec<(String, Option<Regex>)>);

impl Patterns {
    fn matches(&self, text: &str) -> bool {
        let fits = |(exact, pattern): &(String, Option<Regex>)| {
            exact == text || pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
        };
        self.0.is_empty() || self.0.iter().any(fits)
    }
}

/// Whether a mapping has one of the wanted ports, or none is wanted; `first` says which of its ports count.
fn any_port(
    wanted: &[(PortRange, Transport)],
    mappings: &[PortMapping],
    first: fn(&PortMapping) -> u16,
) -> bool {
    let has = |(ports, protocol): &(PortRange, Transport)| {
        mappings.iter().any(|mapping| {
            let low = first(mapping);
            let high = low.saturating_add(mapping.count.saturating_sub(1));
            mapping.protocol == *protocol && ports.first <= high && low <= ports.last
        })
    };
    wanted.is_empty() || wanted.iter().any(has)
}

fn values(value: serde_json::Value) -> Option<Vec<String>> {
    match value {
        serde_json::Value::Array(list) => list
            .into_iter()
            .map(|item| item.as_str().map(str::to_owned))
            .collect(),
        serde_json::Value::Object(map) => Some(map.into_iter().map(|(value, _)| value).collect()),
        _ => None,
    }
}

/// `k` wants the label to be there, `k=v` wants its value; all must match.
fn labels_match(wanted: &[String], labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|wanted| match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    })
}

#[cfg(test)]
mod tests;
