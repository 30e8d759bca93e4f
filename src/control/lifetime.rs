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
            definite_end_of(&namespace, id).await;
            insist(
                shared,
                move |control| async move { control.sandbox_ended(id).await },
            )
            .await;
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
                let shared = Weak::clone(&shared);
                match report {
                    DataPlaneEvent::DeviceLost(endpoint) => {
                        tokio::spawn(insist(shared, move |control| async move {
                            control.device_lost(endpoint).await
                        }))
                    }
                };
            }
        });
    }

    /// Does what the end of a sandbox asks for, unless that has been done already.
    ///
    /// # Errors
    ///
    /// As of [`bury`](Self::bury), and the daemon is ending.
    pub(super) async fn sandbox_ended(&self, id: SandboxId) -> Result<(), ControlError> {
        let mut writer = self.writer().await?;
        match self.read(|state| state.sandbox(id).cloned()) {
            Some(sandbox) if sandbox.finished.is_none() => self.bury(&mut writer, sandbox).await,
            _ => Ok(()),
        }
    }

    /// Does what a container's end asks for: its endpoints go, and itself unless it is to be kept.
    ///
    /// # Errors
    ///
    /// It could not be stored; nothing has changed then. After [`ControlError::Teardown`] it is done.
    pub(super) async fn bury(&self, writer: &mut Writer, sandbox: Sandbox) -> Result<(), ControlError> {
        // It dies once, even if it is buried at the second attempt only.
        if writer.dead.insert(sandbox.id) {
            self.shared.events.sandbox("die", &sandbox);
        }
        if sandbox.auto_remove {
            return self.drop_sandbox(writer, sandbox, Container::Gone).await;
        }
        let ended = Sandbox {
            finished: Some(Timestamp::now()),
            ports: Vec::new(),
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

    async fn device_lost(&self, id: EndpointId) -> Result<(), ControlError> {
        let mut writer = self.writer().await?;
        let found = self.read(|state| {
            let endpoint = state.endpoint(id)?.clone();
            let sandbox = state.sandbox(endpoint.sandbox)?.clone();
            Some((endpoint, sandbox))
        });
        // Not there: it was removed in the meantime.
        let Some((endpoint, sandbox)) = found else {
            return Ok(());
        };
        if is_alive(&sandbox.namespace).unwrap_or(true) {
            tracing::warn!(
                sandbox = sandbox.name,
                interface = endpoint.interface,
                "the container deleted its device"
            );
            self.unplug(&mut writer, &sandbox, vec![endpoint], Container::Alive)
                .await
        } else {
            self.bury(&mut writer, sandbox).await
        }
    }
}

/// How often a namespace path is looked at: nothing tells that a mount has gone, and one stat costs 2 µs.
/// What has failed is tried again after as long.
const PATH_INTERVAL: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 2000 });

/// Waits until the namespace is no longer the one that was handed to us, however often looking at it fails.
async fn definite_end_of(namespace: &Namespace, id: SandboxId) {
    let mut logged = false;
    while let Err(error) = end_of(namespace).await {
        if !std::mem::replace(&mut logged, true) {
            tracing::warn!(sandbox = id.short(), %error, "cannot look at the container; trying on");
        }
        tokio::time::sleep(PATH_INTERVAL).await;
    }
}

/// Repeats a command until it succeeds, there is no more control plane, or repeating cannot help.
async fn insist<F>(shared: Weak<Shared>, command: impl Fn(Control) -> F)
where
    F: Future<Output = Result<(), ControlError>> + Send + 'static,
{
    let mut logged = false;
    while let Some(control) = revive(&shared) {
        // A task of its own: dropping a sandbox aborts the one that watches it.
        match tokio::spawn(command(control)).await {
            Ok(Ok(()) | Err(ControlError::ShuttingDown)) | Err(_) => return,
            Ok(Err(error @ ControlError::Teardown(_))) => {
                tracing::warn!(%error, "cleaning up after a container");
                return;
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut logged, true) {
                    tracing::error!(%error, "cannot clean up after a container; trying on");
                }
            }
        }
        tokio::time::sleep(PATH_INTERVAL).await;
    }
}

/// Waits until the namespace is no longer the one that was handed to us.
///
/// # Errors
///
/// It cannot be looked at; whether it has ended is unknown then.
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

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, symlink},
    };

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_looked_at_has_not_ended() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("netns");
        // A link to itself: stat fails with ELOOP, even for root.
        symlink(&path, &path).expect("the directory is ours");
        let found = fs::metadata(directory.path()).expect("it is there");
        let namespace = Namespace::Path {
            path: path.clone(),
            device: found.dev(),
            inode: found.ino(),
        };
        let watcher = tokio::spawn(async move {
            definite_end_of(&namespace, SandboxId::from_bytes([1; 32])).await;
        });
        tokio::time::sleep(3 * PATH_INTERVAL).await;
        fs::remove_file(&path).expect("it is ours");
        symlink(directory.path(), &path).expect("the directory is ours");
        tokio::time::sleep(3 * PATH_INTERVAL).await;
        assert!(!watcher.is_finished(), "it is what it was");
        fs::remove_file(&path).expect("it is ours");
        let ended = tokio::time::timeout(Duration::from_secs(10), watcher).await;
        ended.expect("nothing is there").expect("no panic");
    }
}
