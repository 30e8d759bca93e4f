//! Follows the host's `/etc/resolv.conf`, so that a laptop that changes networks needs no restart (R-DNS-2).
//!
//! Theory of operation. The kernel tells of changes in two directories: the one of the path, for a file that
//! is replaced there, and the one that its symbolic links lead to, for what systemd-resolved and others write
//! elsewhere. The watches are set before the file is read, so that no change falls in between. What they do
//! not see (a link in the middle, a bind mount, an interface that a link-local server is behind) a look every
//! five seconds does.

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{
    io::unix::AsyncFd,
    sync::broadcast::{Receiver, error::RecvError},
    task::AbortHandle,
    time::{self, Instant, MissedTickBehavior},
};

use super::ResolvConf;
use crate::{api::types::Event, control::Control, io::sys::watch_readable};

/// Keeps the packet loops told of the host's resolvers until it is dropped.
#[derive(Debug)]
pub struct ResolverWatch {
    task: AbortHandle,
}

impl ResolverWatch {
    /// Tells the packet loops what the file says, and again whenever it says something else.
    ///
    /// A server that has the address of one of this daemon's gateways is left out (R-DNS-4): that gateway
    /// would ask itself.
    pub fn start(control: &Control, path: &Path) -> Self {
        let (_, events) = control.events();
        let (state, plane) = (control.clone(), control.dataplane().clone());
        let mut resolvers = Resolvers::new(
            path,
            Box::new(move || {
                state.read(|state| {
                    let gateways = state.networks().flat_map(|network| network.gateways());
                    gateways.map(|gateway| gateway.addr()).collect()
                })
            }),
            Box::new(move |servers| plane.set_resolvers(servers)),
        );
        // Before anybody asks anything.
        resolvers.refresh();
        Self {
            task: tokio::spawn(resolvers.follow(events)).abort_handle(),
        }
    }
}

impl Drop for ResolverWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the host's file says, and who is told.
struct Resolvers {
    path: PathBuf,
    notices: Notices,
    /// What the file said when it could last be read.
    servers: Vec<SocketAddr>,
    /// What was told last.
    published: Option<Arc<[SocketAddr]>>,
    /// Since when the file has been empty.
    blank: Option<Instant>,
    /// The file cannot be read, and that has been logged.
    is_lost: bool,
    gateways: Gateways,
    publish: Publish,
}

type Gateways = Box<dyn Fn() -> Vec<IpAddr> + Send + Sync>;
type Publish = Box<dyn Fn(Arc<[SocketAddr]>) + Send + Sync>;

impl Resolvers {
    fn new(path: &Path, gateways: Gateways, publish: Publish) -> Self {
        Self {
            path: path.to_owned(),
            notices: Notices::open(),
            // resolv.conf(5): without the file only the local machine is asked.
            servers: vec![ResolvConf::LOCAL],
            published: None,
            blank: None,
            is_lost: false,
            gateways,
            publish,
        }
    }

    /// Goes on until the control plane ends.
    async fn follow(mut self, mut events: Receiver<Event>) {
        let mut look = time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.notices.next() => {}
                event = events.recv() => match event {
                    Ok(event) if event.kind != "network" => continue,
                    // Gateways may have come and gone.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                _ = look.tick() => {}
            }
            self.refresh();
        }
    }

    /// Reads the file again, and tells of another outcome than the last.
    fn refresh(&mut self) {
        self.notices.watch(&self.path);
        match ResolvConf::read(&self.path) {
            Ok(conf) => {
                self.is_lost = false;
                if !self.may_keep(&conf) {
                    self.servers = conf.servers;
                }
            }
            Err(error) if !self.is_lost => {
                self.is_lost = true;
                tracing::warn!(
                    path = %self.path.display(), %error, servers = list(&self.servers),
                    "cannot read the host's name servers; keeping those known"
                );
            }
            Err(_) => {}
        }
        let gateways = (self.gateways)();
        let is_ours = |server: &&SocketAddr| gateways.contains(&server.ip());
        let servers: Arc<[SocketAddr]> = self
            .servers
            .iter()
            .filter(|server| !is_ours(server))
            .copied()
            .collect();
        if self.published.as_ref() == Some(&servers) {
            return;
        }
        if servers.is_empty() {
            tracing::warn!(
                servers = list(&self.servers),
                "the host's name servers are gateways of ours: containers can ask none"
            );
        } else {
            tracing::info!(servers = list(&servers), "name servers of the host");
        }
        self.published = Some(Arc::clone(&servers));
        (self.publish)(servers);
    }

    /// Whether the file has only just become empty: who writes it in place makes it empty first, and may not get
    /// on for a while. Its servers are those known until a look finds it empty still.
    fn may_keep(&mut self, conf: &ResolvConf) -> bool {
        if !conf.is_blank || self.published.is_none() {
            self.blank = None;
            return false;
        }
        self.blank.get_or_insert_with(Instant::now).elapsed() < LOOK
    }
}

/// The kernel's notices of changes around the file.
struct Notices {
    /// `None` where the kernel has no instance left for us (`fs.inotify.max_user_instances`).
    inotify: Option<AsyncFd<OwnedFd>>,
    watches: Vec<i32>,
}

impl Notices {
    fn open() -> Self {
        let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
            .map_err(std::io::Error::from)
            .and_then(watch_readable);
        let inotify = opened
            .inspect_err(|error| tracing::debug!(%error, "no notices of changed files; looking now and then"))
            .ok();
        Self {
            inotify,
            watches: Vec::new(),
        }
    }

    /// Watches the directories where the file is now. Those that cannot be watched are looked at anyway.
    fn watch(&mut self, path: &Path) {
        let Some(inotify) = &self.inotify else { return };
        let target = fs::canonicalize(path).ok();
        let directories = [path.parent(), target.as_deref().and_then(Path::parent)];
        // Adding the same directory again gives the same number again.
        let watches: Vec<i32> = directories
            .into_iter()
            .flatten()
            .filter_map(|directory| inotify::add_watch(inotify, directory, CHANGES).ok())
            .collect();
        for &old in self.watches.iter().filter(|old| !watches.contains(old)) {
            // The kernel has dropped it by itself if the directory is gone.
            let _ = inotify::remove_watch(inotify, old);
        }
        self.watches = watches;
    }

    /// Waits for a change, and a little longer: writers take several steps.
    async fn next(&self) {
        let Some(inotify) = &self.inotify else {
            return std::future::pending().await;
        };
        match inotify.readable().await {
            Ok(mut ready) => {
                time::sleep(SETTLE).await;
                drain(inotify);
                ready.clear_ready();
            }
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Takes all notices out; what they say does not matter.
fn drain(inotify: &AsyncFd<OwnedFd>) {
    let mut buffer = [0u8; 4096];
    while matches!(rustix::io::read(inotify, &mut buffer), Ok(len) if len > 0) {}
}

fn list(servers: &[SocketAddr]) -> String {
    let mut text = String::new();
    for server in servers {
        let gap = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{gap}{server}");
    }
    text
}

/// What may mean that the file says something else.
const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR);

/// Between two looks without notice: queries time out after 5 s by default (resolv.conf(5), `timeout`).
const LOOK: Duration = Duration::from_secs(5);

/// Longer than a program takes to write and rename a small file, too short to be noticed.
const SETTLE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;
