//! Taking published ports back, whole mappings or parts of them.

use vswitch_proxy::publish::{Connections, Listener, MappingId};

use super::{AttachFailure, Control, ControlError, Publication, Writer, store::Change};
use crate::{
    api::types::PortsUnpublish,
    model::{PortMapping, PortRequest, PortRules, Sandbox},
};

impl Control {
    /// Takes back every published port that fits one of the requests, or none if one of them fits nothing.
    ///
    /// # Errors
    ///
    /// As just said. After [`ControlError::Teardown`] they are no longer published.
    pub async fn unpublish(&self, term: &str, wish: PortsUnpublish) -> Result<(), ControlError> {
        let (control, term) = (self.clone(), term.to_owned());
        self.detached(async move {
            let mut writer = control.writer().await?;
            if let Some(request) = wish
                .ports
                .iter()
                .find(|request| request.rules != PortRules::default())
            {
                return Err(ControlError::Invalid(format!(
                    "{request}: rules have no place here; ports alone say what is to be taken back"
                )));
            }
            let (sandbox, publications) = control.read(|state| {
                let sandbox = state.resolve_sandbox(&term)?;
                Ok::<_, ControlError>((sandbox.clone(), state.publications_of(sandbox.id).to_vec()))
            })?;
            let fits = |request: &PortRequest| {
                publications.iter().any(|publication| {
                    runs(&publication.mapping, std::slice::from_ref(request)).any_removed()
                })
            };
            if let Some(request) = wish.ports.iter().find(|request| !fits(request)) {
                return Err(ControlError::NotPublished {
                    port: request.to_string(),
                    sandbox: sandbox.name,
                    published: what_is(&publications),
                });
            }
            let cuts = publications.into_iter().map(|publication| {
                let runs = runs(&publication.mapping, &wish.ports);
                (publication, runs)
            });
            let connections = match wish.close_connections {
                true => Connections::End,
                false => Connections::Keep,
            };
            control
                .cut(&mut writer, sandbox, cuts.collect(), connections)
                .await
        })
        .await
    }

    /// Leaves of each mapping what is to be kept.
    async fn cut(
        &self,
        writer: &mut Writer,
        sandbox: Sandbox,
        cuts: Vec<(Publication, Runs)>,
        connections: Connections,
    ) -> Result<(), ControlError> {
        let kept = cuts.iter().flat_map(|(_, runs)| &runs.0);
        let kept = kept.filter(|run| run.fate == Fate::Kept);
        let mut left = Sandbox {
            ports: kept.map(|run| run.mapping.clone()).collect(),
            ..sandbox
        };
        self.commit(vec![Change::PutSandbox(left.clone())]).await?;
        let mut publications = Vec::new();
        let (mut errors, mut is_whole) = (Vec::new(), true);
        for (publication, runs) in cuts {
            let before = errors.len();
            let parts = self.divide(writer, &publication, runs, &mut errors).await;
            is_whole &= errors.len() == before;
            for (id, run) in parts {
                match run.fate {
                    Fate::Kept => publications.push(Publication {
                        id,
                        mapping: run.mapping,
                        ..publication.clone()
                    }),
                    Fate::Removed => {
                        if let Some((network, _)) = publication.at {
                            let closed = self.shared.attacher.unpublish(network, id, connections).await;
                            if let Err(error) = closed.map(drop::<Vec<Listener>>) {
                                errors.push(format!("{}: {error}", run.mapping));
                            }
                            writer.release_ports(std::slice::from_ref(&run.mapping));
                        }
                    }
                }
            }
        }
        if !is_whole {
            let kept = publications.iter().map(|publication| publication.mapping.clone());
            left.ports = kept.collect();
            if let Err(error) = self.commit(vec![Change::PutSandbox(left.clone())]).await {
                // The next start publishes less.
                tracing::error!(%error, "cannot store that ports are still published");
            }
        }
        {
            let mut state = self.state();
            state.publications.insert(left.id, publications);
            state.sandboxes.insert(left.id, left.clone());
        }
        self.tidy(writer, left.id);
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ControlError::Teardown(errors)),
        }
    }

    /// Makes each part a mapping of its own; the first that is kept, or of all, keeps the name. What cannot be divided
    /// stays one mapping, and is kept.
    async fn divide(
        &self,
        writer: &mut Writer,
        publication: &Publication,
        Runs(mut runs): Runs,
        errors: &mut Vec<String>,
    ) -> Vec<(MappingId, Run)> {
        let mut parts = Vec::with_capacity(runs.len());
        // Parts that are kept and removed take turns, so at most one is before it.
        let mut before = runs.iter().position(|run| run.fate == Fate::Kept).unwrap_or(0);
        while runs.len() > 1 {
            // From the ends, so that what is left is consecutive.
            let index = match before {
                0 => runs.len() - 1,
                _ => 0,
            };
            before = before.saturating_sub(1);
            let run = runs.remove(index);
            let id = writer.next_mapping();
            if let Err(error) = self.split(publication, &run.mapping, id).await {
                errors.push(format!("{} is still published: {error}", run.mapping));
                runs.insert(index, run);
                break;
            }
            parts.push((id, run));
        }
        let count = runs.iter().map(|run| run.mapping.count).sum();
        let is_divided = runs.len() == 1;
        parts.extend(runs.into_iter().next().map(|first| {
            let rest = Run {
                mapping: PortMapping {
                    count,
                    ..first.mapping
                },
                fate: if is_divided { first.fate } else { Fate::Kept },
            };
            (publication.id, rest)
        }));
        parts.sort_by_key(|(_, run)| run.mapping.container_port);
        parts
    }

    async fn split(
        &self,
        publication: &Publication,
        part: &PortMapping,
        apart: MappingId,
    ) -> Result<(), AttachFailure> {
        let Some((network, _)) = publication.at else {
            return Ok(());
        };
        let last = part.container_port.saturating_add(part.count - 1);
        let ports = part.container_port..=last;
        self.shared
            .attacher
            .split(network, publication.id, ports, apart)
            .await
    }
}

/// A mapping in consecutive parts, each of which is kept or removed as a whole.
#[derive(Debug)]
struct Runs(Vec<Run>);

#[derive(Debug)]
struct Run {
    mapping: PortMapping,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Removed,
}

impl Runs {
    fn any_removed(&self) -> bool {
        self.0.iter().any(|run| run.fate == Fate::Removed)
    }
}

/// A sentence on what could be taken back.
fn what_is(publications: &[Publication]) -> String {
    let all: Vec<String> = publications
        .iter()
        .map(|publication| publication.shown().to_string())
        .collect();
    match all.is_empty() {
        true => "nothing is published".to_owned(),
        false => format!("published are {}", all.join(", ")),
    }
}

/// What the requests leave of a mapping and what they take.
fn runs(mapping: &PortMapping, requests: &[PortRequest]) -> Runs {
    let mut runs: Vec<Run> = Vec::new();
    for offset in 0..mapping.count {
        let port = PortMapping {
            host_port: mapping.host_port.saturating_add(offset),
            container_port: mapping.container_port.saturating_add(offset),
            count: 1,
            rules: Default::default(),
            ..*mapping
        };
        let fate = match requests.iter().any(|request| fits(request, &port)) {
            true => Fate::Removed,
            false => Fate::Kept,
        };
        match runs.last_mut() {
            Some(last) if last.fate == fate => last.mapping.count += 1,
            _ => runs.push(Run {
                mapping: PortMapping {
                    rules: mapping.rules.clone(),
                    ..port
                },
                fate,
            }),
        }
    }
    Runs(runs)
}

/// Whether a request means this one port.
fn fits(request: &PortRequest, port: &PortMapping) -> bool {
    let (container, host) = (request.container_ports, request.host_ports);
    let pairs_up = host.is_none_or(|host| {
        let is_paired = container.count() == 1
            || port.host_port.wrapping_sub(host.first) == port.container_port.wrapping_sub(container.first);
        host.contains(port.host_port) && is_paired
    });
    request.protocol == port.protocol
        && container.contains(port.container_port)
        && pairs_up
        && request.host_ip.is_none_or(|ip| match port.host_ip {
            Some(published) => ip.to_canonical() == published.to_canonical(),
            // Each of both is how it is shown, and they are one mapping.
            None => ip.is_unspecified(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> PortMapping {
        PortMapping {
            host_ip: Some([127, 0, 0, 1].into()),
            host_port: 8000,
            container_port: 80,
            count: 5,
            protocol: crate::model::Transport::Tcp,
            rules: Default::default(),
        }
    }

    /// The container's ports of each part, those that are removed in brackets.
    fn cut(mapping: &PortMapping, texts: &[&str]) -> String {
        let requests: Vec<PortRequest> = texts.iter().map(|text| text.parse().expect(text)).collect();
        let texts = runs(mapping, &requests).0.into_iter().map(|run| {
            let first = run.mapping.container_port;
            assert_eq!(run.mapping.host_port - 8000, first - 80);
            let last = first + run.mapping.count - 1;
            match run.fate {
                Fate::Kept => format!("{first}-{last}"),
                Fate::Removed => format!("[{first}-{last}]"),
            }
        });
        texts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parts_of_a_range_are_taken_back() {
        for (texts, expected) in [
            (&["80-84"][..], "[80-84]"),
            (&["1-65535"], "[80-84]"),
            (&["80"], "[80-80] 81-84"),
            (&["84"], "80-83 [84-84]"),
            (&["82"], "80-81 [82-82] 83-84"),
            (&["80", "82-83"], "[80-80] 81-81 [82-83] 84-84"),
            (&["8001:81"], "80-80 [81-81] 82-84"),
            (&["8001-8002:81-82"], "80-80 [81-82] 83-84"),
            (&["7000-9000:81"], "80-80 [81-81] 82-84"),
            (&["127.0.0.1:8001:81"], "80-80 [81-81] 82-84"),
            (&["127.0.0.1::81"], "80-80 [81-81] 82-84"),
            (&["127.0.0.2:8001:81"], "80-84"),
            (&["0.0.0.0:8001:81"], "80-84"),
            (&["8001:82"], "80-84"),
            (&["8001-8002:82-83"], "80-84"),
            (&["81/udp"], "80-84"),
            (&["79"], "80-84"),
        ] {
            assert_eq!(cut(&mapping(), texts), expected, "{texts:?}");
        }
        let everywhere = PortMapping {
            host_ip: None,
            ..mapping()
        };
        for (texts, expected) in [
            (&["0.0.0.0:8001:81"][..], "80-80 [81-81] 82-84"),
            (&["[::]:8001:81"], "80-80 [81-81] 82-84"),
            (&["0.0.0.0:8000-8004:80-84", "[::]:8000-8004:80-84"], "[80-84]"),
            (&["127.0.0.1:8001:81"], "80-84"),
        ] {
            assert_eq!(cut(&everywhere, texts), expected, "{texts:?}");
        }
    }
}
