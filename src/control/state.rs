//! The objects as they are now, and how names and ids lead to them.

use std::collections::BTreeMap;

use super::{
    error::{ControlError, Verb},
    publications::Publication,
};
use crate::model::{Endpoint, EndpointId, Network, NetworkId, Sandbox, SandboxId};

/// All objects. Readers see it between two commands, never inside one.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub(super) networks: BTreeMap<NetworkId, Network>,
    pub(super) sandboxes: BTreeMap<SandboxId, Sandbox>,
    pub(super) endpoints: BTreeMap<EndpointId, Endpoint>,
    /// The mappings of living sandboxes, with their places.
    pub(super) publications: BTreeMap<SandboxId, Vec<Publication>>,
}

impl State {
    /// All networks, by id.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values()
    }

    /// All sandboxes, by id.
    pub fn sandboxes(&self) -> impl Iterator<Item = &Sandbox> {
        self.sandboxes.values()
    }

    /// The network with this id.
    pub fn network(&self, id: NetworkId) -> Option<&Network> {
        self.networks.get(&id)
    }

    /// The sandbox with this id.
    pub fn sandbox(&self, id: SandboxId) -> Option<&Sandbox> {
        self.sandboxes.get(&id)
    }

    /// The endpoint with this id.
    pub fn endpoint(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(&id)
    }

    /// Endpoints of a network, by id.
    pub fn endpoints_on(&self, network: NetworkId) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .values()
            .filter(move |endpoint| endpoint.network == network)
    }

    /// Endpoints of a sandbox with their networks, in the order of their interfaces' names.
    pub fn endpoints_of(&self, sandbox: SandboxId) -> Vec<(&Endpoint, &Network)> {
        let mut endpoints: Vec<_> = self
            .endpoints
            .values()
            .filter(|endpoint| endpoint.sandbox == sandbox)
            .filter_map(|endpoint| Some((endpoint, self.network(endpoint.network)?)))
            .collect();
        // eth2 before eth10.
        endpoints.sort_by_key(|(endpoint, _)| (endpoint.interface.len(), endpoint.interface.clone()));
        endpoints
    }

    /// What is published of a sandbox.
    pub fn publications_of(&self, sandbox: SandboxId) -> &[Publication] {
        self.publications.get(&sandbox).map_or(&[], Vec::as_slice)
    }

    /// The endpoint by which a sandbox is on a network.
    pub fn attachment(&self, network: NetworkId, sandbox: SandboxId) -> Option<&Endpoint> {
        self.endpoints_on(network)
            .find(|endpoint| endpoint.sandbox == sandbox)
    }

    /// The network that `term` means: a full id, else a name, else the start of an id.
    ///
    /// # Errors
    ///
    /// Nothing fits, or several networks do.
    pub fn resolve_network(&self, term: &str, verb: Verb) -> Result<&Network, ControlError> {
        let named = |network: &Network| (network.id.to_string(), network.name.clone());
        match resolve(term, self.networks.values(), named) {
            Resolution::Found(network) => Ok(network),
            Resolution::Ambiguous { count, found } => Err(ControlError::AmbiguousNetwork {
                term: term.to_owned(),
                count,
                found,
                verb,
            }),
            Resolution::Missing => Err(ControlError::NetworkNotFound(term.to_owned())),
        }
    }

    /// The sandbox that `term` means: a full id, else a name with or without `/`, else the start of an id.
    ///
    /// # Errors
    ///
    /// Nothing fits, or several sandboxes do.
    pub fn resolve_sandbox(&self, term: &str) -> Result<&Sandbox, ControlError> {
        let bare = term.strip_prefix('/').unwrap_or(term);
        let named = |sandbox: &Sandbox| (sandbox.id.to_string(), sandbox.name.clone());
        match resolve(bare, self.sandboxes.values(), named) {
            Resolution::Found(sandbox) => Ok(sandbox),
            Resolution::Ambiguous { .. } => Err(ControlError::AmbiguousSandbox(term.to_owned())),
            Resolution::Missing => Err(ControlError::SandboxNotFound(term.to_owned())),
        }
    }
}

enum Resolution<T> {
    Found(T),
    Ambiguous { count: usize, found: &'static str },
    Missing,
}

/// Finds the one object that a term means; `named` gives an object's id and name.
fn resolve<T: Copy>(
    term: &str,
    objects: impl Iterator<Item = T>,
    named: impl Fn(T) -> (String, String),
) -> Resolution<T> {
    if term.is_empty() {
        return Resolution::Missing;
    }
    let (mut by_name, mut by_prefix) = (Vec::new(), Vec::new());
    for object in objects {
        let (id, name) = named(object);
        if id == term {
            return Resolution::Found(object);
        }
        if name == term {
            by_name.push(object);
        }
        if id.starts_with(term) {
            by_prefix.push(object);
        }
    }
    match (by_name.as_slice(), by_prefix.as_slice()) {
        ([only], _) | ([], [only]) => Resolution::Found(*only),
        ([], []) => Resolution::Missing,
        ([], several) => Resolution::Ambiguous {
            count: several.len(),
            found: "ID prefix",
        },
        (several, _) => Resolution::Ambiguous {
            count: several.len(),
            found: "name",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(term: &str) -> Result<usize, (usize, &'static str)> {
        let objects = [
            ("78f2a", "web"),
            ("78f24", "db"),
            ("1abcd", "78f2"),
            ("2abcd", "min1"),
            ("3abcd", "min1"),
        ];
        let indices = 0..objects.len();
        match resolve(term, indices, |index| {
            (objects[index].0.to_owned(), objects[index].1.to_owned())
        }) {
            Resolution::Found(index) => Ok(index),
            Resolution::Ambiguous { count, found } => Err((count, found)),
            Resolution::Missing => Err((0, "")),
        }
    }

    #[test]
    fn a_full_id_beats_a_name_beats_a_prefix() {
        assert_eq!(find("78f24"), Ok(1));
        assert_eq!(find("78f2"), Ok(2), "a name, though it starts two ids");
        assert_eq!(find("1"), Ok(2));
        assert_eq!(find("web"), Ok(0));
        assert_eq!(find("78f"), Err((2, "ID prefix")));
        assert_eq!(find("min1"), Err((2, "name")));
        assert_eq!(find("78F2A"), Err((0, "")), "ids are compared by case");
        assert_eq!(find(""), Err((0, "")));
    }
}
