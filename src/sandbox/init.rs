//! The sandbox process: creates its namespaces, waits to be attached, and becomes the command.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    process::ExitCode,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::prctl,
    unistd,
};

use crate::io::{
    message,
    netlink::{LinkChange, LinkState, Netlink},
};

use super::{
    exec::{self, OWN_ERROR},
    launch::{LaunchConfig, LaunchError, Ready, Stdio},
    names::Names,
};

/// What a program runs when its first argument is [`SANDBOX_INIT`](super::launch::SANDBOX_INIT): the
/// launcher's orders come through standard input, which is a socket.
///
/// The process must have one thread.
pub fn init_main() -> ExitCode {
    let received = io::stdin().as_fd().try_clone_to_owned().and_then(|socket| {
        let message = message::receive::<LaunchConfig>(&socket)?;
        Ok((socket, message))
    });
    let (socket, config, stdin) = match received {
        Ok((socket, Some((config, mut descriptors)))) => match descriptors.pop() {
            Some(stdin) => (socket, config, stdin),
            None => return OWN_ERROR.into(),
        },
        Ok(_) => return OWN_ERROR.into(),
        Err(error) => {
            eprintln!("vswitch run starts sandboxes with this; it is not for use by hand ({error})");
            return OWN_ERROR.into();
        }
    };
    match run(&socket, &config, stdin) {
        // The launcher has gone; nobody waits for an answer.
        Ok(()) => OWN_ERROR.into(),
        Err(error) => {
            let code = error.exit_code();
            // If this fails too, the launcher has gone.
            let _ = message::send(&socket, &Err::<Ready, _>(error), &[]);
            code.into()
        }
    }
}

fn run(socket: &OwnedFd, config: &LaunchConfig, stdin: OwnedFd) -> Result<(), LaunchError> {
    let own = |operation: &'static str| move |error: nix::Error| LaunchError::own(operation, error.into());
    unistd::dup2_stdin(&stdin).map_err(own("restore standard input"))?;
    drop(stdin);
    if let Stdio::Detached { .. } = config.stdio {
        unistd::setsid().map_err(own("begin a session"))?;
    }
    create_namespaces()?;
    unistd::sethostname(&config.hostname).map_err(own("set the host name"))?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(own("make mounts private"))?;
    set_up_loopback()?;
    open_sysctls();
    // Becoming root of a user namespace may have made us undumpable, and the daemon could not open our
    // namespaces then.
    prctl::set_dumpable(true).map_err(own("allow the daemon to attach"))?;
    let warnings = mount_sysfs().err().into_iter().collect();
    if message::send(socket, &Ok::<_, LaunchError>(Ready { warnings }), &[]).is_err() {
        return Ok(());
    }

    let Ok(Some((names, _))) = message::receive::<Names>(socket) else {
        return Ok(());
    };
    let warnings = mount_name_files(&names);
    if message::send(socket, &Ok::<_, LaunchError>(Ready { warnings }), &[]).is_err() {
        return Ok(());
    }
    Err(exec::exec(
        &config.command,
        &config.args,
        &config.environment,
        config.directory.as_ref(),
    )
    .into())
}

/// New network, mount and UTS namespaces; they get a user namespace too where we may not do without.
fn create_namespaces() -> Result<(), LaunchError> {
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    match unshare(namespaces) {
        Ok(()) => return Ok(()),
        Err(nix::Error::EPERM) => {}
        Err(error) => return Err(LaunchError::refused(error.into())),
    }
    let (uid, gid) = (unistd::geteuid(), unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | namespaces).map_err(|error| LaunchError::refused(error.into()))?;
    // Without a privileged helper one line is allowed, and only once setgroups(2) is given up
    // (user_namespaces(7)).
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (path, text) in maps {
        // One write(2) each; the kernel refuses parts. A confinement shows here (AppArmor, 24.04).
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(LaunchError::refused)?;
    }
    Ok(())
}

fn set_up_loopback() -> Result<(), LaunchError> {
    let failed = |error: crate::io::netlink::NetlinkError| LaunchError::own(&error.operation, error.source);
    let mut netlink = Netlink::open().map_err(failed)?;
    if let Some(lo) = netlink.link_by_name("lo").map_err(failed)? {
        let change = LinkChange {
            state: Some(LinkState::Up),
            ..LinkChange::default()
        };
        netlink.change_link(&lo, &change).map_err(failed)?;
    }
    Ok(())
}

/// What Docker opens in a container's network namespace: ping without raw sockets and low ports for all.
///
/// Where `/proc/sys` is read-only the sandbox lacks these conveniences.
fn open_sysctls() {
    let ping = "/proc/sys/net/ipv4/ping_group_range";
    // Bounds must be mapped groups; in a namespace of one mapped group only 0 is.
    if fs::write(ping, "0 2147483647").is_err() {
        let _ = fs::write(ping, "0 0");
    }
    let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
}

/// A fresh read-only sysfs on `/sys`, so that `/sys/class/net` shows the sandbox's interfaces; the cgroup
/// tree stays visible. The kernel forbids it where the old one is partly covered.
fn mount_sysfs() -> Result<(), String> {
    let cgroups = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(CGROUPS)
        .ok();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>)
        .map_err(|error| format!("/sys shows the host's interfaces: mount sysfs: {}", error.desc()))?;
    if let Some(cgroups) = cgroups {
        let source = format!("/proc/self/fd/{}", cgroups.as_raw_fd());
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        // Programs that look for their limits there do without.
        let _ = mount(Some(source.as_str()), CGROUPS, None::<&str>, bind, None::<&str>);
    }
    Ok(())
}

/// Covers `/etc/hosts` and `/etc/resolv.conf` by files of a memory file system that only this mount
/// namespace has. Returns what did not work.
fn mount_name_files(names: &Names) -> Vec<String> {
    let mut warnings = Vec::new();
    let files: Vec<(&str, String)> = [
        ("/etc/hosts", Some(names.hosts_file())),
        ("/etc/resolv.conf", names.resolv_conf()),
    ]
    .into_iter()
    .filter_map(|(target, text)| Some((target, text?)))
    .filter(|(target, _)| {
        let exists = Path::new(target).exists();
        if !exists {
            warnings.push(format!(
                "{target} does not exist on the host, so the sandbox has none"
            ));
        }
        exists
    })
    .collect();
    if files.is_empty() {
        return warnings;
    }
    // The directory is covered only while the files are made and bound.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(error) = mount(
        Some("tmpfs"),
        STAGE,
        Some("tmpfs"),
        flags,
        Some("mode=0755,size=1m"),
    ) {
        warnings.push(format!("/etc/hosts is the host's: mount tmpfs: {}", error.desc()));
        return warnings;
    }
    for (target, text) in files {
        if let Err(error) = cover(target, &text) {
            warnings.push(format!("{target} is the host's: {error}"));
        }
    }
    if let Err(error) = umount2(STAGE, MntFlags::MNT_DETACH) {
        warnings.push(format!("{STAGE} is hidden: unmount tmpfs: {}", error.desc()));
    }
    warnings
}

fn cover(target: &str, text: &str) -> io::Result<()> {
    let name = Path::new(target).file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let source = Path::new(STAGE).join(name);
    fs::write(&source, text)?;
    // Whatever the umask: every user of the sandbox resolves names.
    fs::set_permissions(&source, fs::Permissions::from_mode(0o644))?;
    mount(
        Some(&source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}

/// A directory that every system has and that is none of the covered files' own.
const STAGE: &str = "/tmp";

const CGROUPS: &str = "/sys/fs/cgroup";
