//! A world outside: a host of the test's own, a machine beside it, and one behind that.
//!
//! ```text
//! host 192.0.2.1 ──── 192.0.2.2 outside 203.0.113.1 ──── 203.0.113.2 far
//! ```
//!
//! IPv6 the same: `2001:db8:1::/64` and `2001:db8:2::/64`. The host knows no route to [`UNREACHABLE`], and
//! the outside drops what goes to [`BLACK_HOLE`].
//!
//! For a daemon with a device uplink there is a second cable, on which the host's kernel has no address:
//!
//! ```text
//! host up0 ──── 198.51.100.2 outside
//! ```
//!
//! IPv6: `2001:db8:3::/64`.
//!
//! Whoever has no privilege makes all this in a user namespace. The daemon then runs in another one inside it,
//! which owns nothing: it has no capability over the host's network, as on a real machine.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use super::{
    agent::{Agent, COMMAND, Role},
    daemon::{Daemon, Entry, Outcome},
    namespaces_and_tap, skip,
};

/// Where something runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    Far,
    Host,
    Outside,
}

/// What the daemon may do to the host's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// Everything in the host's network, whoever runs the tests.
    Network,
    /// Nothing.
    None,
    /// What whoever runs the tests may do.
    Own,
}

/// The machines. Dropping it ends them; what runs in them must end before.
pub(crate) struct Outside {
    /// Where the daemon has no privilege although we have some in the host: its user namespace.
    unprivileged: Option<Space>,
    far: Space,
    outside: Space,
    host: Space,
    resolvers: tempfile::NamedTempFile,
}

impl Outside {
    /// The machines, or a visible reason why the test is skipped.
    #[must_use]
    pub(crate) fn new() -> Option<Self> {
        Self::with(Privilege::Own)
    }

    /// The same with a daemon of this privilege.
    #[must_use]
    pub(crate) fn with(privilege: Privilege) -> Option<Self> {
        let world = Self::fresh(privilege)?;
        // The highest group that the host's user namespace knows.
        let is_all = rustix::process::geteuid().is_root() && world.unprivileged.is_none();
        let last_group = if is_all { i32::MAX } else { 0 };
        let script = format!("echo 0 {last_group} >/proc/sys/net/ipv4/ping_group_range");
        world.ok(Place::Host, &script);
        Some(world)
    }

    /// The same with the second cable, and a daemon that may use it.
    #[must_use]
    pub(crate) fn with_device() -> Option<Self> {
        let world = Self::with(Privilege::Network)?;
        let outside = world.outside.pid();
        world.ok(
            Place::Host,
            &format!("ip link add up0 type veth peer name dev0 netns {outside}; ip link set up0 up"),
        );
        world.ok(Place::Outside, DEVICE);
        Some(world)
    }

    /// The same with a host that lets nobody have ping sockets, as a fresh one.
    #[must_use]
    pub(crate) fn fresh(privilege: Privilege) -> Option<Self> {
        if !namespaces_and_tap() {
            return None;
        }
        let is_root = rustix::process::geteuid().is_root();
        let made = if is_root && privilege != Privilege::None {
            Self::make(&["unshare", "--net", "--mount"], Privilege::Own)
        } else {
            let words = ["unshare", "--user", "--map-root-user", "--net", "--mount"];
            let is_owner = privilege == Privilege::Network;
            let privilege = if is_owner {
                Privilege::Network
            } else {
                Privilege::None
            };
            Self::make(&words, privilege)
        };
        made.inspect_err(|reason| skip(format_args!("{reason}"))).ok()
    }

    fn make(host: &[&str], privilege: Privilege) -> Result<Self, String> {
        let resolvers = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        // Whatever the daemon's user is.
        fs::set_permissions(resolvers.path(), fs::Permissions::from_mode(0o644))
            .map_err(|error| error.to_string())?;
        let namespaces: &[&str] = match privilege {
            Privilege::Network | Privilege::None => &["user", "net", "mnt"],
            Privilege::Own => &["net", "mnt"],
        };
        let host = Space::make(&[], host, namespaces)?;
        let beside = || {
            let mut space = Space::make(&host.entry, &["unshare", "--net"], &["net"])?;
            // The network alone does not say whose it is.
            space.entry.splice(0..0, host.entry.iter().cloned());
            Ok::<_, String>(space)
        };
        let (outside, far) = (beside()?, beside()?);
        let unprivileged = match privilege {
            Privilege::None => {
                let words = ["unshare", "--user", "--map-user=1000", "--map-group=1000"];
                let mut space = Space::make(&host.entry, &words, &["user"])?;
                space.entry.splice(0..0, host.entry.iter().cloned());
                Some(space)
            }
            Privilege::Network | Privilege::Own => None,
        };
        let world = Self {
            unprivileged,
            far,
            outside,
            host,
            resolvers,
        };
        world.connect()?;
        Ok(world)
    }

    /// Lays the cables.
    fn connect(&self) -> Result<(), String> {
        let resolvers = self.resolvers.path().display();
        let (outside, far) = (self.outside.pid(), self.far.pid());
        let steps = [
            (Place::Host, NO_DETECTION.to_owned()),
            (Place::Outside, NO_DETECTION.to_owned()),
            (Place::Far, NO_DETECTION.to_owned()),
            (
                Place::Host,
                format!("ip link add out0 type veth peer name host0 netns {outside}; ip link set out0 up"),
            ),
            (
                Place::Outside,
                format!(
                    "ip link add far0 type veth peer name out0 netns {far}; ip link set far0 up; {OUTSIDE}"
                ),
            ),
            (Place::Far, FAR.to_owned()),
            (
                Place::Host,
                format!("{HOST}; mount --bind {resolvers} /etc/resolv.conf"),
            ),
        ];
        for (place, script) in steps {
            let outcome = self.sh(place, &script);
            if outcome.code != 0 {
                return Err(format!("{place:?}: {script}: {}", outcome.stderr.trim_end()));
            }
        }
        Ok(())
    }

    /// A daemon in the host.
    pub(crate) fn daemon(&self, flags: &[&str]) -> Option<Daemon> {
        let entry = &self.unprivileged.as_ref().unwrap_or(&self.host).entry;
        let entry = Entry {
            entry: entry.clone(),
            starter: entry.clone(),
        };
        Daemon::start_behind(entry, flags)
    }

    /// Runs a daemon in the host with an uplink that it cannot have, to its end.
    pub(crate) fn unprivileged_daemon(&self, uplink: &str) -> Outcome {
        let entry = &self.unprivileged.as_ref().unwrap_or(&self.host).entry;
        let script = format!(
            "d=$(mktemp -d); exec timeout 20 {} --host unix://$d/s --state-dir $d/state --uplink {uplink}",
            super::program().display()
        );
        Outcome::of(behind(entry, "sh").args(["-ec", &script]))
    }

    /// The same, with a limit on its open files.
    pub(crate) fn frugal_daemon(&self, descriptors: usize) -> Option<Daemon> {
        let entry = &self.unprivileged.as_ref().unwrap_or(&self.host).entry;
        let script = format!("ulimit -n {descriptors}; exec \"$@\"");
        let starter = ["sh", "-c", &script, "sh"].map(str::to_owned);
        let entry = Entry {
            entry: entry.clone(),
            starter: [&entry[..], &starter].concat(),
        };
        Daemon::start_behind(entry, &[])
    }

    /// The same, with a listening socket that somebody with privilege has bound (sd_listen_fds(3)).
    pub(crate) fn activated_daemon(&self, at: SocketAddr) -> Option<Daemon> {
        let (variable, words) = Role::Activate { at }.command();
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "export {COMMAND}=\"$(printf '%s\\n' \"$@\")\"; exec env '{variable}' {}",
            words.join(" ")
        );
        let host = &self.host.entry;
        let mut starter = host.clone();
        starter.extend(["sh", "-c", &script, "sh"].map(str::to_owned));
        let unprivileged = self.unprivileged.as_ref();
        // From within the host it is entered by what leads there from the host.
        starter.extend(
            unprivileged
                .into_iter()
                .flat_map(|space| space.entry[host.len()..].iter().cloned()),
        );
        let entry = Entry {
            entry: unprivileged.unwrap_or(&self.host).entry.clone(),
            starter,
        };
        Daemon::start_behind(entry, &[])
    }

    /// Runs a shell's commands, up to the first that fails.
    pub(crate) fn sh(&self, place: Place, script: &str) -> Outcome {
        Outcome::of(self.command(place, "sh").args(["-ec", script]))
    }

    /// The same; they must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, place: Place, script: &str) -> String {
        let outcome = self.sh(place, script);
        assert_eq!(outcome.code, 0, "{place:?}: {script}: {}", outcome.stderr);
        outcome.stdout
    }

    /// Starts this program to play a role.
    pub(crate) fn agent(&self, place: Place, role: &Role) -> Agent {
        let (variable, words) = role.command();
        let mut command = self.command(place, "env");
        command.arg(variable).args(words);
        Agent::spawn(command)
    }

    /// A command that runs a program.
    pub(crate) fn command(&self, place: Place, program: &str) -> Command {
        behind(&self.space(place).entry, program)
    }

    /// Starts a server that first says its port; the agent and the port.
    #[track_caller]
    pub(crate) fn server(&self, place: Place, role: &Role) -> (Agent, u16) {
        let agent = self.agent(place, role);
        let port = agent.word().parse().expect("a port");
        (agent, port)
    }

    /// Writes the host's `/etc/resolv.conf`.
    pub(crate) fn resolve_by(&self, servers: &[IpAddr]) {
        let lines: String = servers
            .iter()
            .map(|server| format!("nameserver {server}\n"))
            .collect();
        // In place: what is mounted is this very file.
        let mut file = self.resolvers.reopen().expect("own file");
        file.set_len(0)
            .and_then(|()| file.write_all(lines.as_bytes()))
            .expect("a writable file");
    }

    fn space(&self, place: Place) -> &Space {
        match place {
            Place::Far => &self.far,
            Place::Host => &self.host,
            Place::Outside => &self.outside,
        }
    }
}

/// Namespaces, kept by a process that waits in them. It ends with us, however we end.
struct Space {
    keeper: Child,
    /// Words of a command that runs another command there.
    entry: Vec<String>,
}

impl Space {
    /// Runs a command that makes namespaces behind an entry; `kinds` are those to enter afterwards.
    fn make(entry: &[String], maker: &[&str], kinds: &[&str]) -> Result<Self, String> {
        let mut keeper = behind(entry, maker[0])
            .args(&maker[1..])
            // Waits for the end of its input.
            .args(["sh", "-c", "echo ready && exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", maker[0]))?;
        let mut ready = String::new();
        let stdout = keeper.stdout.as_mut().expect("a pipe");
        // An error leaves it empty.
        let _ = BufReader::new(stdout).read_line(&mut ready);
        let pid = keeper.id();
        let mut words = vec!["nsenter".to_owned(), "--preserve-credentials".to_owned()];
        words.extend(kinds.iter().map(|kind| {
            let option = if *kind == "mnt" { "mount" } else { kind };
            format!("--{option}=/proc/{pid}/ns/{kind}")
        }));
        words.push("--".to_owned());
        let mut space = Self { keeper, entry: words };
        if ready.is_empty() {
            let _ = space.keeper.wait();
            let mut reason = String::new();
            let stderr = space.keeper.stderr.as_mut().expect("a pipe");
            let _ = stderr.read_to_string(&mut reason);
            return Err(format!("{}: {}", maker.join(" "), reason.trim_end()));
        }
        Ok(space)
    }

    fn pid(&self) -> u32 {
        self.keeper.id()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A program to be run behind an entry.
pub(super) fn behind(entry: &[String], program: impl AsRef<std::ffi::OsStr>) -> Command {
    match entry.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

/// The host's addresses outside.
pub(crate) const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);

/// The machine beside the host.
pub(crate) const OUTSIDE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
pub(crate) const BOTH: [IpAddr; 2] = [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)];

/// The machine behind it.
pub(crate) const FAR4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub(crate) const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);

/// The machine beside the host, on the second cable.
pub(crate) const NEAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(crate) const NEAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 2);

/// Where the host knows no route to.
pub(crate) const UNREACHABLE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, 1)),
];

/// Packets to it vanish (198.18.0.0/15).
pub(crate) const BLACK_HOLE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// Any address of both families, a port of the kernel's choice.
pub(crate) const ANY: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// Nobody else is on the cables.
const NO_DETECTION: &str = "ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad";

const HOST: &str = "\
ip address add 192.0.2.1/24 dev out0; ip address add 2001:db8:1::1/64 dev out0 nodad
ip route add default via 192.0.2.2; ip route add default via 2001:db8:1::2
ip route add unreachable 198.51.100.0/24; ip route add unreachable 2001:db8:dead::/48";

/// Every hop of a traceroute shall be heard: no limit on the rate of ICMP errors.
const OUTSIDE: &str = "\
ip address add 192.0.2.2/24 dev host0; ip address add 2001:db8:1::2/64 dev host0 nodad
ip address add 203.0.113.1/24 dev far0; ip address add 2001:db8:2::1/64 dev far0 nodad
ip link set host0 up; ip route add blackhole 198.18.0.0/15
echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit";

/// On the second cable.
const DEVICE: &str = "\
ip address add 198.51.100.2/24 dev dev0; ip address add 2001:db8:3::2/64 dev dev0 nodad
ip link set dev0 up";

const FAR: &str = "\
ip link set out0 up
ip address add 203.0.113.2/24 dev out0; ip address add 2001:db8:2::2/64 dev out0 nodad
ip route add default via 203.0.113.1; ip route add default via 2001:db8:2::1
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit";
