//! Sockets made inside a sandbox's namespace and handed over.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use rustix::{
    fs::OFlags,
    io::FdFlags,
    net::{AddressFamily, SocketType, bind, sockopt},
};
use vswitch::io::{
    attach::{AttachError, SocketCounts},
    netns::NetnsTarget,
};

use crate::support::{attacher, eth0, idle_sandbox, namespaces_and_tap, target};

#[test]
fn sockets_belong_to_the_sandboxs_namespace() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let _attached = attacher().attach(&eth0(target(&sandbox))).expect("attached");
    let counts = SocketCounts { tcp_v4: 2, tcp_v6: 3 };
    let sockets = attacher().sockets(&target(&sandbox), counts).expect("made");
    let kinds: Vec<_> = sockets.iter().map(kind).collect();
    let (v4, v6) = (AddressFamily::INET, AddressFamily::INET6);
    let tcp = SocketType::STREAM;
    assert_eq!(kinds, [(v4, tcp), (v4, tcp), (v6, tcp), (v6, tcp), (v6, tcp)]);
    for (socket, (family, _)) in sockets.iter().zip(kinds) {
        let flags = rustix::fs::fcntl_getfl(socket).expect("it is open");
        assert!(flags.contains(OFlags::NONBLOCK));
        let flags = rustix::io::fcntl_getfd(socket).expect("it is open");
        assert!(flags.contains(FdFlags::CLOEXEC));
        // Only the sandbox has these addresses.
        let own: IpAddr = match family {
            AddressFamily::INET => [10, 9, 0, 2].into(),
            _ => "fd09::2".parse().expect("an address"),
        };
        bind(socket.as_fd(), &SocketAddr::new(own, 0)).expect("it is an address there");
    }
}

#[test]
fn a_whole_delivery_arrives_at_once() {
    if !namespaces_and_tap() {
        return;
    }
    let sandbox = idle_sandbox();
    let counts = SocketCounts {
        tcp_v4: 240,
        tcp_v6: 13,
    };
    assert_eq!(counts.total(), SocketCounts::MAX);
    let begin = Instant::now();
    let sockets = attacher().sockets(&target(&sandbox), counts).expect("made");
    eprintln!("{} sockets took {:?}", sockets.len(), begin.elapsed());
    assert_eq!(sockets.len(), SocketCounts::MAX);
    let too_many = SocketCounts { tcp_v6: 14, ..counts };
    let refused = attacher().sockets(&target(&sandbox), too_many);
    refused.expect_err("a message has no room for them");
}

#[test]
fn no_sockets_are_made_in_the_hosts_namespace() {
    let ours = NetnsTarget::Pid(std::process::id());
    let counts = SocketCounts {
        tcp_v4: 1,
        ..SocketCounts::default()
    };
    let refused = attacher().sockets(&ours, counts);
    assert!(
        matches!(
            refused,
            Err(AttachError::HostNamespace | AttachError::Namespace(_))
        ),
        "{refused:?}"
    );
}

fn kind(socket: &OwnedFd) -> (AddressFamily, SocketType) {
    let family = sockopt::socket_domain(socket).expect("it is a socket");
    (family, sockopt::socket_type(socket).expect("it is a socket"))
}
