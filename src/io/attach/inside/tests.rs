use super::*;

fn happy() -> LinkConfig {
    LinkConfig {
        kind: LinkKind::Tap,
        name: "eth0".into(),
        mac: MacAddr([2, 0x42, 10, 0, 0, 2]),
        mtu: 1500,
        txqueuelen: super::super::DEFAULT_TXQUEUELEN,
        addresses: vec![
            "10.0.0.2/24".parse().expect("a prefix"),
            "fd00::2/64".parse().expect("a prefix"),
        ],
        default_gateways: vec![
            "10.0.0.1".parse().expect("an address"),
            "fd00::1".parse().expect("an address"),
        ],
    }
}

#[test]
fn the_namespace_that_we_are_in_is_left_alone() {
    for target in [
        NetnsTarget::Pid(std::process::id()),
        NetnsTarget::Path("/proc/self/ns/net".into()),
    ] {
        // An ordinary user may not even enter it.
        let refused = Namespace::enter_foreign(&target).err().expect("it is the host's");
        let is_root = rustix::process::geteuid().is_root();
        assert!(
            !is_root || matches!(refused, AttachError::HostNamespace),
            "{refused}"
        );
    }
}

#[test]
fn a_valid_link_passes() {
    assert!(validate(&happy()).is_ok());
}

#[test]
fn each_contradiction_is_refused() {
    type Spoil = fn(&mut LinkConfig);
    let cases: [(&str, Spoil); 13] = [
        ("empty name", |link| link.name.clear()),
        ("long name", |link| link.name = "sixteen-bytes-xx".into()),
        ("slash in name", |link| link.name = "a/b".into()),
        ("pattern as name", |link| link.name = "eth%d".into()),
        ("sysctl directory as name", |link| link.name = "all".into()),
        ("dots as name", |link| link.name = "..".into()),
        ("loopback as name", |link| link.name = "lo".into()),
        ("multicast MAC", |link| link.mac = MacAddr([1, 0, 0, 0, 0, 1])),
        ("no MAC", |link| link.mac = MacAddr::ZERO),
        ("small MTU", |link| link.mtu = 67),
        ("MTU below IPv6's", |link| link.mtu = 1279),
        ("no queue", |link| link.txqueuelen = 0),
        ("two gateways of a family", |link| {
            link.default_gateways
                .push("10.0.0.9".parse().expect("an address"));
        }),
    ];
    for (name, spoil) in cases {
        let mut link = happy();
        spoil(&mut link);
        assert!(matches!(validate(&link), Err(AttachError::Invalid(_))), "{name}");
    }
}

#[test]
fn refusals_of_the_device_file_are_told_from_those_of_the_interface() {
    let error = |number| io::Error::from_raw_os_error(number);
    assert!(matches!(
        open_error("x", OpenError::Device(error(libc::ENOENT))),
        AttachError::NoTunDevice
    ));
    assert!(matches!(
        open_error("x", OpenError::Device(error(libc::EPERM))),
        AttachError::TunDenied
    ));
    assert!(matches!(
        open_error("x", OpenError::Interface(error(libc::EBUSY))),
        AttachError::Busy { .. }
    ));
    let other = open_error("x", OpenError::Interface(error(libc::EINVAL))).to_string();
    assert!(other.starts_with("create x: "), "{other}");
}
