//! Kernel TCP/IP stacks in sandboxes, joined by packet loops without any control plane.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use ipnet::IpNet;
use vswitch::{
    dataplane::{DataPlane, DataPlaneEvent, DeviceFate, EndpointSpec, NetworkSpec, PollMode},
    io::{
        attach::{AttachRequest, DEFAULT_TXQUEUELEN, LinkConfig},
        device::Device,
        netns::NetnsTarget,
    },
    model::{EndpointId, LinkKind, NetworkId},
    sandbox::{LaunchConfig, Names, Prepared, Stdio},
};
use vswitch_wire::{Abilities, MacAddr};

use crate::support::{
    agent::{MARK, Role},
    attacher, command,
    daemon::PATIENCE,
    idle_sandbox, ip, launcher, namespaces_and_tap, net, program, target, within,
};

#[test]
fn stations_reach_each_other_and_their_gateway_over_both_families() {
    if !namespaces_and_tap() {
        return;
    }
    for mode in [PollMode::Adaptive, PollMode::Sleep, PollMode::Busy] {
        on_a_runtime(async move {
            let (plane, _events) = DataPlane::start(1, mode, DESCRIPTORS).expect("workers");
            plane.add_network(network(1)).await.expect("a network");
            let quiet = idle_sandbox();
            join(&plane, 1, 2, target(&quiet)).await;
            for address in ["10.9.1.2", "fd09:1::2", "10.9.1.1", "fd09:1::1"] {
                let pinger = pinger(address);
                join(&plane, 1, 3, target(&pinger)).await;
                assert_eq!(exit_code(pinger).await, 0, "ping {address} in mode {mode:?}");
                let gone = plane.remove_endpoint(network(1).id, endpoint(1, 3), DeviceFate::Delete);
                gone.await.expect("the port is removed");
            }
        });
    }
}

#[test]
fn networks_on_several_workers_are_apart() {
    if !namespaces_and_tap() {
        return;
    }
    on_a_runtime(async {
        let (plane, _events) = DataPlane::start(2, PollMode::Sleep, DESCRIPTORS).expect("workers");
        for number in [1, 2] {
            plane.add_network(network(number)).await.expect("a network");
        }
        let quiet = idle_sandbox();
        join(&plane, 2, 2, target(&quiet)).await;
        let pinger = pinger("10.9.2.2");
        join(&plane, 1, 3, target(&pinger)).await;
        assert_ne!(exit_code(pinger).await, 0, "the other network answered");
        let rows = plane.fdb(None).await.expect("both workers answer");
        let on = |number: u8| {
            rows.iter()
                .filter(|row| row.network == network(number).id)
                .count()
        };
        assert_eq!((on(1), on(2)), (2, 2), "{rows:?}");
    });
}

#[test]
fn a_device_that_the_container_deletes_is_reported_once() {
    if !namespaces_and_tap() {
        return;
    }
    on_a_runtime(async {
        let (plane, mut events) = DataPlane::start(1, PollMode::Sleep, DESCRIPTORS).expect("workers");
        plane.add_network(network(1)).await.expect("a network");
        let sandbox = idle_sandbox();
        join(&plane, 1, 2, target(&sandbox)).await;
        attacher()
            .detach(&target(&sandbox), "eth0", mac(1, 2))
            .expect("deleted");
        let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await;
        let Ok(Some(DataPlaneEvent::DeviceLost(lost))) = event else {
            panic!("no event but {event:?}")
        };
        assert_eq!(lost, endpoint(1, 2));
        // Until the control plane removes the port, frames for it fail.
        let pinger = pinger("10.9.1.2");
        join(&plane, 1, 3, target(&pinger)).await;
        assert_ne!(exit_code(pinger).await, 0, "a lost device answered");
        assert!(events.try_recv().is_err(), "it is reported again");
    });
}

#[test]
fn devices_without_offloads_give_and_get_every_byte() {
    if !namespaces_and_tap() {
        return;
    }
    let cases = [
        // Sender, receiver, and whether super-frames enter and leave the switch.
        (Abilities::ALL, Abilities::ALL, true, true),
        (Abilities::ALL, Abilities::CSUM, true, false),
        (Abilities::ALL, Abilities::EMPTY, true, false),
        (Abilities::CSUM, Abilities::ALL, false, false),
        (Abilities::EMPTY, Abilities::EMPTY, false, false),
    ];
    on_a_runtime(async move {
        let (plane, _events) = DataPlane::start(1, PollMode::Sleep, DESCRIPTORS).expect("workers");
        plane.add_network(network(1)).await.expect("a network");
        for (sender, receiver, large_in, large_out) in cases {
            for address in [ip("10.9.1.2"), ip("fd09:1::2")] {
                let case = format!("{sender:?} to {receiver:?} at {address}");
                transfer(&plane, sender, receiver, address).await;
                let ports = plane.ports(None).await.expect("the worker answers");
                let port = |host| {
                    let mut ports = ports.iter();
                    ports
                        .find(|row| row.endpoint == Some(endpoint(1, host)))
                        .expect("a port")
                };
                let (from, to) = (port(3), port(2));
                assert!(to.tx_bytes > TRANSFER, "{case}: {to:?}");
                assert_eq!(from.rx_bytes / from.rx_frames > FULL_FRAME, large_in, "{case}");
                assert_eq!(to.tx_bytes / to.tx_frames > FULL_FRAME, large_out, "{case}");
                for host in [2, 3] {
                    let gone = plane.remove_endpoint(network(1).id, endpoint(1, host), DeviceFate::Delete);
                    gone.await.expect("the port is removed");
                }
            }
        }
    });
}

/// Bytes that a transfer carries.
const TRANSFER: u64 = 2 << 20;

/// Length of the longest frame at MTU 1500, without a tag.
const FULL_FRAME: u64 = 1514;

/// Has a sandbox with one set of offloads send a checked stream to one with another, over TCP.
async fn transfer(plane: &DataPlane, sender: Abilities, receiver: Abilities, address: IpAddr) {
    let logs = tempfile::tempdir().expect("a temporary directory");
    let [sink_log, source_log] = ["sink", "source"].map(|name| logs.path().join(name));
    let sink = actor(&Role::Sink, &sink_log);
    join_with(plane, 1, 2, target(&sink), receiver).await;
    let mut sink = sink.start(&Names::default()).expect("it starts");
    let port = || words(&sink_log).first().and_then(|word| word.parse().ok());
    within(PATIENCE, "the sink listens", || port().is_some());
    let to = SocketAddr::new(address, port().expect("it says its port"));
    let limit = Some(TRANSFER);
    let source = actor(&Role::Source { to, limit }, &source_log);
    join_with(plane, 1, 3, target(&source), sender).await;
    assert_eq!(
        exit_code(source).await,
        0,
        "{:?}",
        std::fs::read_to_string(&source_log)
    );
    // It compares every byte.
    let ended = tokio::task::spawn_blocking(move || sink.wait(None).expect("it ends"));
    let code = ended.await.expect("no panic");
    assert_eq!(code, 0, "{:?}", std::fs::read_to_string(&sink_log));
    assert_eq!(words(&sink_log).last(), Some(&TRANSFER.to_string()));
}

/// A sandbox that will play a role, with what it says in a file.
fn actor(role: &Role, log: &Path) -> Prepared {
    let (variable, words) = role.command();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, value) = variable.split_once('=').expect("an assignment");
    let config = LaunchConfig {
        environment: vec![(name.to_owned(), value.to_owned())],
        stdio: Stdio::Detached {
            log: Some(log.to_owned()),
        },
        ..command(words[0], &words[1..])
    };
    launcher().prepare(&config).expect("a sandbox")
}

/// What a role has said so far, in whole lines.
fn words(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines
        .filter_map(|line| Some(line.split_once(MARK)?.1.trim_end().to_owned()))
        .collect()
}

fn on_a_runtime(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(body);
}

/// Descriptors for host sockets: more than any test here takes.
const DESCRIPTORS: usize = 256;

fn network(number: u8) -> NetworkSpec {
    NetworkSpec {
        id: NetworkId::from_bytes([number; 32]),
        name: format!("net{number}"),
        gateway_mac: MacAddr([0x02, 0, 0, 0, number, 0xfe]),
        gateways: prefixes(number, 1),
        mtu: 1500,
        inter_container: true,
        uplink: Some(Default::default()),
    }
}

fn prefixes(network: u8, host: u8) -> Vec<IpNet> {
    vec![
        net(&format!("10.9.{network}.{host}/24")),
        net(&format!("fd09:{network}::{host}/64")),
    ]
}

fn endpoint(network: u8, host: u8) -> EndpointId {
    let mut bytes = [network; 32];
    bytes[0] = host;
    EndpointId::from_bytes(bytes)
}

/// Attaches a sandbox and gives its device to the packet loop.
async fn join(plane: &DataPlane, network_number: u8, host: u8, target: NetnsTarget) {
    join_with(plane, network_number, host, target, Abilities::ALL).await;
}

/// As [`join`], with no more than these offloads.
async fn join_with(
    plane: &DataPlane,
    network_number: u8,
    host: u8,
    target: NetnsTarget,
    offloads: Abilities,
) {
    let addresses = prefixes(network_number, host);
    let mac = mac(network_number, host);
    let request = AttachRequest {
        target,
        link: LinkConfig {
            kind: LinkKind::Tap,
            name: "eth0".into(),
            mac,
            mtu: 1500,
            txqueuelen: DEFAULT_TXQUEUELEN,
            addresses: addresses.clone(),
            default_gateways: vec![
                ip(&format!("10.9.{network_number}.1")),
                ip(&format!("fd09:{network_number}::1")),
            ],
        },
    };
    let Device::Tap(mut tap) = attacher().attach(&request).expect("attached").device else {
        panic!("not what was asked for");
    };
    let offloads = tap.abilities().intersection(offloads);
    tap.set_offloads(offloads).expect("a subset that the kernel has");
    let spec = EndpointSpec {
        id: endpoint(network_number, host),
        network: network(network_number).id,
        label: format!("host{host}"),
        mac,
        addresses: addresses.iter().map(IpNet::addr).collect(),
    };
    plane.add_endpoint(spec, tap).await.expect("a port");
}

/// A sandbox that will ping `address` and end.
fn pinger(address: &str) -> Prepared {
    let program = program().to_string_lossy().into_owned();
    let config = LaunchConfig {
        stdio: Stdio::Detached { log: None },
        ..command(&program, &["demo-agent", "ping", address])
    };
    launcher().prepare(&config).expect("a sandbox")
}

async fn exit_code(prepared: Prepared) -> u8 {
    let wait = move || {
        prepared
            .start(&Names::default())
            .expect("it starts")
            .wait(None)
            .expect("it ends")
    };
    tokio::task::spawn_blocking(wait).await.expect("no panic")
}

fn mac(network: u8, host: u8) -> MacAddr {
    MacAddr([0x02, 0x42, 10, 9, network, host])
}
