//! On a virtual clock: what is sent, and when.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use vswitch_testkit::{
    Clock,
    frames::{Arp, Packet, Upper},
};
use vswitch_wire::{
    ArpOperation, Icmpv6Packet,
    ndp::{self, NdpMessage},
};

use super::*;
use crate::engine::allowance::BURST;

const MAC: MacAddr = MacAddr([2, 0x42, 192, 0, 2, 10]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const THIRD: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const SECOND: Duration = Duration::from_secs(1);

/// A station on a link that we read and write.
struct Link {
    clock: Clock,
    station: Station,
    sent: Sent,
}

#[derive(Default)]
struct Sent(Vec<(Vec<u8>, Offload)>);

impl Transmit for Sent {
    fn transmit(&mut self, frame: &mut [u8], offload: Offload) {
        self.0.push((frame.to_vec(), offload));
    }
}

/// What a station sent, as far as it is about addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// To whom, who says it, target.
    Ask(MacAddr, IpAddr, IpAddr),
    Answer(MacAddr, IpAddr),
    /// To whom, source and destination of the packet.
    Packet(MacAddr, IpAddr),
}

impl Link {
    /// A station that has just begun.
    fn new(nets: &[&str], gateways: &[&str]) -> Self {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().expect("a prefix")).collect();
        let gateways: Vec<IpAddr> = gateways
            .iter()
            .map(|ip| ip.parse().expect("an address"))
            .collect();
        let clock = Clock::new();
        Self {
            station: Station::new(clock.now(), MAC, &nets, &gateways),
            clock,
            sent: Sent::default(),
        }
    }

    /// One whose addresses are settled.
    fn settled() -> Self {
        let mut link = Self::new(
            &["192.0.2.10/24", "2001:db8:1::a/64"],
            &["192.0.2.1", "2001:db8:1::1"],
        );
        link.pass(5 * SECOND);
        link.sent.0.clear();
        while link.station.poll_event().is_some() {}
        link
    }

    /// Lets time pass, with every timeout at its moment.
    fn pass(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        while let Some(at) = self.station.poll_timeout().filter(|&at| at <= end) {
            let by = at.saturating_duration_since(self.clock.now());
            self.clock.advance(by);
            self.station.handle_timeout(self.clock.now(), &mut self.sent);
        }
        self.clock.advance(end - self.clock.now());
    }

    fn hear(&mut self, frame: &[u8]) -> Arrival {
        self.station.handle_frame(self.clock.now(), frame, &mut self.sent)
    }

    fn hear_arp(&mut self, arp: &Arp) {
        assert_eq!(self.hear(&arp.frame().bytes()), Arrival::Done);
    }

    fn hear_nd(&mut self, packet: &Packet, from: MacAddr, to: MacAddr) {
        assert_eq!(self.hear(&packet.frame(from, to).bytes()), Arrival::Done);
    }

    /// Has the station send a datagram.
    fn send(&mut self, dst: impl Into<IpAddr>) {
        self.send_for(Sender(1), dst);
    }

    /// The same because of one of several senders.
    fn send_for(&mut self, sender: Sender, dst: impl Into<IpAddr>) {
        let dst = dst.into();
        let src: IpAddr = match dst {
            IpAddr::V4(_) => IP.into(),
            IpAddr::V6(_) => ip6("2001:db8:1::a").into(),
        };
        let mut frame = Packet::udp(src, dst).frame(MacAddr::ZERO, MacAddr::ZERO).bytes();
        self.station.send(
            self.clock.now(),
            sender,
            (&mut frame, Offload::NONE),
            &mut self.sent,
        );
    }

    /// What was sent about addresses; what was said of groups is left out.
    fn said(&mut self) -> Vec<Said> {
        let sent = std::mem::take(&mut self.sent.0);
        let frames = sent.iter().map(|(frame, _)| frame);
        frames
            .filter(|frame| report(frame).is_none())
            .map(|frame| said(frame))
            .collect()
    }

    /// What was said of groups: from which address, and which record types and groups.
    fn reports(&mut self) -> Vec<(Ipv6Addr, Vec<(u8, Ipv6Addr)>)> {
        let sent = std::mem::take(&mut self.sent.0);
        sent.iter().filter_map(|(frame, _)| report(frame)).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.station.poll_event()).collect()
    }

    /// The neighbour is known to be at this address.
    fn introduce(&mut self, neighbour: Ipv4Addr, mac: MacAddr) {
        self.send(neighbour);
        self.hear_arp(&Arp::reply(mac, neighbour, MAC, IP));
        self.said();
    }
}

fn said(frame: &[u8]) -> Said {
    let (ethernet, payload) = EthernetHeader::parse(frame).expect("a frame");
    assert_eq!(ethernet.src, MAC);
    match ethernet.ethertype {
        EtherType::ARP => {
            let (arp, _) = ArpPacket::parse(payload).expect("ARP");
            assert_eq!(arp.sender_mac(), MAC);
            match arp.operation() {
                ArpOperation::Request => {
                    Said::Ask(ethernet.dst, arp.sender_ip().into(), arp.target_ip().into())
                }
                ArpOperation::Reply => Said::Answer(ethernet.dst, arp.sender_ip().into()),
            }
        }
        EtherType::IPV4 => {
            let packet = Ipv4Packet::parse(payload).expect("IPv4");
            Said::Packet(ethernet.dst, packet.header().dst().into())
        }
        _ => {
            let packet = Ipv6Packet::parse(payload).expect("IPv6");
            match NdpMessage::parse(&packet).expect("valid") {
                Some(NdpMessage::NeighborSolicitation { target, .. }) => {
                    Said::Ask(ethernet.dst, packet.header().src().into(), target.into())
                }
                Some(NdpMessage::NeighborAdvertisement { target, .. }) => {
                    Said::Answer(ethernet.dst, target.into())
                }
                _ => Said::Packet(ethernet.dst, packet.header().dst().into()),
            }
        }
    }
}

/// Reads a membership report with every check that a switch may make.
fn report(frame: &[u8]) -> Option<(Ipv6Addr, Vec<(u8, Ipv6Addr)>)> {
    let (ethernet, payload) = EthernetHeader::parse(frame).ok()?;
    if ethernet.ethertype != EtherType::IPV6 || ethernet.dst != MacAddr([0x33, 0x33, 0, 0, 0, 0x16]) {
        return None;
    }
    let packet = Ipv6Packet::parse(payload).expect("IPv6");
    let (src, dst) = (packet.header().src(), packet.header().dst());
    assert_eq!((packet.header().hop_limit(), dst), (1, ip6("ff02::16")));
    assert_eq!(packet.payload()[..8], [58, 0, 5, 2, 0, 0, 1, 0], "router alert");
    let icmp = Icmpv6Packet::parse(&packet.payload()[8..]).expect("ICMPv6");
    assert!(icmp.has_valid_checksum(src, dst));
    assert_eq!(icmp.header().kind(), 143);
    let records = icmp.payload().chunks(20).map(|record| {
        let group: [u8; 16] = record[4..].try_into().expect("a whole record");
        (record[0], group.into())
    });
    let records: Vec<_> = records.collect();
    assert_eq!(packet.payload()[15], records.len() as u8);
    Some((src, records))
}

fn ip6(text: &str) -> Ipv6Addr {
    text.parse().expect("an address")
}

fn ask(address: Ipv4Addr) -> Said {
    Said::Ask(MacAddr::BROADCAST, IP.into(), address.into())
}

/// RFC 5227 §2.1.1 and §2.3.
#[test]
fn an_ipv4_address_is_probed_three_times_and_announced_twice_before_it_is_left_in_peace() {
    let mut link = Link::new(&["192.0.2.10/24"], &[]);
    let probe = Said::Ask(MacAddr::BROADCAST, Ipv4Addr::UNSPECIFIED.into(), IP.into());
    link.pass(Duration::from_millis(799));
    assert_eq!(link.said(), [probe; 3]);
    assert_eq!((link.events(), link.station.usable().count()), (vec![], 0));
    link.pass(Duration::from_millis(1));
    assert_eq!(link.said(), [ask(IP)]);
    let net: IpNet = "192.0.2.10/24".parse().expect("a prefix");
    assert_eq!(link.events(), [Event::Ready(net)]);
    assert_eq!(link.station.usable().collect::<Vec<_>>(), [net]);
    link.pass(60 * SECOND);
    assert_eq!(link.said(), [ask(IP)]);
    assert_eq!(link.station.poll_timeout(), None);
}

/// RFC 4862 §5.4.
#[test]
fn an_ipv6_address_is_tested_for_a_second_and_so_is_the_link_local_one() {
    let mut link = Link::new(&["2001:db8:1::a/64"], &[]);
    link.pass(Duration::from_millis(999));
    let probe = |address: &str| {
        let target = ip6(address);
        let to = ndp::multicast_mac(ndp::solicited_node(target));
        Said::Ask(to, Ipv6Addr::UNSPECIFIED.into(), target.into())
    };
    let link_local = MAC.link_local();
    assert_eq!(
        link.said(),
        [probe("2001:db8:1::a"), probe(&link_local.to_string())]
    );
    link.pass(Duration::from_millis(1));
    let to_all = ndp::multicast_mac(icmp::ALL_NODES);
    assert_eq!(
        link.said(),
        [
            Said::Answer(to_all, ip6("2001:db8:1::a").into()),
            Said::Answer(to_all, link_local.into())
        ]
    );
    // The link-local one is nobody's business outside the link.
    assert_eq!(link.station.usable().count(), 1);
}

/// RFC 3810.
#[test]
fn membership_in_the_groups_of_solicitations_is_told_at_first_and_when_asked() {
    let mut link = Link::new(&["192.0.2.10/24", "2001:db8:1::a/64"], &[]);
    link.pass(Duration::from_millis(500));
    let groups = |kind| {
        let addresses = [ip6("2001:db8:1::a"), MAC.link_local()];
        addresses
            .map(|address| (kind, ndp::solicited_node(address)))
            .to_vec()
    };
    let first = link.reports();
    assert_eq!(
        first[0],
        (Ipv6Addr::UNSPECIFIED, groups(4)),
        "before anything is asked"
    );
    link.pass(SECOND);
    let last = link.reports().pop().expect("told again");
    assert_eq!(last, (MAC.link_local(), groups(4)));
    link.pass(20 * SECOND);
    link.reports();
    let query = |src: Ipv6Addr, ttl| {
        let body = [&[0x27, 0x10, 0, 0], &[0; 16][..], &[2, 125, 0, 0]].concat();
        let packet = Packet {
            ttl,
            ..Packet::new(src, icmp::ALL_NODES, Upper::Icmp(130, 0, body))
        };
        packet.extended(0, 1)
    };
    let to_all = ndp::multicast_mac(icmp::ALL_NODES);
    let router = ip6("fe80::1");
    link.hear_nd(&query(router, 1), OTHER, to_all);
    link.hear_nd(&query(router, 1), OTHER, to_all);
    assert_eq!(link.reports(), [(MAC.link_local(), groups(2))], "once");
    link.pass(2 * SECOND);
    link.hear_nd(&query(router, 64), OTHER, to_all);
    link.hear_nd(&query(ip6("2001:db8:1::1"), 1), OTHER, to_all);
    assert_eq!(link.reports(), [], "from beyond the link");
    let mut v4 = Link::new(&["192.0.2.10/24"], &[]);
    v4.pass(5 * SECOND);
    v4.hear_nd(&query(router, 1), OTHER, to_all);
    assert_eq!(v4.reports(), [], "there are none");
}

#[test]
fn an_address_that_another_station_has_is_not_used_and_tried_again() {
    let evidence = [
        ("it answers", Arp::reply(OTHER, IP, MAC, Ipv4Addr::UNSPECIFIED)),
        ("it announces", Arp::announcement(OTHER, IP)),
        ("it asks for another", Arp::request(OTHER, IP, GATEWAY)),
        ("it tests, too", Arp::probe(OTHER, IP)),
    ];
    for (name, arp) in evidence {
        let mut link = Link::new(&["192.0.2.10/24", "192.0.2.11/24"], &[]);
        link.pass(Duration::from_millis(300));
        link.hear_arp(&arp);
        link.pass(5 * SECOND);
        let conflict = Event::Conflict {
            address: IP.into(),
            mac: OTHER,
        };
        assert_eq!(link.events()[0], conflict, "{name}");
        let usable: Vec<String> = link.station.usable().map(|net| net.to_string()).collect();
        assert_eq!(
            usable,
            ["192.0.2.11/24"],
            "{name}: the other one is not concerned"
        );
        link.said();
        link.hear_arp(&Arp::request(THIRD, GATEWAY, IP));
        assert_eq!(link.said(), [], "{name}: nobody is told that it is ours");
        // The same again a minute later is no news.
        link.pass(Duration::from_millis(55_500));
        link.hear_arp(&arp);
        assert_eq!(link.events(), [], "{name}");
        link.pass(62 * SECOND);
        assert_eq!(link.station.usable().count(), 2, "{name}: it is free by now");
    }
}

#[test]
fn an_ipv6_address_that_another_station_has_is_not_used() {
    let target = ip6("2001:db8:1::a");
    let group = ndp::solicited_node(target);
    let test = Packet {
        dst: group.into(),
        ..Packet::duplicate_address_detection(target)
    };
    let evidence = [
        (
            "it advertises",
            Packet::neighbour_advertisement(target, target, OTHER),
        ),
        ("it tests, too", test),
    ];
    for (name, packet) in evidence {
        let mut link = Link::new(&["2001:db8:1::a/64"], &[]);
        link.pass(Duration::from_millis(500));
        link.hear_nd(&packet, OTHER, ndp::multicast_mac(group));
        link.pass(2 * SECOND);
        let conflict = Event::Conflict {
            address: target.into(),
            mac: OTHER,
        };
        assert_eq!(link.events()[0], conflict, "{name}");
        assert_eq!(link.station.usable().count(), 0, "{name}");
    }
}

#[test]
fn a_station_that_has_an_address_of_ours_is_a_neighbour_like_others() {
    let mut link = Link::new(&["192.0.2.10/24", "192.0.2.11/24"], &[]);
    let taken = Ipv4Addr::new(192, 0, 2, 11);
    link.hear_arp(&Arp::announcement(OTHER, taken));
    link.pass(5 * SECOND);
    link.said();
    link.send(taken);
    assert_eq!(link.said(), [ask(taken)]);
    link.hear_arp(&Arp::reply(OTHER, taken, MAC, IP));
    assert_eq!(link.said(), [Said::Packet(OTHER, taken.into())]);
}

/// RFC 5227 §2.4 (c).
#[test]
fn an_address_is_defended_once_in_ten_seconds() {
    let mut link = Link::settled();
    for round in 0..2 {
        link.hear_arp(&Arp::announcement(OTHER, IP));
        assert_eq!(link.said(), [ask(IP)], "round {round}");
        assert_eq!(
            link.events(),
            [Event::Defended {
                address: IP.into(),
                mac: OTHER
            }]
        );
        link.hear_arp(&Arp::announcement(OTHER, IP));
        link.pass(9 * SECOND);
        link.hear_arp(&Arp::announcement(OTHER, IP));
        assert_eq!((link.said(), link.events()), (vec![], vec![]), "round {round}");
        link.pass(SECOND);
    }
    assert!(link.station.usable().any(|net| net.addr() == IP));
}

#[test]
fn whoever_asks_for_our_addresses_is_answered() {
    let mut link = Link::settled();
    link.hear_arp(&Arp::request(OTHER, GATEWAY, IP));
    link.hear_arp(&Arp::probe(OTHER, IP));
    assert_eq!(link.said(), [Said::Answer(OTHER, IP.into()); 2]);
    let (target, asker) = (ip6("2001:db8:1::a"), ip6("2001:db8:1::1"));
    let group = ndp::multicast_mac(ndp::solicited_node(target));
    link.hear_nd(
        &Packet::neighbour_solicitation(asker, target, OTHER),
        OTHER,
        group,
    );
    assert_eq!(link.said(), [Said::Answer(OTHER, target.into())]);
    // RFC 4862 §5.4.3: whoever tests the address hears with all others.
    let test = Packet {
        dst: ndp::solicited_node(target).into(),
        ..Packet::duplicate_address_detection(target)
    };
    link.hear_nd(&test, OTHER, group);
    let to_all = ndp::multicast_mac(icmp::ALL_NODES);
    assert_eq!(link.said(), [Said::Answer(to_all, target.into())]);
    // Others' addresses are not ours to answer for.
    link.hear_arp(&Arp::request(OTHER, GATEWAY, Ipv4Addr::new(192, 0, 2, 99)));
    link.hear_nd(
        &Packet::neighbour_solicitation(asker, ip6("2001:db8:1::b"), OTHER),
        OTHER,
        group,
    );
    assert_eq!(link.said(), []);
    // Nobody has become a neighbour by that.
    assert_eq!(link.station.neighbours(), 0);
}

#[test]
fn a_packet_waits_for_its_next_hop_and_goes_there() {
    let mut link = Link::settled();
    link.send(FAR);
    link.send(FAR);
    assert_eq!(link.said(), [ask(GATEWAY)]);
    link.hear_arp(&Arp::reply(OTHER, GATEWAY, MAC, IP));
    assert_eq!(link.said(), [Said::Packet(OTHER, FAR.into()); 2]);
    link.send(FAR);
    assert_eq!(link.said(), [Said::Packet(OTHER, FAR.into())]);
    // On the link there is no need of a gateway.
    let near = Ipv4Addr::new(192, 0, 2, 77);
    link.send(near);
    assert_eq!(link.said(), [ask(near)]);
    let far = ip6("2001:db8:2::7");
    link.send(far);
    let gateway = ip6("2001:db8:1::1");
    let group = ndp::multicast_mac(ndp::solicited_node(gateway));
    let source = ip6("2001:db8:1::a");
    assert_eq!(link.said(), [Said::Ask(group, source.into(), gateway.into())]);
    let body = [&[0x60, 0, 0, 0], &gateway.octets()[..], &[2, 1], &OTHER.0].concat();
    let answer = Packet {
        ttl: 255,
        ..Packet::new(gateway, source, Upper::Icmp(136, 0, body))
    };
    link.hear_nd(&answer, OTHER, MAC);
    assert_eq!(link.said(), [Said::Packet(OTHER, far.into())]);
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_the_senders_are_told() {
    let mut link = Link::settled();
    link.send(FAR);
    link.pass(Duration::from_millis(2999));
    assert_eq!(link.said(), [ask(GATEWAY); 3]);
    assert!(link.station.poll_undelivered().is_none());
    link.pass(Duration::from_millis(1));
    let told = link.station.poll_undelivered().expect("a packet");
    assert_eq!(told.refusal, Refusal::HostUnreachable);
    assert_eq!(told.packet, Packet::udp(IP, FAR).bytes());
    assert!(link.station.poll_undelivered().is_none());
    assert_eq!(link.station.counters().unreachable, 1);
    assert_eq!(
        (link.station.neighbours(), link.station.poll_timeout()),
        (0, None)
    );
    // The next packet is another try.
    link.send(FAR);
    assert_eq!(link.said(), [ask(GATEWAY)]);
}

#[test]
fn without_a_gateway_what_is_off_the_link_is_refused_at_once() {
    let mut link = Link::new(&["192.0.2.10/24"], &[]);
    link.pass(5 * SECOND);
    link.said();
    link.send(FAR);
    let told = link.station.poll_undelivered().expect("a packet");
    assert_eq!((told.refusal, link.said()), (Refusal::NoRoute, vec![]));
    assert_eq!(link.station.counters().no_route, 1);
}

/// RFC 4861 §7.3.3.
#[test]
fn a_neighbour_is_confirmed_by_itself_while_packets_go_on() {
    let mut link = Link::settled();
    link.introduce(GATEWAY, OTHER);
    link.pass(29 * SECOND);
    link.send(FAR);
    link.pass(20 * SECOND);
    assert_eq!(
        link.said(),
        [Said::Packet(OTHER, FAR.into())],
        "nobody asks without need"
    );
    link.send(FAR);
    link.pass(5 * SECOND);
    let question = Said::Ask(OTHER, IP.into(), GATEWAY.into());
    assert_eq!(link.said(), [Said::Packet(OTHER, FAR.into()), question]);
    link.send(FAR);
    assert_eq!(link.said(), [Said::Packet(OTHER, FAR.into())]);
    link.hear_arp(&Arp::reply(OTHER, GATEWAY, MAC, IP));
    link.pass(20 * SECOND);
    assert_eq!(link.said(), [], "it was confirmed");
    link.pass(11 * SECOND);
    link.send(FAR);
    link.said();
    link.pass(8 * SECOND);
    assert_eq!(link.said(), [question; 3]);
    link.send(FAR);
    assert_eq!(link.said(), [ask(GATEWAY)], "it has gone, so all are asked");
}

#[test]
fn a_neighbour_that_moves_says_so_and_is_asked_there() {
    let mut link = Link::settled();
    link.introduce(GATEWAY, OTHER);
    // Right after the answer another one is no change but a quarrel.
    link.hear_arp(&Arp::announcement(THIRD, GATEWAY));
    link.send(FAR);
    assert_eq!(link.said(), [Said::Packet(OTHER, FAR.into())]);
    link.pass(2 * SECOND);
    link.hear_arp(&Arp::announcement(THIRD, GATEWAY));
    link.send(FAR);
    link.pass(5 * SECOND);
    assert_eq!(
        link.said(),
        [
            Said::Packet(THIRD, FAR.into()),
            Said::Ask(THIRD, IP.into(), GATEWAY.into())
        ]
    );
}

#[test]
fn strangers_are_not_learnt() {
    let mut link = Link::settled();
    for last in 20..40 {
        let ip = Ipv4Addr::new(192, 0, 2, last);
        link.hear_arp(&Arp::announcement(OTHER, ip));
        link.hear_arp(&Arp::reply(OTHER, ip, MAC, IP));
        link.hear_arp(&Arp::request(OTHER, ip, IP));
    }
    let stranger = ip6("2001:db8:1::99");
    link.hear_nd(
        &Packet::neighbour_advertisement(stranger, stranger, OTHER),
        OTHER,
        ndp::multicast_mac(icmp::ALL_NODES),
    );
    link.hear_nd(
        &Packet::router_advertisement(ip6("fe80::99")),
        OTHER,
        ndp::multicast_mac(icmp::ALL_NODES),
    );
    assert_eq!(link.station.neighbours(), 0);
    // A group is nobody's address.
    link.send(GATEWAY);
    link.said();
    link.hear_arp(&Arp::reply(MacAddr([3, 0, 0, 0, 0, 1]), GATEWAY, MAC, IP));
    assert_eq!(link.said(), []);
}

#[test]
fn the_table_and_what_waits_are_bounded() {
    let mut link = Link::new(&["10.0.0.1/8"], &["10.0.0.2"]);
    link.pass(5 * SECOND);
    for number in 0..1500_u32 {
        let sender = Sender(u64::from(number) / 50);
        link.send_for(sender, Ipv4Addr::from(0x0a01_0000 + number));
    }
    // Who comes late takes the place of who has waited for longest.
    assert_eq!(link.station.neighbours(), 1024);
    let waiting = 1500 - link.station.counters().neighbours_full;
    assert!((1..=256).contains(&waiting), "{waiting} packets wait");
    // The gateway is always found.
    link.send_for(Sender(0), FAR);
    assert!(link.said().contains(&Said::Ask(
        MacAddr::BROADCAST,
        Ipv4Addr::new(10, 0, 0, 1).into(),
        Ipv4Addr::new(10, 0, 0, 2).into()
    )));
    assert!((1024..=1025).contains(&link.station.neighbours()));
    // Questions for all of them end.
    link.pass(3 * SECOND);
    assert_eq!(link.station.neighbours(), 0);
    let told = std::iter::from_fn(|| link.station.poll_undelivered()).count();
    assert_eq!(told, BURST as usize, "of all senders");
}

#[test]
fn errors_about_packets_without_a_way_are_limited_for_each_sender() {
    let mut link = Link::new(&["192.0.2.10/24"], &[]);
    link.pass(5 * SECOND);
    let told = |link: &mut Link, sender| {
        let count = |_: &usize| {
            link.send_for(Sender(sender), FAR);
            link.station.poll_undelivered().is_some()
        };
        (0..200).filter(count).count()
    };
    assert_eq!(told(&mut link, 1), BURST as usize);
    assert_eq!(told(&mut link, 1), 0);
    link.pass(SECOND / 10);
    assert_eq!(told(&mut link, 1), 10, "100 a second");
    assert!(told(&mut link, 2) > 30, "another is told");
    assert_eq!(link.station.counters().no_route, 800);
}

#[test]
fn one_sender_fills_neither_the_table_nor_the_room_nor_the_link() {
    let mut link = Link::new(&["10.0.0.1/8"], &["10.0.0.2"]);
    link.pass(5 * SECOND);
    link.said();
    for number in 0..1500_u32 {
        link.send_for(Sender(1), Ipv4Addr::from(0x0a01_0000 + number));
    }
    assert_eq!(link.station.neighbours(), 64);
    assert_eq!(link.station.counters().neighbours_full, 1500 - 64);
    assert_eq!(link.said().len(), 64, "questions");
    // Another's packets still wait, and go.
    let near = Ipv4Addr::new(10, 0, 0, 9);
    link.send_for(Sender(2), near);
    link.hear_arp(&Arp::reply(OTHER, near, MAC, Ipv4Addr::new(10, 0, 0, 1)));
    assert!(link.said().contains(&Said::Packet(OTHER, near.into())));
    // The first may send by what is known, too, and has its share again when nobody has answered.
    link.send_for(Sender(1), near);
    assert_eq!(link.said(), [Said::Packet(OTHER, near.into())]);
    link.pass(3 * SECOND);
    link.said();
    for number in 0..1500_u32 {
        link.send_for(Sender(1), Ipv4Addr::from(0x0a02_0000 + number));
    }
    assert_eq!(link.said().len(), 64);
}

#[test]
fn of_one_neighbour_the_oldest_packets_go_first() {
    let mut link = Link::settled();
    for last in 1..=20 {
        link.send(Ipv4Addr::new(198, 51, 100, last));
    }
    link.said();
    link.hear_arp(&Arp::reply(OTHER, GATEWAY, MAC, IP));
    let expected: Vec<Said> = (5..=20)
        .map(|last| Said::Packet(OTHER, Ipv4Addr::new(198, 51, 100, last).into()))
        .collect();
    assert_eq!(link.said(), expected);
}

#[test]
fn idle_neighbours_make_room_and_the_gateway_stays() {
    let mut link = Link::new(&["10.0.0.1/8"], &["10.0.0.2"]);
    link.pass(5 * SECOND);
    let (ours, gateway) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let introduce = |link: &mut Link, neighbour: Ipv4Addr| {
        link.send(neighbour);
        link.hear_arp(&Arp::reply(OTHER, neighbour, MAC, ours));
    };
    introduce(&mut link, gateway);
    for number in 0..3000_u32 {
        introduce(&mut link, Ipv4Addr::from(0x0a01_0000 + number));
    }
    assert_eq!(link.station.neighbours(), 1024);
    link.said();
    link.send(FAR);
    assert_eq!(link.said(), [Said::Packet(OTHER, FAR.into())]);
}

#[test]
fn packets_are_told_from_what_is_the_stations_own() {
    let mut link = Link::settled();
    let packet = |to| Packet::tcp(GATEWAY, IP).frame(OTHER, to).bytes();
    assert_eq!(link.hear(&packet(MAC)), Arrival::Packet);
    for (name, to) in [("a group", MacAddr::BROADCAST), ("another station", THIRD)] {
        assert_eq!(link.hear(&packet(to)), Arrival::Done, "{name}");
    }
    let echo = Packet::tcp(GATEWAY, IP).frame(MAC, MAC).bytes();
    assert_eq!(link.hear(&echo), Arrival::Done, "our own");
    let v6 = Packet::tcp(ip6("2001:db8:2::1"), ip6("2001:db8:1::a")).frame(OTHER, MAC);
    assert_eq!(link.hear(&v6.bytes()), Arrival::Packet);
    for len in 0..v6.bytes().len() {
        // Cut short it is either the same to us or nothing.
        let _ = link.hear(&v6.bytes()[..len]);
    }
    assert_eq!(link.said(), []);
}

#[test]
fn echo_requests_to_our_addresses_are_answered_and_nothing_else_is() {
    let mut link = Link::settled();
    let ping = |src: IpAddr, dst: IpAddr| Packet::ping(src, dst).frame(OTHER, MAC).bytes();
    for (src, dst) in [
        (IpAddr::V4(FAR), IpAddr::V4(IP)),
        (ip6("2001:db8:2::1").into(), ip6("2001:db8:1::a").into()),
    ] {
        link.station.handle_local(&ping(src, dst), &mut link.sent);
        assert_eq!(link.said(), [Said::Packet(OTHER, src)]);
    }
    // Link-local ones never leave the link, so nobody else is asked.
    let (src, dst) = (ip6("fe80::1"), MAC.link_local());
    assert_eq!(link.hear(&ping(src.into(), dst.into())), Arrival::Done);
    assert_eq!(link.said(), [Said::Packet(OTHER, src.into())]);
    assert_eq!(link.station.counters().echoes, 3);
    let others = [
        ping(FAR.into(), Ipv4Addr::new(192, 0, 2, 11).into()),
        Packet::tcp(FAR, IP).frame(OTHER, MAC).bytes(),
        Packet::udp(FAR, IP).frame(OTHER, MAC).bytes(),
    ];
    for frame in others {
        link.station.handle_local(&frame, &mut link.sent);
    }
    assert_eq!(link.said(), []);
}
