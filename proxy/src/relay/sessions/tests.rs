//! Clients that no test on one host has: their ends are made up, the datagrams go to the container all the same.

use std::{hash::RandomState, net::UdpSocket, sync::Arc};

use vswitch_testkit::frames::{Packet, Upper};
use vswitch_wire::MacAddr;

use super::*;
use crate::{
    config::{Descriptors, Limits, Policy, RelayConfig, Source, Timeouts},
    datagram::HEADROOM,
    listing::Protocol,
    mock::{RecordingLink, Side, now},
    pktinfo::Local,
    publish::{Backend, Listener, MappingSpec, Rules},
    relay::inbound::{FIRST_SUBSTITUTE, PORTS_TRIED},
};

#[test]
fn r_in_1_clients_from_elsewhere_keep_their_address_and_port() {
    let mut site = Site::new();
    for (client, local) in [
        ("203.0.113.9:53", "192.0.2.1"),
        ("203.0.113.9:7777", "192.0.2.1"),
        ("[2001:db8::9]:7777", "2001:db8::1"),
    ] {
        let client: SocketAddr = client.parse().expect("an address");
        assert_eq!(site.comes(client, local), Some(client));
    }
    assert_eq!(site.link.frames.len(), 3);
    assert_eq!(site.counted(), (3, 3));
    let first = &site.link.frames[0].0;
    // From its source address on: the client, the container, and both ports.
    let ends = [203, 0, 113, 9, 10, 0, 0, 2, 0, 53, 0x14, 0xe9];
    assert_eq!(first[26..38], ends);
}

#[test]
fn r_udp_13_each_address_of_the_host_is_a_conversation_of_its_own() {
    let mut site = Site::new();
    let client = "203.0.113.9:7777".parse().expect("an address");
    assert_eq!(site.comes(client, "192.0.2.1"), Some(client));
    let other = site.comes(client, "192.0.2.2").expect("let in");
    assert_eq!(other.ip(), client.ip());
    assert_ne!(other.port(), client.port());
    assert!(other.port() >= FIRST_SUBSTITUTE);
    assert_eq!(site.comes(client, "192.0.2.2"), Some(other), "it is known");
    assert_eq!(site.counted(), (2, 2));
}

#[test]
fn r_in_1_clients_that_answers_would_not_come_back_from_are_the_gateway() {
    let mut site = Site::new();
    for (client, local, gateway) in [
        // Of the container's own network; of this host; of a link of the host.
        ("10.0.0.77:7777", "192.0.2.1", "10.0.0.1"),
        ("127.0.0.1:7777", "127.0.0.1", "10.0.0.1"),
        ("[fe80::9%2]:7777", "fe80::1", "fd00::1"),
    ] {
        let gateway = SocketAddr::new(gateway.parse().expect("an address"), 7777);
        let shown = site.comes(client.parse().expect("an address"), local);
        // Another client has the gateway's port already.
        let shown = shown.map(|shown| SocketAddr::new(shown.ip(), 7777));
        assert_eq!(shown, Some(gateway), "{client}");
    }
}

#[test]
fn r_dns_1_the_gateways_ports_for_services_stay_free() {
    let mut site = Site::new();
    let client = "127.0.0.1:53".parse().expect("an address");
    let shown = site.comes(client, "127.0.0.1").expect("let in");
    assert_eq!(shown.ip(), IpAddr::from([10, 0, 0, 1]));
    assert!(shown.port() >= FIRST_SUBSTITUTE);
}

#[test]
fn p6_nobody_elsewhere_reaches_a_loopback_address() {
    let mut site = Site::new();
    for (client, local) in [("203.0.113.9:7777", "127.0.0.1"), ("[2001:db8::9]:7777", "::1")] {
        assert_eq!(site.comes(client.parse().expect("an address"), local), None);
    }
    assert!(site.link.frames.is_empty());
    assert_eq!(site.counters().refused_allow, 2);
}

#[test]
fn r_udp_12_who_cannot_be_answered_begins_nothing() {
    let mut site = Site::new();
    assert_eq!(
        site.comes("0.0.0.0:68".parse().expect("an address"), "192.0.2.1"),
        None
    );
    assert_eq!(
        site.comes("203.0.113.9:0".parse().expect("an address"), "192.0.2.1"),
        None
    );
    assert_eq!(site.relay.counters.bad_packet, 2);
}

#[test]
fn r_udp_13_without_a_free_port_the_client_is_refused() {
    let mut site = Site::new();
    let ends = ends("127.0.0.1:7777".parse().expect("an address"), "127.0.0.1");
    let shown = site
        .relay
        .shown(site.now, ListenerId(0), ends.peer.ip())
        .expect("a way");
    // Everything that would be tried is taken by others.
    let mut taken = 0;
    while let Some(tuple) = site.relay.free_tuple(ENDPOINT, shown, ends.peer) {
        assert!(taken <= PORTS_TRIED, "the tries end");
        let mut other = ends;
        other.peer.set_ip([127, 9, 9, taken as u8].into());
        other.peer.set_port(tuple.remote.port());
        assert_eq!(site.comes_with(other), Some(tuple.remote));
        taken += 1;
    }
    assert_eq!(site.comes_with(ends), None);
    assert_eq!(site.counters().refused_limit, 1);
}

#[test]
fn r_lim_2_clients_do_not_end_what_the_container_began() {
    let mut site = Site::new();
    site.relay.config.limits.flows_per_endpoint = 2;
    let client = |port| SocketAddr::from(([203, 0, 113, 9], port));
    assert!(site.comes(client(1), "192.0.2.1").is_some());
    assert!(site.comes(client(2), "192.0.2.1").is_some());
    let flows = [0, 1].map(FlowId);
    for id in flows {
        // As if the container had begun it.
        if let Some(flow) = site.relay.flows.get_mut(id) {
            flow.mapping = None;
        }
    }
    assert_eq!(site.comes(client(3), "192.0.2.1"), None);
    assert_eq!(site.counters().refused_limit, 1);
    assert_eq!(site.relay.counters.evicted, 0);
    assert_eq!(site.relay.shortages(), 0, "that is the containers' own");
    assert!(
        site.relay.make_place(site.now, ENDPOINT),
        "the container itself may"
    );
}

#[test]
fn r_lim_2_the_table_of_clients_follows_that_of_flows() {
    let mut site = Site::new();
    for port in 1..=2000 {
        let client = SocketAddr::from(([203, 0, 113, 9], port));
        assert_eq!(site.comes(client, "192.0.2.1"), Some(client));
    }
    assert_eq!(site.relay.sessions.by_client.len(), 2000);
    site.relay.remove_all(site.now, &mut site.scratch, &mut site.link);
    assert!(site.relay.sessions.by_client.is_empty());
    assert!(
        site.relay.sessions.by_client.capacity() <= KEPT,
        "its memory is given back"
    );
    assert_eq!(site.relay.mappings().count(), 0);
}

#[test]
fn a_session_is_a_few_hundred_bytes() {
    let per_client = size_of::<UdpSession>() + size_of::<(Client, FlowId)>();
    assert!(per_client <= 256, "{per_client}");
}

/// A relay with one published port, by its listener 0.
/// Where a container's other packets leave by a device.
#[test]
fn a_relay_knows_the_answers_to_its_clients_and_nothing_else() {
    let mut site = Site::new();
    let client: SocketAddr = "203.0.113.9:7777".parse().expect("an address");
    let reply = |from, port| Packet::udp_ports(from, client.ip(), 5353, port);
    let (own, other) = ([10, 0, 0, 2], [10, 0, 0, 3]);
    let knows =
        |site: &Site, endpoint, packet: &Packet| site.relay.knows(site.now, endpoint, &packet.bytes());
    assert!(!knows(&site, ENDPOINT, &reply(own, 7777)), "nobody has come yet");
    assert_eq!(site.comes(client, "192.0.2.1"), Some(client));
    assert!(knows(&site, ENDPOINT, &reply(own, 7777)));
    let error = |quoted: Packet| {
        let body = [&[0; 4], &quoted.bytes()[..28]].concat();
        Packet::new(own, client.ip(), Upper::Icmp(3, 3, body))
    };
    let came = |port| Packet::udp_ports(client.ip(), own, port, 5353);
    assert!(knows(&site, ENDPOINT, &error(came(7777))));
    let strangers = [
        ("another port", reply(own, 7778)),
        ("another container's address", reply(other, 7777)),
        ("another protocol", Packet::tcp(own, client.ip())),
        ("a ping", Packet::ping(own, client.ip())),
        ("an error about another", error(came(7778))),
        ("a later fragment", reply(own, 7777).fragment(1480, false)),
    ];
    for (name, packet) in strangers {
        assert!(!knows(&site, ENDPOINT, &packet), "{name}");
    }
    assert!(!knows(&site, ENDPOINT + 1, &reply(own, 7777)), "another endpoint");
    let bytes = reply(own, 7777).bytes();
    for len in 0..bytes.len() {
        site.relay.knows(site.now, ENDPOINT, &bytes[..len]);
    }
}

struct Site {
    relay: Relay,
    now: Instant,
    scratch: Scratch,
    link: RecordingLink,
}

impl Site {
    fn new() -> Self {
        let now = now();
        let gateways: Vec<IpAddr> = ["10.0.0.1", "fd00::1"]
            .map(|address| address.parse().expect("an address"))
            .into();
        let config = RelayConfig {
            gateway_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            gateways,
            mtu: 1500,
            policy: Policy::default(),
            source: Source::default(),
            limits: Limits::new(Arc::new(Descriptors::new(1))),
            timeouts: Timeouts::default(),
            published: Arc::default(),
        };
        let mut relay = Relay::new(now, config, RandomState::new());
        let link = Side::new("10.0.0.2:1", "10.0.0.1:1").link;
        let spec = MappingSpec {
            id: MAPPING,
            protocol: Protocol::Udp,
            backend: Backend {
                endpoint: ENDPOINT,
                station: MacAddr([2, 0, 0, 0, 0, 2]),
                v4: Some([10, 0, 0, 2].into()),
                v6: Some("fd00::2".parse().expect("an address")),
                routed_v4: true,
                routed_v6: true,
                on_link: Arc::new(["10.0.0.0/24".parse().expect("a prefix")]),
                sockets: None,
            },
            rules: Rules::default(),
        };
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let listener = Listener {
            bound: Bound {
                address: socket.local_addr().expect("an address"),
                dual_stack: false,
            },
            socket: socket.into(),
            container_port: 5353,
        };
        relay
            .publish(now, spec, vec![listener], &link)
            .expect("published");
        Self {
            relay,
            now,
            scratch: Scratch::new(),
            link,
        }
    }

    /// A datagram of a client has come to one of the host's addresses; who it is to the container.
    fn comes(&mut self, client: SocketAddr, local: &str) -> Option<SocketAddr> {
        self.comes_with(ends(client, local))
    }

    fn comes_with(&mut self, ends: Ends) -> Option<SocketAddr> {
        let received = Received {
            len: 5,
            segment: None,
            source: Some(ends.peer),
        };
        self.scratch.datagrams[HEADROOM..HEADROOM + 5].copy_from_slice(b"hello");
        let (listener, both) = (ListenerId(0), ([received], [Some(ends)]));
        let (scratch, link) = (&mut self.scratch, &mut self.link);
        self.relay
            .handle_clients(self.now, listener, (&both.0, &both.1), scratch, link);
        let id = self.relay.sessions.find(&Client { listener, ends })?;
        self.relay.flows.get(id).map(|flow| flow.tuple.remote)
    }

    fn counters(&self) -> Counters {
        self.relay.published.mapping(MAPPING).expect("published").counters
    }

    /// Clients so far, and now.
    fn counted(&self) -> (u64, u32) {
        let mapping = self.relay.published.mapping(MAPPING).expect("published");
        (mapping.counters.accepted, mapping.active)
    }
}

fn ends(peer: SocketAddr, local: &str) -> Ends {
    let local = Local {
        address: local.parse().expect("an address"),
        interface: 0,
    };
    Ends { peer, local }
}

const ENDPOINT: u32 = 3;
const MAPPING: MappingId = MappingId(7);
