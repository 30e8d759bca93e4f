//! Noticing that a container, or one of its devices, has gone.

use std::{io, os::fd::AsFd, sync::Weak, time::Duration};

use tokio::{sync::mpsc::UnboundedReceiver, time::MissedTickBehavior};

use super::{
    Control, ControlError, Shared, Writer, endpoints::Container, sandboxes::is_alive, store::Change,
};
use crate::{
    dataplane::DataPlaneEvent,
    io::{netns::Liveness, sys},
    model::{EndpointId, Namespace, Sandbox, SandboxId, Timestamp},
};

impl Control {
    /// Starts to watch a sandbox; its end is handled as a command of its own.
    pub(super) fn watch(&self, writer: &mut Writer, sandbox: &Sandbox) {
        let (shared, id, namespace) = (self.downgrade(), sandbox.id, sandbox.namespace.clone());
        let watcher = tokio::spawn(async move {
            if let Err(error) = end_of(&namespace).await {
                tracing::error!(sandbox = id.short(), %error, "cannot watch; the sandbox stays until deleted");
                return;
            }
            let Some(control) = revive(&shared) else { return };
            // A task of its own: dropping the sandbox aborts this one.
            tokio::spawn(async move { control.sandbox_ended(id).await });
        });
        if let Some(earlier) = writer.watchers.insert(sandbox.id, watcher.abort_handle()) {
            earlier.abort();
        }
    }

    /// Handles what the packet loops report, until they end.
    pub(super) fn listen(&self, mut reports: UnboundedReceiver<DataPlaneEvent>) {
        let shared = self.downgrade();
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                let Some(control) = revive(&shared) else { return };
                match report {
                    DataPlaneEvent::DeviceLost(endpoint) => control.device_lost(endpoint).await,
                }
            }
        });
    }

    /// Does what the end of a sandbox asks for, unless that has been done already.
    pub(super) async fn sandbox_ended(&self, id: SandboxId) {
        let Ok(mut writer) = self.writer().await else {
            return;
        };
        let Some(sandbox) = self.read(|state| state.sandbox(id).cloned()) else {
            return;
        };
        if sandbox.finished.is_none()
            && let Err(error) = self.bury(&mut writer, sandbox).await
        {
            tracing::warn!(sandbox = id.short(), %error, "cleaning up after a container that has ended");
        }
    }

    /// Does what a container's end asks for: its endpoints go, and itself unless it is to be kept.
    pub(super) async fn bury(&self, writer: &mut Writer, sandbox: Sandbox) -> Result<(), ControlError> {
        self.shared.events.sandbox("die", &sandbox);
        if sandbox.auto_remove {
            return self.drop_sandbox(writer, sandbox, Container::Gone).await;
        }
        let ended = Sandbox {
            finished: Some(Timestamp::now()),
            ..sandbox.clone()
        };
        let torn_down = self
            .clear_sandbox(
                writer,
                &sandbox,
                Container::Gone,
                Change::PutSandbox(ended.clone()),
            )
            .await?;
        self.state().sandboxes.insert(ended.id, ended);
        torn_down.outcome()
    }

    async fn device_lost(&self, id: EndpointId) {
        let Ok(mut writer) = self.writer().await else {
            return;
        };
        let found = self.read(|state| {
            let endpoint = state.endpoint(id)?.clone();
            let sandbox = state.sandbox(endpoint.sandbox)?.clone();
            Some((endpoint, sandbox))
        });
        // Not there: it was removed in the meantime.
        let Some((endpoint, sandbox)) = found else { return };
        let name = sandbox.name.clone();
        let cleaned = if is_alive(&sandbox.namespace).unwrap_or(true) {
            tracing::warn!(
                sandbox = name,
                interface = endpoint.interface,
                "the container deleted its device"
            );
            self.unplug(&mut writer, &sandbox, vec![endpoint], Container::Alive)
                .await
        } else {
            self.bury(&mut writer, sandbox).await
        };
        if let Err(error) = cleaned {
            tracing::warn!(sandbox = name, %error, "cleaning up after a lost device");
        }
    }
}

/// How often a namespace path is looked at: nothing tells that a mount has gone, and one stat costs 2 µs.
const PATH_INTERVAL: Duration = Duration::from_secs(2);

/// Waits until the namespace is no longer the one that was handed to us.
pub(super) async fn end_of(namespace: &Namespace) -> io::Result<()> {
    match namespace {
        Namespace::Process { pid, start_time } => {
            let Some(liveness) = Liveness::again(*pid, *start_time)? else {
                return Ok(());
            };
            let pidfd = liveness.as_fd().try_clone_to_owned()?;
            let pidfd = sys::watch_readable(pidfd)?;
            pidfd.readable().await.map(drop)
        }
        Namespace::Path { .. } => {
            let mut ticks = tokio::time::interval(PATH_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while is_alive(namespace)? {
                ticks.tick().await;
            }
            Ok(())
        }
    }
}

fn revive(shared: &Weak<Shared>) -> Option<Control> {
    shared.upgrade().map(|shared| Control { shared })
}
