//! Publishing ports of sandboxes, and keeping them in service while networks come and go.
//!
//! A sandbox's ports lead to the endpoint that has its default route (G2), its *home*. Connecting and disconnecting
//! may move it: then the mappings move along, with their listeners. Without a home they are *dormant*: stored, but out
//! of service with their ports closed, because nobody would answer there; they are bound when there is a home. A mapping
//! that could not be bound again is dormant, too, until the next try.

use std::sync::{Arc, PoisonError};

use vswitch_proxy::publish::{Connections, Listener, MappingId};

use super::{
    AttachFailure, Control, ControlError, PublishFailure, Writer,
    ports::{HostPorts, PortError, Taken, check, check_limit},
    publications::{Home, Publication, addresses, why_dormant},
    store::Change,
    uplink,
};
use crate::{
    api::types::PortsPublished,
    dataplane::{External, Forwarding},
    model::{PortMapping, PortRequest, Sandbox, SandboxId},
};

impl Control {
    /// Publishes ports of a living sandbox, all or none.
    ///
    /// # Errors
    ///
    /// A request is wrong, a port is taken, or the sandbox has ended; nothing has changed.
    pub async fn publish(
        &self,
        term: &str,
        requests: Vec<PortRequest>,
    ) -> Result<PortsPublished, ControlError> {
        let (control, term) = (self.clone(), term.to_owned());
        self.detached(async move {
            let mut writer = control.writer().await?;
            let requests = check(requests)?;
            let sandbox = control.read(|state| state.resolve_sandbox(&term).cloned())?;
            if sandbox.finished.is_some() {
                return Err(ControlError::NotRunning(sandbox.id));
            }
            let (home, warning) = control.read(|state| {
                let endpoints = state.endpoints_of(sandbox.id);
                let home = Home::of(&endpoints, state.prefixes());
                let warning = home.is_none().then(|| why_dormant(&sandbox.name, &endpoints));
                (home, warning)
            });
            let ports = control.publish_at(&mut writer, sandbox, home, requests).await?;
            Ok(PortsPublished {
                ports,
                warnings: warning.into_iter().collect(),
            })
        })
        .await
    }

    /// Gives what is in service then. New mappings replace those that have the same ports and could not be bound
    /// again.
    async fn publish_at(
        &self,
        writer: &mut Writer,
        mut sandbox: Sandbox,
        home: Option<Home>,
        requests: Vec<PortRequest>,
    ) -> Result<Vec<PortMapping>, ControlError> {
        let taken = self.bind(writer, &sandbox, home.as_ref(), requests).await?;
        let ports: Vec<PortMapping> = taken.iter().map(|taken| taken.mapping.clone()).collect();
        let is_replaced =
            |old: &Publication| old.at.is_none() && ports.iter().any(|new| has_ports_of(new, &old.mapping));
        let mut publications = self.read(|state| state.publications_of(sandbox.id).to_vec());
        publications.retain(|old| !is_replaced(old));
        let before = sandbox.clone();
        let kept = publications.iter().map(|publication| &publication.mapping);
        sandbox.ports = kept.chain(&ports).cloned().collect();
        if let Err(error) = self.commit(vec![Change::PutSandbox(sandbox.clone())]).await {
            if home.is_some() {
                writer.release_ports(&ports);
            }
            return Err(error);
        }
        match self.serve(writer, &sandbox, home.as_ref(), taken).await {
            Ok(served) => {
                let shown = served.iter().filter(|publication| publication.at.is_some());
                let shown = shown.map(Publication::shown).collect();
                publications.extend(served);
                let mut state = self.state();
                state.publications.insert(sandbox.id, publications);
                state.sandboxes.insert(sandbox.id, sandbox);
                Ok(shown)
            }
            Err(error) => {
                if let Err(stored) = self.commit(vec![Change::PutSandbox(before)]).await {
                    // The next start publishes them.
                    tracing::error!(error = %stored, "cannot take back stored ports");
                }
                Err(error)
            }
        }
    }

    /// Binds what is asked for, or nothing. Without a home the ports are only chosen: they are closed again, and not
    /// held.
    pub(super) async fn bind(
        &self,
        writer: &Writer,
        sandbox: &Sandbox,
        home: Option<&Home>,
        requests: Vec<PortRequest>,
    ) -> Result<Vec<Taken>, ControlError> {
        let counts = requests.iter().map(|request| request.container_ports.count());
        check_limit(counts, self.shared.plane.descriptors().left())
            .map_err(|error| failure(sandbox, home, error.into()))?;
        let must_close = home.is_none();
        let bound = writer.blocking(move |ports| {
            let mut taken = ports.publish(&requests)?;
            if must_close {
                for taken in &mut taken {
                    taken.listeners.clear();
                    ports.release(&taken.mapping);
                }
            }
            Ok(taken)
        });
        let bound: Result<_, PortError> = bound.await?;
        bound.map_err(|error| failure(sandbox, home, error.into()))
    }

    /// Takes bound ports into service, or gives them all back. Without a home they wait for one.
    pub(super) async fn serve(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        home: Option<&Home>,
        taken: Vec<Taken>,
    ) -> Result<Vec<Publication>, ControlError> {
        let Some(present) = home else {
            let dormant = taken.into_iter();
            let dormant = dormant.map(|taken| Publication::dormant(writer.next_mapping(), taken.mapping));
            return Ok(dormant.collect());
        };
        let mappings: Vec<PortMapping> = taken.iter().map(|taken| taken.mapping.clone()).collect();
        let mut served: Vec<Publication> = Vec::with_capacity(taken.len());
        for Taken { mapping, listeners } in taken {
            let mut publication = Publication::dormant(writer.next_mapping(), mapping);
            if let Err(error) = self
                .open(writer, sandbox, present, &mut publication, listeners)
                .await
            {
                for earlier in &served {
                    self.close(earlier).await;
                }
                writer.release_ports(&mappings);
                self.tidy(writer, sandbox.id);
                return Err(failure(sandbox, home, error));
            }
            served.push(publication);
        }
        Ok(served)
    }

    /// Takes all ports of a sandbox to where they belong now. Gives those that could not be bound there, with why not;
    /// they are out of service.
    pub(super) async fn settle_ports(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
    ) -> Vec<(MappingId, PublishFailure)> {
        let (publications, home) = self.read(|state| {
            (
                state.publications_of(sandbox.id).to_vec(),
                state.home_of(sandbox.id),
            )
        });
        if publications.is_empty() {
            return Vec::new();
        }
        let here = home.as_ref().map(Home::at);
        let moves = |publication: &Publication| publication.at.is_some() && publication.at != here;
        if publications.iter().any(moves) {
            // It has the families of where they were.
            writer.supplies.remove(&sandbox.id);
        }
        let mut failures = Vec::new();
        let mut settled = Vec::with_capacity(publications.len());
        for mut publication in publications {
            let moved = self
                .settle(writer, sandbox, home.as_ref(), &mut publication)
                .await;
            if let Err(error) = moved {
                failures.push((publication.id, error));
            }
            settled.push(publication);
        }
        self.state().publications.insert(sandbox.id, settled);
        self.tidy(writer, sandbox.id);
        failures
    }

    async fn settle(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        home: Option<&Home>,
        publication: &mut Publication,
    ) -> Result<(), PublishFailure> {
        if let (Some(at), Some(home)) = (publication.at, home)
            && at == home.at()
        {
            let rerouted = self
                .shared
                .attacher
                .reroute(at.0, publication.id, home.routing.clone());
            if let Err(error) = rerouted.await {
                tracing::warn!(sandbox = sandbox.name, ports = %publication.mapping, %error, "reroute");
            }
            return Ok(());
        }
        let listeners = match publication.at {
            Some(_) => self.close(publication).await,
            None => Vec::new(),
        };
        let was_held = publication.at.take().is_some();
        publication.addresses.clear();
        let mapping = publication.mapping.clone();
        let listeners = match home {
            Some(_) if !listeners.is_empty() => listeners,
            _ => {
                // They close before they are bound again.
                drop(listeners);
                if was_held {
                    writer.release_ports(std::slice::from_ref(&mapping));
                }
                if home.is_none() {
                    return Ok(());
                }
                let left = self.shared.plane.descriptors().left();
                check_limit(std::iter::once(mapping.count), left)?;
                let wish = mapping.clone();
                let bound = writer.blocking(move |ports| ports.restore(&wish)).await;
                bound??
            }
        };
        let Some(home) = home else { return Ok(()) };
        let opened = self.open(writer, sandbox, home, publication, listeners).await;
        if opened.is_err() {
            writer.release_ports(std::slice::from_ref(&mapping));
        }
        opened
    }

    /// As [`settle_ports`](Self::settle_ports), for a sandbox that has just changed its networks or was taken over.
    /// Failures are logged.
    pub(super) async fn move_ports(&self, writer: &mut Writer, sandbox: &Sandbox) {
        for (id, error) in self.settle_ports(writer, sandbox).await {
            let mapping = self.read(|state| {
                let mut publications = state.publications_of(sandbox.id).iter();
                let failed = publications.find(|publication| publication.id == id);
                failed.map(|publication| publication.mapping.clone())
            });
            let Some(mapping) = mapping else { continue };
            let (name, wish) = (&sandbox.name, PortRequest::from(&mapping));
            tracing::error!(
                sandbox = name,
                ports = %mapping,
                %error,
                "is not published now; when the port is free, run `vswitch publish {name} -p {wish}`, or connect or \
                 disconnect the container"
            );
        }
    }

    /// Publishes what an earlier daemon had published of a sandbox, on the same ports (P12). What cannot be bound is
    /// logged, and stays stored.
    pub(super) async fn restore_ports(&self, writer: &mut Writer, sandbox: &Sandbox) {
        if sandbox.ports.is_empty() {
            return;
        }
        let dormant = sandbox.ports.iter().cloned();
        let dormant = dormant.map(|mapping| Publication::dormant(writer.next_mapping(), mapping));
        let dormant: Vec<Publication> = dormant.collect();
        self.state().publications.insert(sandbox.id, dormant);
        self.move_ports(writer, sandbox).await;
    }

    /// Tells all mappings which networks there are.
    pub(super) async fn reroute_ports(&self) {
        let all = self.read(|state| {
            let prefixes = state.prefixes();
            let mut all = Vec::new();
            for (&sandbox, publications) in &state.publications {
                let Some(home) = Home::of(&state.endpoints_of(sandbox), Arc::clone(&prefixes)) else {
                    continue;
                };
                let served = publications
                    .iter()
                    .filter(|publication| publication.at == Some(home.at()));
                all.extend(served.map(|publication| (home.network, publication.id, home.routing.clone())));
            }
            all
        });
        for (network, id, routing) in all {
            if let Err(error) = self.shared.attacher.reroute(network, id, routing).await {
                tracing::warn!(%error, "cannot tell a published port of a network");
            }
        }
    }

    /// Takes all mappings out of service, at the end.
    pub(super) async fn close_ports(&self, writer: &mut Writer) {
        writer.supplies.clear();
        let all: Vec<Publication> = {
            let mut state = self.state();
            std::mem::take(&mut state.publications)
                .into_values()
                .flatten()
                .collect()
        };
        for publication in &all {
            self.close(publication).await;
        }
    }

    /// Forgets the mappings of a sandbox that has no endpoints any more.
    pub(super) fn forget_ports(&self, writer: &mut Writer, sandbox: SandboxId) {
        self.state().publications.remove(&sandbox);
        self.tidy(writer, sandbox);
    }

    async fn open(
        &self,
        writer: &mut Writer,
        sandbox: &Sandbox,
        home: &Home,
        publication: &mut Publication,
        listeners: Vec<Listener>,
    ) -> Result<(), PublishFailure> {
        let forwarding = self.forwarding(home, &publication.mapping)?;
        let sockets = self.sockets(writer, sandbox, home, &publication.mapping).await;
        let spec = home.spec(publication.id, &publication.mapping, sockets);
        let addresses = match &forwarding {
            // No socket of the host serves it.
            Some(Forwarding {
                external: External::One(address),
                ..
            }) => vec![*address],
            _ => addresses(&listeners),
        };
        let published = self
            .shared
            .attacher
            .publish(home.at(), spec, listeners, forwarding);
        published.await?;
        (publication.at, publication.addresses) = (Some(home.at()), addresses);
        Ok(())
    }

    /// Which ports of the device uplink a mapping is.
    fn forwarding(&self, home: &Home, mapping: &PortMapping) -> Result<Option<Forwarding>, PortError> {
        let way = self.read(|state| {
            let network = state.networks.get(&home.network)?;
            uplink::way(&network.settings.outbound, self.uplink()).ok()
        });
        let forwarding = uplink::forwarding(mapping, &way.unwrap_or_default(), self.uplink())?;
        uplink::to_container(forwarding, mapping, &home.endpoint)
    }

    /// Takes a mapping out of service; gives its listeners, none if they are closed already.
    async fn close(&self, publication: &Publication) -> Vec<Listener> {
        let Some((network, _)) = publication.at else {
            return Vec::new();
        };
        let closed = self
            .shared
            .attacher
            .unpublish(network, publication.id, Connections::End);
        closed.await.unwrap_or_else(|error| {
            tracing::debug!(ports = %publication.mapping, %error, "closed already");
            Vec::new()
        })
    }
}

impl Writer {
    pub(super) fn next_mapping(&mut self) -> MappingId {
        self.last_mapping += 1;
        MappingId(self.last_mapping)
    }

    /// Gives the host's ports of these mappings back.
    pub(super) fn release_ports(&self, mappings: &[PortMapping]) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        mappings.iter().for_each(|mapping| ports.release(mapping));
    }

    /// Works on the host's ports where waiting is allowed: thousands of sockets take a while.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut HostPorts) -> T + Send + 'static,
    ) -> Result<T, AttachFailure> {
        let ports = Arc::clone(&self.ports);
        let work = move || work(&mut ports.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(tokio::task::spawn_blocking(work).await?)
    }
}

/// Whether both lead from the same ports of the host to the same of the container, by whatever rules.
fn has_ports_of(one: &PortMapping, other: &PortMapping) -> bool {
    let ports = |mapping: &PortMapping| {
        let &PortMapping {
            host_ip,
            host_port,
            container_port,
            count,
            protocol,
            rules: _,
        } = mapping;
        (host_ip, host_port, container_port, count, protocol)
    };
    ports(one) == ports(other)
}

fn failure(sandbox: &Sandbox, home: Option<&Home>, error: PublishFailure) -> ControlError {
    ControlError::Publish {
        sandbox: sandbox.name.clone(),
        endpoint: home.map(|home| home.endpoint.id),
        error: Box::new(error),
    }
}

#[cfg(test)]
mod tests;
