//! Attaching sandboxes: what is configured, taken over, refused and rolled back.

use std::{
    io::IoSlice,
    net::IpAddr,
    os::unix::process::CommandExt,
    time::{Duration, Instant},
};

use vswitch::{
    io::{
        attach::{AttachError, DEFAULT_TXQUEUELEN, DefaultRoute, Origin},
        netlink::LinkDriver,
        netns::{NetnsError, NetnsTarget},
        tap,
    },
    sandbox::Entry,
};
use vswitch_wire::MacAddr;

use crate::support::{
    LauncherRole, MAC, attacher, eth0, eventually, idle_sandbox, ip, is_running, namespaces_and_tap, net,
    program, skip, tap_of, target, without_duplicate_address_detection,
};

#[test]
fn an_attached_interface_is_as_configured_and_usable_at_once() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let attached = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    assert_eq!(attached.origin, Origin::Created);
    assert_eq!(tap_of(&attached).name().expect("a live device"), "eth0");
    let found = attacher()
        .probe(&target(&sandbox), "eth0")
        .expect("probed")
        .expect("eth0 exists");
    assert_eq!((found.index, found.mac, found.mtu), (attached.index, MAC, 1400));
    assert_eq!(found.txqueuelen, DEFAULT_TXQUEUELEN);
    assert!(found.driver == LinkDriver::Tun && found.is_up);
    // Only addresses that are not tentative are listed.
    for address in [net("10.9.0.2/24"), net("fd09::2/64")] {
        assert!(
            found.addresses.contains(&address),
            "{address} is not in {:?}",
            found.addresses
        );
    }
    without_duplicate_address_detection(&target(&sandbox));
    assert_eq!(sorted(found.default_gateways), [ip("10.9.0.1"), ip("fd09::1")]);
    assert_eq!(found.namespace, attached.namespace);
    assert_eq!(
        found.namespace,
        target(&sandbox).open().expect("open").identity().expect("stat")
    );
    let lo = attacher()
        .probe(&target(&sandbox), "lo")
        .expect("probed")
        .expect("lo exists");
    assert!(lo.is_up && lo.addresses.contains(&net("127.0.0.1/8")), "{lo:?}");
}

#[test]
fn an_interface_without_ipv6_address_has_no_ipv6() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let mut request = eth0(target(&sandbox));
    request.link.addresses.pop();
    request.link.default_gateways.pop();
    let _attached = attacher().attach(&request).expect("attached");
    let found = attacher()
        .probe(&target(&sandbox), "eth0")
        .expect("probed")
        .expect("eth0 exists");
    assert_eq!(found.addresses, [net("10.9.0.2/24")]);
}

#[test]
fn the_path_of_a_namespace_does_as_well_as_a_pid() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let path = NetnsTarget::Path(format!("/proc/{}/ns/net", sandbox.pid()).into());
    let attached = attacher().attach(&eth0(path)).expect("attached");
    assert!(
        attacher()
            .probe(&target(&sandbox), "eth0")
            .expect("probed")
            .is_some()
    );
    assert_eq!(tap_of(&attached).name().expect("a live device"), "eth0");
}

#[test]
fn a_mounted_namespace_is_attached_by_its_path() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("netns");
    std::fs::write(&path, "").expect("a file to mount on");
    let source = format!("/proc/{}/ns/net", sandbox.pid());
    let bind = nix::mount::MsFlags::MS_BIND;
    if let Err(error) = nix::mount::mount(Some(source.as_str()), &path, None::<&str>, bind, None::<&str>) {
        skip(format_args!("mount a namespace: {error}"));
        return;
    }
    let result = attacher().attach(&eth0(NetnsTarget::Path(path.clone())));
    nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
    assert_eq!(
        tap_of(&result.expect("attached")).name().expect("a live device"),
        "eth0"
    );
}

#[test]
fn the_interface_of_a_killed_daemon_is_taken_over_as_it_stands() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let first = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    let index = first.index;
    drop(first); // as the kernel does it for a killed process
    let left = attacher()
        .probe(&target(&sandbox), "eth0")
        .expect("probed")
        .expect("it still stands");
    assert!(left.is_up, "{left:?}");

    let mut request = eth0(target(&sandbox));
    request.link.addresses.push(net("10.9.0.3/24"));
    let second = attacher().attach(&request).expect("taken over");
    assert_eq!((second.origin, second.index), (Origin::TakenOver, index));
    let found = attacher()
        .probe(&target(&sandbox), "eth0")
        .expect("probed")
        .expect("eth0 exists");
    for address in left.addresses {
        assert!(found.addresses.contains(&address), "{address} was lost");
    }
    assert!(found.addresses.contains(&net("10.9.0.3/24")));
    tap_of(&second)
        .write(&[IoSlice::new(&[0; 70])])
        .expect("the link is up");

    second.roll_back().expect("a live device");
    assert!(
        attacher()
            .probe(&target(&sandbox), "eth0")
            .expect("probed")
            .is_some(),
        "not ours to remove"
    );
}

#[test]
fn an_interface_that_is_served_is_busy() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let _served = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    let error = attacher()
        .attach(&eth0(target(&sandbox)))
        .expect_err("served already");
    assert!(
        matches!(error, AttachError::Busy { ref name } if name == "eth0"),
        "{error}"
    );
}

#[test]
fn an_interface_of_the_containers_own_is_left_alone() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    drop(attacher().attach(&eth0(target(&sandbox))).expect("attached"));
    let mut request = eth0(target(&sandbox));
    request.link.mac = MacAddr([2, 0, 0, 0, 0, 9]);
    let error = attacher()
        .attach(&request)
        .expect_err("another MAC is another interface");
    assert!(matches!(error, AttachError::NameTaken { .. }), "{error}");
    let found = attacher()
        .probe(&target(&sandbox), "eth0")
        .expect("probed")
        .expect("eth0 exists");
    assert_eq!(found.mac, MAC);
}

#[test]
fn a_failed_attachment_leaves_no_interface() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let mut request = eth0(target(&sandbox));
    request.link.default_gateways = vec![ip("192.0.2.1")];
    let error = attacher()
        .attach(&request)
        .expect_err("the gateway is not on-link")
        .to_string();
    assert!(
        error.starts_with("replace route 0.0.0.0/0 via 192.0.2.1"),
        "{error}"
    );
    eventually("the interface is removed", || {
        attacher()
            .probe(&target(&sandbox), "eth0")
            .expect("probed")
            .is_none()
    });
}

#[test]
fn a_rolled_back_attachment_leaves_no_interface() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let attached = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    attached.roll_back().expect("a live device");
    assert_eq!(attacher().probe(&target(&sandbox), "eth0").expect("probed"), None);
}

#[test]
fn detaching_deletes_only_the_named_tap_and_its_descriptor_notices() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let target = target(&sandbox);
    let attached = attacher().attach(&eth0(target.clone())).expect("attached");
    let other = MacAddr([2, 0, 0, 0, 0, 9]);
    for (name, mac) in [("eth0", other), ("eth1", MAC), ("lo", MacAddr::ZERO)] {
        assert!(
            !attacher().detach(&target, name, mac).expect("asked"),
            "{name} {mac}"
        );
    }
    assert!(tap_of(&attached).name().is_ok());
    assert!(attacher().detach(&target, "eth0", MAC).expect("deleted"));
    assert!(
        tap_of(&attached)
            .read(&mut [0; 100])
            .is_err_and(|error| tap::is_lost(&error))
    );
    assert!(!attacher().detach(&target, "eth0", MAC).expect("asked"));
}

#[test]
fn default_routes_move_between_interfaces() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let target = target(&sandbox);
    let _eth0 = attacher().attach(&eth0(target.clone())).expect("attached");
    let mut request = eth0(target.clone());
    request.link.name = "eth1".into();
    request.link.mac = MacAddr([2, 0x42, 10, 8, 0, 2]);
    request.link.addresses = vec![net("10.8.0.2/24"), net("fd08::2/64")];
    request.link.default_gateways.clear();
    let _eth1 = attacher().attach(&request).expect("attached");
    let gateways = |name: &str| {
        sorted(
            attacher()
                .probe(&target, name)
                .expect("probed")
                .expect("it exists")
                .default_gateways,
        )
    };
    let route = |interface: &str, gateway| DefaultRoute {
        interface: interface.into(),
        gateway: ip(gateway),
    };

    let to_eth1 = [route("eth1", "10.8.0.1"), route("eth1", "fd08::1")];
    attacher().set_default_routes(&target, &to_eth1).expect("moved");
    assert_eq!(gateways("eth0"), [] as [IpAddr; 0]);
    assert_eq!(gateways("eth1"), [ip("10.8.0.1"), ip("fd08::1")]);

    attacher()
        .set_default_routes(&target, &[route("eth0", "10.9.0.1")])
        .expect("moved");
    assert_eq!(gateways("eth0"), [ip("10.9.0.1")]);
    assert_eq!(
        gateways("eth1"),
        [] as [IpAddr; 0],
        "a family without a gateway has no default route"
    );

    let both = [route("eth0", "10.9.0.1"), route("eth1", "10.8.0.1")];
    let error = attacher()
        .set_default_routes(&target, &both)
        .expect_err("two for IPv4");
    assert!(matches!(error, AttachError::Invalid(_)), "{error}");
    assert_eq!(
        gateways("eth0"),
        [ip("10.9.0.1")],
        "a refused request changes nothing"
    );
}

#[test]
fn default_routes_that_others_made_are_replaced_too() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let target = target(&sandbox);
    let mut request = eth0(target.clone());
    request.link.default_gateways.clear();
    let _eth0 = attacher().attach(&request).expect("attached");
    for route in ["via 10.9.0.9 proto boot", "via fd09::9 proto ra"] {
        let family = if route.contains("::") { "-6" } else { "-4" };
        let words = format!("{family} route add default {route} metric 100");
        let entry = Entry {
            pid: sandbox.pid(),
            started: None,
            command: "ip".into(),
            args: words.split(' ').map(str::to_owned).collect(),
            environment: Vec::new(),
            directory: None,
        };
        let added = entry.through(&program()).expect("an entry").output();
        let added = added.expect("the program starts");
        if added.status.code() == Some(127) {
            return skip(format_args!("there is no ip command"));
        }
        assert!(added.status.success(), "{added:?}");
    }
    let gateways = || {
        let eth0 = attacher().probe(&target, "eth0").expect("probed");
        sorted(eth0.expect("it exists").default_gateways)
    };
    assert_eq!(gateways(), [ip("10.9.0.9"), ip("fd09::9")]);
    let ours = ["10.9.0.1", "fd09::1"].map(|gateway| DefaultRoute {
        interface: "eth0".into(),
        gateway: ip(gateway),
    });
    attacher().set_default_routes(&target, &ours).expect("replaced");
    assert_eq!(gateways(), [ip("10.9.0.1"), ip("fd09::1")]);
}

#[test]
fn a_target_that_is_gone_is_said_to_be_gone() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let target = target(&sandbox);
    drop(sandbox);
    let error = attacher().attach(&eth0(target)).expect_err("nobody there");
    assert!(
        matches!(error, AttachError::Namespace(NetnsError::Gone { .. })),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_namespace_is_refused() {
    let error = attacher()
        .attach(&eth0(NetnsTarget::Path("/etc/passwd".into())))
        .expect_err("a plain file");
    assert!(
        matches!(error, AttachError::Namespace(NetnsError::NotANamespace { .. })),
        "{error}"
    );
}

#[test]
fn the_hosts_namespace_is_refused_to_an_ordinary_user() {
    if rustix::process::geteuid().is_root() {
        skip(format_args!("root may enter its own namespace"));
        return;
    }
    for target in [NetnsTarget::Pid(1), NetnsTarget::Path("/proc/self/ns/net".into())] {
        let error = attacher().attach(&eth0(target.clone())).expect_err("not ours");
        assert!(
            matches!(error, AttachError::Namespace(NetnsError::Foreign { .. })),
            "{target:?}: {error}"
        );
        assert!(error.to_string().contains("root"), "{error}");
    }
}

#[test]
fn the_descriptor_keeps_the_namespace_of_a_dead_container() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let pid = sandbox.pid();
    let attached = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    drop(sandbox);
    assert!(!is_running(pid));
    // This is why a container's end must be noticed by its process.
    std::thread::sleep(Duration::from_millis(20));
    tap_of(&attached)
        .write(&[IoSlice::new(&[0; 70])])
        .expect("the device still works");
    assert_eq!(tap_of(&attached).name().expect("a live device"), "eth0");
}

#[test]
fn root_attaches_the_sandbox_of_another_user() {
    if !namespaces_and_tap() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skip(format_args!("only root serves other users"));
        return;
    }
    let mut launcher = LauncherRole::spawn(|command| {
        command.uid(NOBODY).gid(NOBODY);
    });
    let Some(pid) = launcher.sandbox() else {
        skip(format_args!("user {NOBODY} cannot start this test or a sandbox"));
        return;
    };
    let attached = attacher().attach(&eth0(NetnsTarget::Pid(pid))).expect("attached");
    assert_eq!(attached.origin, Origin::Created);
    let found = attacher()
        .probe(&NetnsTarget::Pid(pid), "eth0")
        .expect("probed")
        .expect("eth0 exists");
    assert!(
        found.is_up && found.addresses.contains(&net("fe80::42:aff:fe09:2/64")),
        "{found:?}"
    );
}

#[test]
#[ignore = "a measurement: run with --ignored --nocapture on a quiet machine"]
fn attaching_takes_milliseconds() {
    if !namespaces_and_tap() {
        return;
    }
    let mut times = Vec::new();
    for _ in 0..31 {
        let sandbox = idle_sandbox();
        let request = eth0(target(&sandbox));
        let begin = Instant::now();
        let attached = attacher().attach(&request).expect("attached");
        times.push(begin.elapsed());
        drop(attached);
    }
    times.sort();
    eprintln!(
        "attach: median {:?}, best {:?}, worst {:?}",
        times[15], times[0], times[30]
    );
    assert!(times[15] < Duration::from_millis(100), "{times:?}");
}

/// A user who owns nothing on any system.
const NOBODY: u32 = 65_534;

fn sorted(mut gateways: Vec<IpAddr>) -> Vec<IpAddr> {
    gateways.sort();
    gateways
}
