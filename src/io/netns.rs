//! Network namespaces of containers: how they are named, opened, entered and watched.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};

use super::{message, sys};

/// How a caller names a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NetnsTarget {
    /// The namespace of a path, as long as it is still this one.
    Known {
        /// The path, as in [`NetnsTarget::Path`].
        path: PathBuf,
        /// The namespace that was there before.
        identity: NetnsIdentity,
    },
    /// A file that a namespace is mounted on, or a `/proc/PID/ns/net` link.
    Path(PathBuf),
    /// The namespace of a process.
    Pid(u32),
    /// The namespace of a process, as long as it is still this one.
    Process {
        /// Its number.
        pid: u32,
        /// When it started ([`Liveness::started`]).
        started: u64,
    },
}

impl NetnsTarget {
    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Known { path, .. } | Self::Path(path) => path.clone(),
            Self::Pid(pid) | Self::Process { pid, .. } => PathBuf::from(format!("/proc/{pid}/ns/net")),
        }
    }

    /// Opens the namespace and the user namespace that owns it.
    ///
    /// # Errors
    ///
    /// See [`NetnsError`].
    pub fn open(&self) -> Result<Netns, NetnsError> {
        let path = self.path();
        let net = match OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path)
        {
            Ok(file) => file,
            Err(error) => return Err(self.open_error(path, error)),
        };
        check_kind(&path, net.as_fd())?;
        let owner = match sys::namespace_owner(net.as_fd()) {
            Ok(owner) => owner,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                return Err(NetnsError::Foreign { path, owner: None });
            }
            Err(source) => return Err(NetnsError::failed("find the owner of", &path, source)),
        };
        let namespace = Netns {
            path,
            net: net.into(),
            owner,
        };
        if self.is_still(&namespace)? {
            Ok(namespace)
        } else {
            Err(NetnsError::Gone { path: namespace.path })
        }
    }

    /// Whether what was opened is what was known before. Asked after opening: a process that still lives
    /// then had its number all the time.
    fn is_still(&self, opened: &Netns) -> Result<bool, NetnsError> {
        let failed = |source| NetnsError::failed("recognise", &opened.path, source);
        match *self {
            Self::Known { identity, .. } => Ok(opened.identity().map_err(failed)? == identity),
            Self::Path(_) | Self::Pid(_) => Ok(true),
            Self::Process { pid, started } => Ok(Liveness::again(pid, started).map_err(failed)?.is_some()),
        }
    }

    fn open_error(&self, path: PathBuf, error: io::Error) -> NetnsError {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH | libc::ENOTDIR) => NetnsError::Gone { path },
            Some(libc::EACCES | libc::EPERM) => {
                let owner = match self {
                    Self::Pid(pid) | Self::Process { pid, .. } => fs::metadata(format!("/proc/{pid}"))
                        .ok()
                        .map(|process| process.uid()),
                    Self::Known { .. } | Self::Path(_) => None,
                };
                NetnsError::Foreign { path, owner }
            }
            _ => NetnsError::failed("open", &path, error),
        }
    }
}

/// An open network namespace, which lives at least as long as this.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    net: OwnedFd,
    owner: OwnedFd,
}

impl Netns {
    /// What tells this namespace from all others that exist.
    ///
    /// # Errors
    ///
    /// The kernel's, which has no reason to refuse.
    pub fn identity(&self) -> io::Result<NetnsIdentity> {
        identity_of(self.net.as_fd())
    }

    /// The user who created the user namespace that it belongs to, as ours numbers users.
    ///
    /// # Errors
    ///
    /// The kernel's, which has no reason to refuse.
    pub fn creator(&self) -> io::Result<u32> {
        sys::user_namespace_creator(self.owner.as_fd())
    }

    /// Moves the calling process into the namespace, as its root user where that is another user
    /// namespace than ours.
    ///
    /// The process must have one thread. What it opens afterwards it opens with the rights there; the
    /// file system stays as it is.
    ///
    /// # Errors
    ///
    /// [`NetnsError::Foreign`] when the namespace belongs to somebody else.
    pub fn enter(&self) -> Result<(), NetnsError> {
        let ours = File::open("/proc/self/ns/user")
            .and_then(|user| identity_of(user.as_fd()))
            .map_err(|source| {
                NetnsError::failed("open the own user namespace to enter", &self.path, source)
            })?;
        let owner = identity_of(self.owner.as_fd())
            .map_err(|source| NetnsError::failed("find the owner of", &self.path, source))?;
        // Joining the user namespace that one is in already is an error (EINVAL).
        if owner != ours {
            setns(&self.owner, CloneFlags::CLONE_NEWUSER)
                .map_err(|errno| self.enter_error("enter the user namespace of", errno))?;
        }
        setns(&self.net, CloneFlags::CLONE_NEWNET).map_err(|errno| self.enter_error("enter", errno))
    }

    fn enter_error(&self, operation: &'static str, errno: nix::errno::Errno) -> NetnsError {
        match errno {
            nix::errno::Errno::EPERM | nix::errno::Errno::EACCES => NetnsError::Foreign {
                path: self.path.clone(),
                owner: sys::user_namespace_creator(self.owner.as_fd()).ok(),
            },
            _ => NetnsError::failed(operation, &self.path, errno.into()),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.net.as_fd()
    }
}

/// Device and inode of a namespace; a number is used again only after the namespace has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetnsIdentity {
    /// Device number of the namespace file system.
    pub device: u64,
    /// Inode number of the namespace, as `readlink /proc/PID/ns/net` shows it.
    pub inode: u64,
}

impl NetnsIdentity {
    /// The namespace that the calling thread is in.
    ///
    /// # Errors
    ///
    /// Those of opening `/proc/thread-self/ns/net`.
    pub fn current() -> io::Result<Self> {
        identity_of(File::open("/proc/thread-self/ns/net")?.as_fd())
    }
}

/// Why a network namespace cannot be used.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum NetnsError {
    /// Something failed that should not.
    #[error("{operation} network namespace {}: {source}", path.display())]
    Failed {
        /// What was tried.
        operation: String,
        /// The namespace's file.
        path: PathBuf,
        /// The kernel's answer.
        #[serde(with = "message::error")]
        source: io::Error,
    },
    /// The namespace belongs to another user; a daemon of that user, or of root, can serve it.
    #[error(
        "network namespace {} belongs to {}: run vswitchd as {}, or attach a rootless container of your own",
        path.display(), Owner(*owner), Server(*owner)
    )]
    Foreign {
        /// The namespace's file.
        path: PathBuf,
        /// Who created the user namespace that owns it, if that can be known.
        owner: Option<u32>,
    },
    /// The process has ended, or the file does not exist.
    #[error("there is no network namespace {}: the process has ended or the path is wrong", path.display())]
    Gone {
        /// The namespace's file.
        path: PathBuf,
    },
    /// The file is something else; a namespace mounted in another mount namespace looks like that.
    #[error(
        "{} is not a network namespace; if a container engine mounted it in a mount namespace of its own, \
         name it through that engine's process: /proc/PID/root{}",
        path.display(), path.display()
    )]
    NotANamespace {
        /// The file.
        path: PathBuf,
    },
}

impl NetnsError {
    fn failed(operation: &str, path: &Path, source: io::Error) -> Self {
        Self::Failed {
            operation: operation.to_owned(),
            path: path.to_owned(),
            source,
        }
    }
}

struct Owner(Option<u32>);

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(0) => write!(f, "root"),
            Some(uid) => write!(f, "user {uid}"),
            None => write!(f, "another user"),
        }
    }
}

struct Server(Option<u32>);

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(uid) if uid != 0 => write!(f, "that user or as root"),
            _ => write!(f, "root"),
        }
    }
}

/// Watches one process, and is not deceived when its number is used again.
#[derive(Debug)]
pub struct Liveness {
    pid: u32,
    started: u64,
    pidfd: OwnedFd,
}

impl Liveness {
    /// Begins to watch the process that has this number now.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none, or it has ended already.
    pub fn of(pid: u32) -> io::Result<Self> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has ended"));
        let number = i32::try_from(pid)
            .ok()
            .filter(|&pid| pid > 0)
            .and_then(Pid::from_raw);
        let pidfd = match pidfd_open(number.ok_or_else(gone)?, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // The last two, by the kernel's version: the number is a mere thread's now.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::NOENT | rustix::io::Errno::INVAL) => {
                return Err(gone());
            }
            Err(error) => return Err(error.into()),
        };
        let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                return Err(gone());
            }
            // Such as EMFILE: it says nothing about the process.
            Err(error) => {
                let text = format!("read /proc/{pid}/stat: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        };
        let started = start_time(&stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat: {stat}")))?;
        let liveness = Self { pid, started, pidfd };
        // The number cannot have changed hands while the process behind the pidfd still lives.
        if liveness.is_alive()? {
            Ok(liveness)
        } else {
            Err(gone())
        }
    }

    /// Watches a process that was known before, say to an earlier daemon; `None` if it has ended.
    ///
    /// # Errors
    ///
    /// Those of the kernel, other than that the process does not exist.
    pub fn again(pid: u32, started: u64) -> io::Result<Option<Self>> {
        match Self::of(pid) {
            Ok(liveness) => Ok((liveness.started == started).then_some(liveness)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it started, in clock ticks since boot; with the number it names the process for this boot.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Sends the process a signal; never a later one with its number.
    ///
    /// # Errors
    ///
    /// `ESRCH` when it has ended, `EPERM` when it is somebody else's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// Whether the process still runs. A zombie does not.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub fn is_alive(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
        Ok(poll(&mut polled, Some(&Timespec::default()))? == 0)
    }
}

/// The descriptor becomes readable when the process ends.
impl AsFd for Liveness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Identity of the host's present boot: random, and another one after each start of the kernel.
///
/// # Errors
///
/// Those of reading `/proc/sys/kernel/random/boot_id` (random(4)).
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim_end()
        .to_owned())
}

fn check_kind(path: &Path, file: BorrowedFd<'_>) -> Result<(), NetnsError> {
    let status =
        fstatfs(file).map_err(|errno| NetnsError::failed("read the file system of", path, errno.into()))?;
    let is_netns = status.filesystem_type() == NSFS_MAGIC
        && sys::namespace_kind(file).is_ok_and(|kind| kind == libc::CLONE_NEWNET);
    if is_netns {
        Ok(())
    } else {
        Err(NetnsError::NotANamespace {
            path: path.to_owned(),
        })
    }
}

pub(crate) fn identity_of(namespace: BorrowedFd<'_>) -> io::Result<NetnsIdentity> {
    let status = rustix::fs::fstat(namespace)?;
    Ok(NetnsIdentity {
        device: status.st_dev,
        inode: status.st_ino,
    })
}

/// Field 22 of `/proc/PID/stat`. The second field, the command's name, is in parentheses and may contain
/// anything, so counting starts behind the last `)` (proc_pid_stat(5)).
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let numbers: Vec<String> = (4..=52).map(|field: u32| field.to_string()).collect();
        for name in ["cat", "a b", "x) R 1 2 3", "(((", ")"] {
            let stat = format!("77 ({name}) S {}", numbers.join(" "));
            assert_eq!(start_time(&stat), Some(22), "{name}");
        }
        for stat in [
            "",
            "1 (x",
            "1 (x) S 4 5",
            "1 (x) S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 z",
        ] {
            assert_eq!(start_time(stat), None, "{stat}");
        }
    }

    #[test]
    fn our_own_namespace_opens_by_pid_and_by_path() {
        let by_pid = NetnsTarget::Pid(std::process::id())
            .open()
            .expect("own namespace");
        let by_path = NetnsTarget::Path("/proc/self/ns/net".into())
            .open()
            .expect("own namespace");
        assert_eq!(by_pid.identity().ok(), by_path.identity().ok());
        assert_eq!(by_pid.identity().ok(), NetnsIdentity::current().ok());
    }

    #[test]
    fn a_successor_is_not_taken_for_what_was_there_before() {
        let ours = Liveness::of(std::process::id()).expect("we run");
        let process = |started| NetnsTarget::Process {
            pid: ours.pid(),
            started,
        };
        let namespace = process(ours.started()).open().expect("own namespace");
        let identity = namespace.identity().expect("it is open");
        let known = |inode| NetnsTarget::Known {
            path: "/proc/self/ns/net".into(),
            identity: NetnsIdentity { inode, ..identity },
        };
        known(identity.inode).open().expect("own namespace");
        for stranger in [process(ours.started() + 1), known(identity.inode + 1)] {
            let refused = stranger.open();
            assert!(matches!(refused, Err(NetnsError::Gone { .. })), "{refused:?}");
        }
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let cases = [
            ("/proc/self/ns/user", "not a network namespace"),
            ("/dev/null", "not a network"),
        ];
        for (path, text) in cases {
            let error = NetnsTarget::Path(path.into()).open().expect_err(path).to_string();
            assert!(error.contains(path) && error.contains(text), "{error}");
        }
        let gone = NetnsTarget::Path("/nonexistent/netns".into()).open();
        assert!(matches!(gone, Err(NetnsError::Gone { .. })), "{gone:?}");
    }

    #[test]
    fn an_ended_process_is_noticed_and_its_number_is_not_trusted() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat runs");
        let liveness = Liveness::of(child.id()).expect("the child runs");
        assert!(liveness.is_alive().expect("poll works"));
        let again = Liveness::again(child.id(), liveness.started()).expect("readable");
        assert!(again.is_some(), "the same process");
        let other = Liveness::again(child.id(), liveness.started() + 1).expect("readable");
        assert!(other.is_none(), "another start time is another process");
        drop(child.stdin.take());
        child.wait().expect("the child ends");
        assert!(!liveness.is_alive().expect("poll works"));
        assert!(
            Liveness::again(child.id(), liveness.started())
                .expect("readable")
                .is_none()
        );
    }

    #[test]
    fn a_boot_has_one_identity() {
        let id = boot_id().expect("the kernel says it to everybody");
        assert_eq!(id.len(), 36, "{id:?}");
        assert_eq!(boot_id().ok(), Some(id));
    }

    #[test]
    fn numbers_that_no_process_has_are_nobodys() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let own = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get());
            sender
                .send(own.expect("ids are positive"))
                .expect("somebody listens");
            wait.recv().expect_err("it is dropped");
        });
        for pid in [0, u32::MAX, receiver.recv().expect("it says its id")] {
            assert_eq!(
                Liveness::of(pid).err().map(|error| error.kind()),
                Some(io::ErrorKind::NotFound),
                "{pid}"
            );
        }
        drop(done);
        thread.join().expect("it ends");
    }
}
