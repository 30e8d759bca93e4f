//! Attaching containers: a TAP or a veth inside the container's network namespace, its descriptor here.
//!
//! The daemon stays in the host's namespaces and has many threads, so it cannot enter a container itself
//! (joining a user namespace needs a process with one thread). For each operation it starts its own
//! program with the hidden argument [`ATTACH_HELPER`]: that process enters the namespace, does the work
//! by netlink, hands the device's descriptor back (`SCM_RIGHTS`) and ends.
//!
//! A new TAP is made persistent only when its descriptor has arrived here. Whatever fails before that, on
//! either side, closes the last descriptor and with it removes the interface: there is nothing to undo.
//! A veth is never more persistent than its descriptor (`carrier`).

use std::{
    fmt, io,
    net::IpAddr,
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use vswitch_wire::MacAddr;

use super::{
    device::Device,
    message,
    netlink::LinkDriver,
    netns::{NetnsError, NetnsIdentity, NetnsTarget},
    packet::PacketSocket,
    restriction::Restriction,
    tap::{TUN_DEVICE, Tap},
};
use crate::model::LinkKind;

pub use inside::helper_main;

mod carrier;
mod inside;

/// Starts attach processes. Every call blocks for a few milliseconds, at most for the deadline.
#[derive(Debug, Clone)]
pub struct AttachClient {
    program: PathBuf,
    deadline: Duration,
}

impl Default for AttachClient {
    /// Starts the running program again.
    fn default() -> Self {
        Self::new("/proc/self/exe")
    }
}

impl AttachClient {
    /// Starts `program`, which must call [`run_hidden`](crate::hidden::run_hidden) first in its `main`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            deadline: DEADLINE,
        }
    }

    /// Allows another time per operation than the default of 5 s.
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Creates the interface in the namespace and brings it up, or takes over the one that an earlier
    /// daemon left there.
    ///
    /// An interface of this name is taken over if it is a TAP with the same MAC that nobody serves; it
    /// keeps its state and its addresses, missing ones are added. A veth is made anew.
    ///
    /// # Errors
    ///
    /// See [`AttachError`]; the namespace is then as before, except that `lo` may have been set up.
    pub fn attach(&self, request: &AttachRequest) -> Result<Attached, AttachError> {
        let (reply, mut descriptors) = self.call(&Request::Attach(request.clone()))?;
        let (
            Reply::Attached {
                index,
                origin,
                namespace,
            },
            Some(descriptor),
        ) = (reply, descriptors.pop())
        else {
            return Err(AttachError::protocol("the attach process sent no descriptor"));
        };
        let serve = |descriptor| {
            Ok(match request.link.kind {
                LinkKind::Tap => {
                    let tap = Tap::adopt(descriptor)?;
                    tap.set_persist(true)?;
                    Device::Tap(tap)
                }
                LinkKind::Veth => Device::Packet(PacketSocket::adopt(descriptor)?),
            })
        };
        let device = serve(descriptor)
            .map_err(|source| AttachError::failed(format!("serve {}", request.link.name), source))?;
        Ok(Attached {
            device,
            index,
            origin,
            namespace,
        })
    }

    /// Makes the listed default routes the only ones; an address family that is not listed loses its own.
    ///
    /// # Errors
    ///
    /// See [`AttachError`].
    pub fn set_default_routes(
        &self,
        target: &NetnsTarget,
        defaults: &[DefaultRoute],
    ) -> Result<(), AttachError> {
        let request = Request::Routes {
            target: target.clone(),
            defaults: defaults.to_vec(),
        };
        match self.call(&request)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(AttachError::unexpected()),
        }
    }

    /// Deletes the TAP or veth of this name and MAC; `false` if the namespace has none such.
    ///
    /// # Errors
    ///
    /// See [`AttachError`].
    pub fn detach(&self, target: &NetnsTarget, name: &str, mac: MacAddr) -> Result<bool, AttachError> {
        let request = Request::Detach {
            target: target.clone(),
            name: name.to_owned(),
            mac: mac.0,
        };
        match self.call(&request)? {
            (Reply::Detached(deleted), _) => Ok(deleted),
            _ => Err(AttachError::unexpected()),
        }
    }

    /// Describes an interface of the namespace; `None` if it has none of this name.
    ///
    /// # Errors
    ///
    /// See [`AttachError`].
    pub fn probe(&self, target: &NetnsTarget, name: &str) -> Result<Option<Probed>, AttachError> {
        match self.call(&Request::Probe {
            target: target.clone(),
            name: name.to_owned(),
        })? {
            (Reply::Probed(probed), _) => Ok(probed),
            _ => Err(AttachError::unexpected()),
        }
    }

    /// Makes non-blocking TCP sockets inside the namespace, in the order of `counts`' fields, at most
    /// [`SocketCounts::MAX`].
    ///
    /// # Errors
    ///
    /// See [`AttachError`].
    pub fn sockets(&self, target: &NetnsTarget, counts: SocketCounts) -> Result<Vec<OwnedFd>, AttachError> {
        if counts.total() > SocketCounts::MAX {
            let text = format!("{} sockets do not fit one message", counts.total());
            return Err(AttachError::Invalid(text));
        }
        let request = Request::Sockets {
            target: target.clone(),
            counts,
        };
        match self.call(&request)? {
            (Reply::Done, sockets) if sockets.len() == counts.total() => Ok(sockets),
            _ => Err(AttachError::unexpected()),
        }
    }

    fn call(&self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), AttachError> {
        let deadline = Instant::now() + self.deadline;
        let (near, far) =
            message::pair().map_err(|source| AttachError::failed("open a socket pair", source))?;
        let mut process = Command::new(&self.program)
            .arg(ATTACH_HELPER)
            .env_clear()
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            .spawn()
            .map(|child| Process(Some(child)))
            .map_err(|source| AttachError::failed(format!("start {}", self.program.display()), source))?;
        let exchange = || {
            message::send(&near, request, &[])?;
            if !message::wait_readable(&near, deadline)? {
                return Ok(None);
            }
            Ok(Some(message::receive::<Result<Reply, AttachError>>(&near)?))
        };
        match exchange() {
            Ok(Some(Some((reply, descriptors)))) => Ok((reply?, descriptors)),
            Ok(Some(None)) => {
                let status = process
                    .wait(deadline)
                    .map_err(|source| AttachError::failed("wait for the attach process", source))?;
                Err(match status {
                    Some(status) => AttachError::Process {
                        status: status.to_string(),
                    },
                    None => AttachError::Deadline { after: self.deadline },
                })
            }
            Ok(None) => Err(AttachError::Deadline { after: self.deadline }),
            Err(source) => Err(AttachError::failed("talk to the attach process", source)),
        }
    }
}

/// How many TCP sockets of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SocketCounts {
    /// TCP over IPv4.
    pub tcp_v4: u8,
    /// TCP over IPv6.
    pub tcp_v6: u8,
}

impl SocketCounts {
    /// What one answer has room for.
    pub const MAX: usize = message::DESCRIPTORS_MAX;

    /// All together.
    pub fn total(self) -> usize {
        usize::from(self.tcp_v4) + usize::from(self.tcp_v6)
    }
}

/// What to attach where.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttachRequest {
    /// The container's network namespace.
    pub target: NetnsTarget,
    /// The interface that it gets.
    pub link: LinkConfig,
}

/// An interface of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkConfig {
    /// What it is.
    pub kind: LinkKind,
    /// Its name, 1 to 15 bytes.
    pub name: String,
    /// Its Ethernet address.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Largest IP packet in bytes, 68 to 65 521.
    pub mtu: u16,
    /// Frames that wait for us in the device's ring at most; [`DEFAULT_TXQUEUELEN`] is a good choice.
    pub txqueuelen: u32,
    /// Its addresses with their on-link prefixes. Without an IPv6 address the interface has IPv6 off.
    pub addresses: Vec<IpNet>,
    /// On-link gateways that the namespace's default routes shall lead to, at most one per family.
    pub default_gateways: Vec<IpAddr>,
}

/// An attached interface.
#[derive(Debug)]
pub struct Attached {
    /// Our end of it; a TAP is persistent.
    pub device: Device,
    /// The interface's index in its namespace.
    pub index: u32,
    /// Whether it is new.
    pub origin: Origin,
    /// The namespace that it is in.
    pub namespace: NetnsIdentity,
}

impl Attached {
    /// Gives the attachment up again: a new interface disappears, one that was taken over stays.
    ///
    /// # Errors
    ///
    /// The kernel's, which has no reason to refuse.
    pub fn roll_back(self) -> io::Result<()> {
        match self.origin {
            Origin::Created => self.device.delete(),
            Origin::TakenOver => Ok(()),
        }
    }
}

/// Where an attached interface comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It was made for this attachment.
    Created,
    /// An earlier daemon had left it.
    TakenOver,
}

/// The default route of one address family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultRoute {
    /// Name of the interface that it leaves by.
    pub interface: String,
    /// The gateway, on-link there.
    pub gateway: IpAddr,
}

/// What was found on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The interface's index in its namespace.
    pub index: u32,
    /// Its Ethernet address.
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Frames that wait for us at most.
    pub txqueuelen: u32,
    /// What drives it.
    pub driver: LinkDriver,
    /// Whether it is set up.
    pub is_up: bool,
    /// Its usable addresses, link-local ones included.
    pub addresses: Vec<IpNet>,
    /// The gateways of default routes that leave by it.
    pub default_gateways: Vec<IpAddr>,
    /// The namespace that it is in.
    pub namespace: NetnsIdentity,
}

/// Why an operation in a container's namespace failed.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
pub enum AttachError {
    /// The interface is there and another process serves it; stop that one.
    #[error("another process serves {name}; is a second vswitchd running?")]
    Busy {
        /// The interface.
        name: String,
    },
    /// The attach process did not answer in time and was killed.
    #[error("the attach process did not answer within {after:?}")]
    Deadline {
        /// The time it was given.
        after: Duration,
    },
    /// Something failed that should not.
    #[error("{operation}: {source}")]
    Failed {
        /// What was tried on what.
        operation: String,
        /// The system's answer.
        #[serde(with = "message::error")]
        source: io::Error,
    },
    /// The request contradicts itself; correct it.
    #[error("{0}")]
    Invalid(String),
    /// The namespace is the daemon's own: its default routes and addresses are the host's.
    #[error(
        "that is the host's network namespace, which vswitchd itself is in; name a process in a namespace of \
         its own, or use `vswitch run`"
    )]
    HostNamespace,
    /// There is an interface of this name that is not ours; choose another name, or delete it.
    #[error("the container has an interface {name} of its own ({found})")]
    NameTaken {
        /// The interface.
        name: String,
        /// What it is.
        found: String,
    },
    /// The namespace cannot be used.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// There is no TUN/TAP device file; load the driver, or give the device to our container.
    #[error(
        "{TUN_DEVICE} does not exist: run `modprobe tun`, or start the container that vswitchd runs in with \
         `--device {TUN_DEVICE}`"
    )]
    NoTunDevice,
    /// The kernel has no veth driver; load it, or use a TAP.
    #[error("the kernel has no veth interfaces: run `modprobe veth`, or use `--endpoint tap`")]
    NoVeth,
    /// The attach process ended without an answer; its standard error says more.
    #[error("the attach process ended without an answer ({status})")]
    Process {
        /// How it ended.
        status: String,
    },
    /// The system restricts user namespaces.
    #[error("{operation}: not permitted. {restriction}")]
    Restricted {
        /// What was refused.
        operation: String,
        /// The restriction that explains it.
        restriction: Restriction,
    },
    /// The TUN/TAP device file may not be opened; it is usually open to all.
    #[error(
        "{TUN_DEVICE} may not be opened: run `chmod 0666 {TUN_DEVICE}`, or allow it in the device cgroup"
    )]
    TunDenied,
}

impl AttachError {
    fn failed(operation: impl Into<String>, source: io::Error) -> Self {
        Self::Failed {
            operation: operation.into(),
            source,
        }
    }

    fn protocol(text: &str) -> Self {
        Self::failed("talk to the attach process", io::Error::other(text.to_owned()))
    }

    fn unexpected() -> Self {
        Self::protocol("the reply does not fit the request")
    }
}

/// Hidden first argument of attach processes.
pub const ATTACH_HELPER: &str = "attach-helper";

/// Frames that the ring towards us holds by default.
///
/// The ring must hold a TCP window in frames of MTU size, else a bulk flow overflows it and collapses: the
/// kernel's largest default window is about 5.5 MB, 3700 segments of 1460 bytes, and the next power of two
/// is 4096. The kernel's default of 1000 costs a factor of up to 30. An entry takes 8 bytes.
pub const DEFAULT_TXQUEUELEN: u32 = 4096;

/// Time for one operation: a thousand times what it needs on an idle machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// Time for a killed process to end, of which it needs a thousandth. In an uninterruptible wait of the
/// kernel's it may take for ever.
const KILL_PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Request {
    Attach(AttachRequest),
    Detach {
        target: NetnsTarget,
        name: String,
        mac: [u8; 6],
    },
    Probe {
        target: NetnsTarget,
        name: String,
    },
    Routes {
        target: NetnsTarget,
        defaults: Vec<DefaultRoute>,
    },
    Sockets {
        target: NetnsTarget,
        counts: SocketCounts,
    },
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// The device's descriptor comes with it.
    Attached {
        index: u32,
        origin: Origin,
        namespace: NetnsIdentity,
    },
    Detached(bool),
    /// Sockets that were asked for come with it.
    Done,
    Probed(Option<Probed>),
}

/// An attach process. Its answer is the last thing it does, so it is not waited for any longer than that.
struct Process(Option<Child>);

impl Process {
    /// How it ended; `None` if it has not until the deadline.
    fn wait(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.0 else { return Ok(None) };
        let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
        if !message::wait_readable(&pidfd, deadline)? {
            return Ok(None);
        }
        let status = child.wait()?;
        self.0 = None;
        Ok(Some(status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let Some(child) = &mut self.0 else { return };
        // Fails only when the process has ended already.
        let _ = child.kill();
        if !matches!(self.wait(Instant::now() + KILL_PATIENCE), Ok(Some(_)))
            && let Some(mut child) = self.0.take()
        {
            // Without a thread it stays a zombie until the daemon ends.
            let _ = thread::Builder::new()
                .name("reaper".into())
                .spawn(move || child.wait());
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({:?})", self.0.as_ref().map(Child::id))
    }
}

/// A MAC address as text in messages.
mod mac_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use vswitch_wire::MacAddr;

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through_a_message(error: AttachError) -> String {
        let text = serde_json::to_string(&Err::<Reply, _>(error)).expect("errors serialise");
        let back: Result<Reply, AttachError> = serde_json::from_str(&text).expect("errors come back");
        back.expect_err("still an error").to_string()
    }

    #[test]
    fn errors_reach_the_daemon_with_their_cause_and_advice() {
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        let cases = [
            (
                AttachError::failed("set MAC of eth0", denied),
                "set MAC of eth0: Operation not permitted",
            ),
            (AttachError::NoTunDevice, "modprobe tun"),
            (AttachError::NoTunDevice, "--device /dev/net/tun"),
            (
                AttachError::Restricted {
                    operation: "create eth0".into(),
                    restriction: Restriction::AppArmor,
                },
                "userns,",
            ),
            (
                NetnsError::Foreign {
                    path: "/proc/7/ns/net".into(),
                    owner: Some(0),
                }
                .into(),
                "run vswitchd as root, or attach a rootless container",
            ),
            (
                NetnsError::Foreign {
                    path: "/proc/7/ns/net".into(),
                    owner: Some(1000),
                }
                .into(),
                "belongs to user 1000: run vswitchd as that user or as root",
            ),
        ];
        for (error, expected) in cases {
            let text = through_a_message(error);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn a_program_that_cannot_start_is_named() {
        let client = AttachClient::new("/nonexistent/vswitchd");
        let error = client
            .probe(&NetnsTarget::Pid(1), "eth0")
            .expect_err("nothing to start")
            .to_string();
        assert!(error.starts_with("start /nonexistent/vswitchd: "), "{error}");
    }

    #[test]
    fn a_program_that_ends_without_an_answer_is_not_waited_for() {
        let error = AttachClient::new("/bin/false").probe(&NetnsTarget::Pid(1), "eth0");
        assert!(
            matches!(
                error,
                Err(AttachError::Process { .. } | AttachError::Failed { .. })
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_program_that_never_answers_is_killed_at_the_deadline() {
        let client = AttachClient::new("/usr/bin/yes").with_deadline(Duration::from_millis(50));
        let begin = Instant::now();
        let error = client.probe(&NetnsTarget::Pid(1), "eth0");
        assert!(matches!(error, Err(AttachError::Deadline { .. })), "{error:?}");
        assert!(begin.elapsed() < DEADLINE, "{:?}", begin.elapsed());
    }
}
