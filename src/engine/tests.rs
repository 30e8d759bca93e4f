use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use etherparse::{PacketBuilder, PacketHeaders, TransportHeader};
use zerocopy::IntoBytes;

use vswitch_wire::MacAddr;

use super::*;
use crate::{dataplane::PortRow, model::NetworkId};

const PLAIN: Abilities = Abilities::EMPTY;

/// A network with stations 1 … n behind devices that record what they are given.
struct Lan {
    engine: Engine,
    ports: Vec<PortId>,
    start: Instant,
    now: Instant,
    sent: Recorder,
}

#[derive(Default)]
struct Recorder {
    frames: BTreeMap<PortId, Vec<(VnetHeader, Vec<u8>)>>,
    /// Ports whose devices take nothing.
    full: Vec<PortId>,
}

impl Transmit for Recorder {
    fn transmit(&mut self, port: PortId, frame: &OutFrame<'_>) -> EgressOutcome {
        assert_eq!(frame.len(), frame.parts.concat().len());
        if self.full.contains(&port) {
            return EgressOutcome::Dropped(DropReason::QueueFull);
        }
        self.frames
            .entry(port)
            .or_default()
            .push((frame.vnet, frame.parts.concat()));
        EgressOutcome::Sent
    }
}

impl Lan {
    /// One station per set of abilities; announcements are over when it returns.
    fn new(abilities: &[Abilities]) -> Self {
        let mut lan = Self::with(NetworkSpec { ..spec() }, abilities);
        lan.pass(Duration::from_secs(5));
        lan.sent.frames.clear();
        lan
    }

    fn with(spec: NetworkSpec, abilities: &[Abilities]) -> Self {
        let now = Instant::now();
        let engine = Engine::new(now, &spec).expect("room for the gateway");
        let mut lan = Self {
            engine,
            ports: Vec::new(),
            start: now,
            now,
            sent: Recorder::default(),
        };
        for &abilities in abilities {
            lan.attach(abilities);
        }
        lan
    }

    fn attach(&mut self, abilities: Abilities) {
        let spec = endpoint(self.ports.len() as u8 + 1);
        let port = self
            .engine
            .add_endpoint(self.now, &spec, abilities)
            .expect("room for a port");
        self.ports.push(port);
        self.engine.announce(self.now, port, &spec, &mut self.sent);
    }

    /// Lets time pass, calling the engine whenever it wants to be.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.engine.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now, &mut self.sent);
        }
        self.now = end;
    }

    /// Station `from` (counted from 1) sends; what each station then got.
    fn send(&mut self, from: u8, vnet: VnetHeader, frame: &[u8]) -> Vec<Vec<(VnetHeader, Vec<u8>)>> {
        let mut read = [vnet.as_bytes(), frame].concat();
        let port = self.ports[usize::from(from) - 1];
        self.engine
            .handle_frame(self.now, port, &mut read, &mut self.sent);
        self.take()
    }

    fn take(&mut self) -> Vec<Vec<(VnetHeader, Vec<u8>)>> {
        let mut sent = std::mem::take(&mut self.sent.frames);
        self.ports
            .iter()
            .map(|port| sent.remove(port).unwrap_or_default())
            .collect()
    }

    fn row(&self, station: u8) -> PortRow {
        let port = self.ports[usize::from(station) - 1];
        let mut rows = self.engine.ports(spec().id);
        rows.find(|row| row.port == port.0).expect("the port is listed")
    }

    fn drops(&self, station: u8) -> Vec<(&'static str, u64)> {
        self.row(station).drops
    }
}

fn spec() -> NetworkSpec {
    NetworkSpec {
        id: NetworkId::from_bytes([1; 32]),
        name: "n1".into(),
        gateway_mac: mac(0xfe),
        gateways: vec!["10.0.0.254/24".parse().expect("a prefix")],
        mtu: 1500,
        inter_container: true,
        uplink: Some(Default::default()),
    }
}

fn endpoint(station: u8) -> EndpointSpec {
    EndpointSpec {
        id: EndpointId::from_bytes([station; 32]),
        network: spec().id,
        label: format!("station{station}"),
        mac: mac(station),
        addresses: vec![
            IpAddr::from([10, 0, 0, station]),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, station.into()]),
        ],
    }
}

fn mac(station: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 0, station])
}

fn tcp(from: u8, to: u8, payload: usize) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(mac(from).0, mac(to).0)
        .ipv4([10, 0, 0, from], [10, 0, 0, to], 64)
        .tcp(1000, 80, 1, 1000)
        .ack(1)
        .psh();
    let bytes: Vec<u8> = (0..payload).map(|i| i as u8).collect();
    let mut frame = Vec::new();
    step.write(&mut frame, &bytes).expect("it fits");
    frame
}

/// What a container's kernel makes of a bulk transfer: one frame, its checksum still partial.
pub(super) fn super_frame(from: u8, to: u8, payload: usize) -> (VnetHeader, Vec<u8>) {
    let mut frame = tcp(from, to, payload);
    let len = (frame.len() - 34) as u16;
    let sum = vswitch_wire::checksum::pseudo_header_v4(
        [10, 0, 0, from].into(),
        [10, 0, 0, to].into(),
        vswitch_wire::IpProtocol::TCP,
        len,
    );
    frame[50..52].copy_from_slice(&vswitch_wire::checksum::fold(sum).to_be_bytes());
    let header: [u8; 10] = [1, 1, 54, 0, 0xb4, 0x05, 34, 0, 16, 0];
    (VnetHeader::read_from_bytes(&header).expect("ten bytes"), frame)
}

fn checksum_is_right(frame: &[u8]) -> bool {
    let headers = PacketHeaders::from_ethernet_slice(frame).expect("well-formed");
    let (Some(etherparse::NetHeaders::Ipv4(ip, _)), Some(TransportHeader::Tcp(tcp))) =
        (&headers.net, &headers.transport)
    else {
        panic!("no TCP over IPv4")
    };
    tcp.calc_checksum_ipv4(ip, headers.payload.slice())
        .expect("short enough")
        == tcp.checksum
}

#[test]
fn b_off_1_a_super_frame_passes_untouched_between_capable_devices() {
    let mut lan = Lan::new(&[Abilities::ALL, Abilities::ALL, Abilities::ALL]);
    let (vnet, frame) = super_frame(1, 2, 60_000);
    assert_eq!(lan.send(1, vnet, &frame), [vec![], vec![(vnet, frame)], vec![]]);
}

#[test]
fn b_off_1_a_plain_device_gets_segments() {
    let mut lan = Lan::new(&[Abilities::ALL, PLAIN]);
    let (vnet, frame) = super_frame(1, 2, 14_600);
    let got = lan.send(1, vnet, &frame).remove(1);
    assert_eq!(got.len(), 10);
    let mut stream = Vec::new();
    for (vnet, segment) in got {
        assert_eq!(vnet, VnetHeader::default());
        assert_eq!(segment.len(), 1514);
        assert!(checksum_is_right(&segment));
        stream.extend_from_slice(&segment[54..]);
    }
    assert_eq!(stream, frame[54..]);
}

#[test]
fn b_off_1_a_device_that_only_lacks_checksums_gets_one_frame_with_its_checksum() {
    let mut lan = Lan::new(&[Abilities::ALL, PLAIN]);
    let (_, frame) = super_frame(1, 2, 100);
    let header = VnetHeader::read_from_bytes(&[1, 0, 0, 0, 0, 0, 34, 0, 16, 0][..]).expect("ten bytes");
    let got = lan.send(1, header, &frame).remove(1);
    let [(vnet, got)] = &got[..] else {
        panic!("{} frames", got.len())
    };
    assert_eq!(*vnet, VnetHeader::default());
    assert!(checksum_is_right(got));
}

#[test]
fn b_off_1_a_flood_serves_each_device_as_it_needs() {
    let mut lan = Lan::new(&[Abilities::ALL, PLAIN, Abilities::ALL, PLAIN]);
    let (vnet, mut frame) = super_frame(1, 2, 14_600);
    frame[..6].copy_from_slice(&[0xff; 6]);
    let got = lan.send(1, vnet, &frame);
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [0, 10, 1, 10]);
    assert_eq!(got[2], [(vnet, frame)]);
    assert_eq!(got[1], got[3]);
}

#[test]
fn b_off_5_an_inconsistent_vnet_header_is_dropped_and_counted() {
    let mut lan = Lan::new(&[Abilities::ALL, Abilities::ALL]);
    let (vnet, frame) = super_frame(1, 2, 5_000);
    for byte in [0, 1, 4, 6, 8] {
        let mut bad = *<&[u8; 10]>::try_from(vnet.as_bytes()).expect("ten bytes");
        bad[byte] = bad[byte].wrapping_add(0x21);
        let bad = VnetHeader::read_from_bytes(&bad).expect("ten bytes");
        if bad.validate(&frame).is_ok() {
            continue;
        }
        assert!(lan.send(1, bad, &frame).concat().is_empty(), "byte {byte}");
    }
    assert!(
        matches!(lan.drops(1)[..], [("offload", count)] if count >= 3),
        "{:?}",
        lan.drops(1)
    );
}

#[test]
fn a_read_shorter_than_its_header_is_a_runt() {
    let mut lan = Lan::new(&[PLAIN, PLAIN]);
    for len in 0..24 {
        let mut read = vec![0; len];
        lan.engine
            .handle_frame(lan.now, lan.ports[0], &mut read, &mut lan.sent);
    }
    assert!(lan.take().concat().is_empty());
    assert_eq!(lan.drops(1), [("runt", 24)]);
}

#[test]
fn b_mtu_2_super_frames_are_measured_by_their_segments() {
    let mut lan = Lan::new(&[Abilities::ALL, Abilities::ALL]);
    let (vnet, frame) = super_frame(1, 2, 20_000);
    assert_eq!(lan.send(1, vnet, &frame)[1].len(), 1, "1460-byte segments fit");
    let large = tcp(1, 2, 1461);
    assert!(
        lan.send(1, VnetHeader::default(), &large)[1].is_empty(),
        "an ordinary frame of that size does not"
    );
    assert_eq!(lan.drops(2), [("mtu", 1)]);
}

#[test]
fn b_port_5_a_container_speaks_only_for_itself() {
    let mut lan = Lan::new(&[PLAIN, PLAIN, PLAIN]);
    let cases = [
        ("another's MAC", tcp(3, 2, 10)),
        ("another's address", {
            let mut frame = tcp(3, 2, 10);
            frame[6..12].copy_from_slice(&mac(1).0);
            frame
        }),
    ];
    for (name, frame) in cases {
        assert!(
            lan.send(1, VnetHeader::default(), &frame).concat().is_empty(),
            "{name}"
        );
    }
    assert_eq!(lan.drops(1), [("spoofed_ip", 1), ("spoofed_mac", 1)]);
}

#[test]
fn the_gateway_answers_the_asker_only() {
    let mut lan = Lan::new(&[PLAIN, PLAIN]);
    let step = PacketBuilder::ethernet2(mac(1).0, mac(0xfe).0)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 254], 64)
        .icmpv4_echo_request(1, 1);
    let mut ping = Vec::new();
    step.write(&mut ping, b"x").expect("it fits");
    let got = lan.send(1, VnetHeader::default(), &ping);
    assert_eq!((got[0].len(), got[1].len()), (1, 0));
    assert_eq!(got[0][0].1[..12], [mac(1).0, mac(0xfe).0].concat());
}

#[test]
fn b_arp_6_a_new_endpoint_is_announced_to_all_others_three_times() {
    let mut lan = Lan::new(&[PLAIN, PLAIN]);
    lan.attach(PLAIN);
    let mut rounds = vec![lan.take()];
    for _ in 0..3 {
        lan.pass(Duration::from_secs(1));
        rounds.push(lan.take());
    }
    for (round, got) in rounds.iter().enumerate() {
        let expected = if round < 3 { [2, 2, 0] } else { [0, 0, 0] };
        assert_eq!(
            got.iter().map(Vec::len).collect::<Vec<_>>(),
            expected,
            "round {round}"
        );
    }
    let [(_, arp), (_, advertisement)] = &rounds[0][0][..] else {
        panic!("two frames")
    };
    let arp = PacketHeaders::from_ethernet_slice(arp).expect("well-formed");
    let Some(etherparse::NetHeaders::Arp(arp)) = arp.net else {
        panic!("no ARP")
    };
    assert_eq!(arp.operation, etherparse::ArpOperation::REQUEST);
    assert_eq!(
        (arp.sender_protocol_addr(), arp.target_protocol_addr()),
        (&[10, 0, 0, 3][..], &[10, 0, 0, 3][..])
    );
    assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        (advertisement[21], advertisement[54], advertisement[58]),
        (255, 136, 0x20)
    );
}

#[test]
fn a_removed_endpoint_is_announced_no_more() {
    let mut lan = Lan::new(&[PLAIN, PLAIN]);
    lan.attach(PLAIN);
    lan.take();
    let port = lan.ports[2];
    lan.engine.remove_port(lan.now, port);
    lan.pass(Duration::from_secs(5));
    assert!(lan.take().concat().is_empty());
    assert!(lan.now > lan.start);
}

#[test]
fn without_inter_container_traffic_only_the_gateway_is_reachable() {
    let mut lan = Lan::with(
        NetworkSpec {
            inter_container: false,
            ..spec()
        },
        &[PLAIN, PLAIN],
    );
    lan.take();
    assert!(
        lan.send(1, VnetHeader::default(), &tcp(1, 2, 10))
            .concat()
            .is_empty()
    );
    assert_eq!(
        lan.drops(1).first().map(|drop| drop.0),
        Some("isolated"),
        "{:?}",
        lan.drops(1)
    );
    let step = PacketBuilder::ethernet2(mac(1).0, mac(0xfe).0)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 254], 64)
        .icmpv4_echo_request(1, 1);
    let mut ping = Vec::new();
    step.write(&mut ping, b"x").expect("it fits");
    assert_eq!(lan.send(1, VnetHeader::default(), &ping)[0].len(), 1);
}

#[test]
fn b_arp_6_announcements_cost_the_station_nothing() {
    let lan = Lan::new(&[PLAIN, PLAIN]);
    let row = lan.row(1);
    assert_eq!((row.rx_frames, row.rx_bytes), (0, 0));
    assert_eq!(row.other, []);
}

#[test]
fn b_fwd_4_frames_leave_in_the_order_in_which_they_came() {
    let mut lan = Lan::new(&[Abilities::ALL, Abilities::ALL, PLAIN]);
    let mut sent = Vec::new();
    for number in 0..10 {
        // In turn a flooded frame, a known destination, and a super-frame.
        let (vnet, mut frame) = match number % 3 {
            2 => super_frame(1, 2, 5_000),
            _ => (VnetHeader::default(), tcp(1, 2, 100)),
        };
        if number % 3 == 0 {
            frame[..6].copy_from_slice(&[0xff; 6]);
        }
        let mut read = [vnet.as_bytes(), &frame].concat();
        lan.engine
            .handle_frame(lan.now, lan.ports[0], &mut read, &mut lan.sent);
        sent.push((vnet, frame));
    }
    assert_eq!(lan.take()[1], sent);
}

#[test]
fn b_fwd_5_a_full_device_costs_only_itself() {
    let mut lan = Lan::new(&[Abilities::ALL, Abilities::ALL, Abilities::ALL, PLAIN, PLAIN]);
    lan.sent.full = vec![lan.ports[1], lan.ports[3]];
    let sent = |lan: &Lan| [2, 3, 4, 5].map(|station| lan.row(station).tx_frames);
    let before = sent(&lan);
    let (vnet, mut frame) = super_frame(1, 2, 14_600);
    frame[..6].copy_from_slice(&[0xff; 6]);
    let got = lan.send(1, vnet, &frame);
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [0, 0, 1, 0, 10]);
    let after = sent(&lan);
    assert_eq!([0, 1, 2, 3].map(|port| after[port] - before[port]), [0, 1, 0, 10]);
    assert_eq!(
        [2, 3, 4, 5].map(|station| lan.drops(station)),
        [vec![("queue_full", 1)], vec![], vec![("queue_full", 10)], vec![]]
    );
}

#[test]
fn b_acc_5_b_acc_6_what_is_not_ours_to_judge_passes_unchanged() {
    let mut lan = Lan::new(&[Abilities::ALL, PLAIN]);
    let mut padded = tcp(1, 2, 0);
    padded.extend([0xaa; 20]);
    let mut wrong_sum = tcp(1, 2, 50);
    wrong_sum[50] ^= 0xff;
    let mut last_hop = tcp(1, 2, 50);
    last_hop[22] = 1;
    for frame in [padded, wrong_sum, last_hop] {
        let expected = [vec![], vec![(VnetHeader::default(), frame.clone())]];
        assert_eq!(lan.send(1, VnetHeader::default(), &frame), expected);
    }
}

/// A container's own VXLAN over UDP with checksum; the inner TCP checksum is left to us, as Linux does it.
fn tunnelled() -> (VnetHeader, Vec<u8>, Vec<u8>) {
    let complete = tcp(8, 9, 100);
    let (_, mut partial) = super_frame(8, 9, 100);
    partial.truncate(complete.len());
    let outer = |inner: &[u8]| {
        let step = PacketBuilder::ethernet2(mac(1).0, mac(2).0)
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(40_000, 4789);
        let mut frame = Vec::new();
        let load = [&[8, 0, 0, 0, 0, 0, 5, 0], inner].concat();
        step.write(&mut frame, &load).expect("it fits");
        frame
    };
    // The outer sum is that of the complete packet.
    let expected = outer(&complete);
    let mut frame = outer(&partial);
    frame[40..42].copy_from_slice(&expected[40..42]);
    let header: [u8; 10] = [1, 0, 0, 0, 0, 0, 84, 0, 16, 0];
    (
        VnetHeader::read_from_bytes(&header).expect("ten bytes"),
        frame,
        expected,
    )
}

#[test]
fn b_off_1_a_checksum_inside_a_tunnel_is_completed() {
    let (vnet, frame, expected) = tunnelled();
    assert_ne!(frame, expected);
    for receiver in [Abilities::ALL, PLAIN] {
        let mut lan = Lan::new(&[Abilities::ALL, receiver]);
        assert_eq!(
            lan.send(1, vnet, &frame)[1],
            [(VnetHeader::default(), expected.clone())]
        );
    }
}

#[test]
fn the_guard_judges_what_a_completed_checksum_has_made_of_a_frame() {
    // Whoever could have a checksum written into the source address would get past the guard.
    let mut lan = Lan::new(&[Abilities::ALL, PLAIN]);
    let (_, frame, _) = tunnelled();
    for start in 0..frame.len() as u8 {
        for offset in [0, 6, 16] {
            let header: [u8; 10] = [1, 0, 0, 0, 0, 0, start, 0, offset, 0];
            let vnet = VnetHeader::read_from_bytes(&header).expect("ten bytes");
            for (_, got) in lan.send(1, vnet, &frame).concat() {
                // The outer checksum itself may be asked for; everything before it is as it was judged.
                assert_eq!(got[..40], frame[..40], "start {start}, offset {offset}");
            }
        }
    }
}

#[test]
fn b_stm_1_a_super_frame_costs_as_many_frames_as_it_makes() {
    let mut lan = Lan::new(&[Abilities::ALL, Abilities::ALL]);
    // 128 datagrams of one byte in one frame of 170 bytes.
    let step = PacketBuilder::ethernet2(mac(1).0, [0xff; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 255], 64)
        .udp(1000, 2000);
    let mut frame = Vec::new();
    step.write(&mut frame, &[7; 128]).expect("it fits");
    let header: [u8; 10] = [1, 5, 42, 0, 1, 0, 34, 0, 6, 0];
    let vnet = VnetHeader::read_from_bytes(&header).expect("ten bytes");
    let mut passed = 0;
    for _ in 0..1000 {
        lan.now += Duration::from_millis(1);
        passed += lan.send(1, vnet, &frame)[1].len();
    }
    // 1000 frames a second, and 100 at once; none is cut in the middle.
    assert!((7..=9).contains(&passed), "{passed} of 1000 passed");
}
