//! Frames between the container's stack and the relay: how they are made, and what happens to them on the way.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use vswitch_proxy::tcp::Outgoing;
use vswitch_testkit::frames::mac;
use vswitch_wire::{
    ArpOperation, ArpPacket, EtherType, EthernetHeader, Gso, GsoKind, IpProtocol, Ipv4Header, Ipv4Packet,
    MacAddr, Offload, PartialChecksum, TcpFlags, TcpHeader, TcpSegment, checksum,
    segment::{Segmenter, complete_checksum},
};
use zerocopy::IntoBytes;

use super::random::Random;

pub(super) const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(super) const CONTAINER_PORT: u16 = 40_000;
pub(super) const SERVER_PORT: u16 = 80;
pub(super) const CONTAINER_MAC: MacAddr = mac(2);
pub(super) const GATEWAY_MAC: MacAddr = mac(1);

/// What happens to frames, each in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    /// How many frames wait for so long that others pass them.
    pub(super) late: u64,
    /// Microseconds that each takes, and how much more at most.
    pub(super) delay: (u64, u64),
}

/// One direction.
pub(super) struct Link {
    weather: Weather,
    /// By arrival, then by departure.
    frames: BTreeMap<(Duration, u64), Vec<u8>>,
    departed: u64,
    last: Duration,
}

impl Link {
    pub(super) fn new(weather: Weather) -> Self {
        Self {
            weather,
            frames: BTreeMap::new(),
            departed: 0,
            last: Duration::ZERO,
        }
    }

    pub(super) fn send(&mut self, now: Duration, random: &mut Random, frame: Vec<u8>) {
        if random.happens(self.weather.lost) {
            return;
        }
        if random.happens(self.weather.doubled) {
            self.depart(now, random, frame.clone());
        }
        self.depart(now, random, frame);
    }

    fn depart(&mut self, now: Duration, random: &mut Random, frame: Vec<u8>) {
        let (delay, jitter) = self.weather.delay;
        let usual = now + Duration::from_micros(delay + random.below(jitter + 1));
        let at = if random.happens(self.weather.late) {
            usual + Duration::from_micros(random.between(1, 20 * (delay + 1)))
        } else {
            // Order holds but for those.
            self.last = self.last.max(usual);
            self.last
        };
        self.departed += 1;
        self.frames.insert((at, self.departed), frame);
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.frames.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn receive(&mut self, now: Duration) -> Option<Vec<u8>> {
        let first = self.frames.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }
}

/// The gateway's answer to an ARP request.
pub(super) fn arp_reply(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = EthernetHeader::parse(frame).ok()?;
    if header.ethertype != EtherType::ARP {
        return None;
    }
    let (request, _) = ArpPacket::parse(rest).ok()?;
    (request.operation() == ArpOperation::Request && request.target_ip() == GATEWAY).then(|| {
        let frame =
            vswitch_testkit::frames::Arp::reply(GATEWAY_MAC, GATEWAY, CONTAINER_MAC, CONTAINER).frame();
        frame.bytes()
    })
}

/// The segment in a frame of the container, whose checksums must be right.
pub(super) fn read(frame: &[u8]) -> Option<TcpSegment<'_>> {
    let (header, rest) = EthernetHeader::parse(frame).ok()?;
    if header.ethertype != EtherType::IPV4 {
        return None;
    }
    let packet = Ipv4Packet::parse(rest).ok()?;
    let segment = TcpSegment::parse(packet.payload()).ok()?;
    let pseudo_header = checksum::pseudo_header_v4(
        packet.header().src(),
        packet.header().dst(),
        IpProtocol::TCP,
        packet.payload().len() as u16,
    );
    assert!(packet.has_valid_checksum() && segment.has_valid_checksum(pseudo_header));
    assert_eq!(packet.header().dst(), SERVER);
    Some(segment)
}

/// The frames that a device without offloads gets for a segment of the relay.
pub(super) fn frames(outgoing: &Outgoing, payload: &[u8]) -> Vec<Vec<u8>> {
    let (mut frame, offload) = super_frame(outgoing, payload);
    if offload.gso.is_none() {
        complete_checksum(&mut frame, PARTIAL).expect("made for this frame");
        return vec![frame];
    }
    let mut segments = Segmenter::new(&frame, &offload).expect("made for this frame");
    let mut frames = Vec::new();
    while let Some(segment) = segments.next_segment() {
        frames.push([segment.header, segment.payload].concat());
    }
    frames
}

/// The segment as one frame, as a relay would send it, and what is left to do with it.
fn super_frame(outgoing: &Outgoing, payload: &[u8]) -> (Vec<u8>, Offload) {
    let options = options(outgoing);
    let mut tcp = TcpHeader::new(SERVER_PORT, CONTAINER_PORT, options.len()).expect("whole words");
    tcp.set_sequence(outgoing.seq.0);
    if outgoing.flags.contains(TcpFlags::ACK) {
        tcp.set_acknowledgment(outgoing.ack.0);
    }
    tcp.set_flags(outgoing.flags);
    tcp.set_window(outgoing.window);
    let len = tcp.header_len() + payload.len();
    let pseudo_header = checksum::pseudo_header_v4(SERVER, CONTAINER, IpProtocol::TCP, len as u16);
    tcp.set_checksum(checksum::fold(pseudo_header));
    let ip = Ipv4Header::new(SERVER, CONTAINER, IpProtocol::TCP, len).expect("fits a packet");
    let ethernet = EthernetHeader {
        dst: CONTAINER_MAC,
        src: GATEWAY_MAC,
        ethertype: EtherType::IPV4,
    };
    let header_len = EthernetHeader::LEN + Ipv4Header::LEN + tcp.header_len();
    let frame = [
        ethernet.as_bytes(),
        ip.as_bytes(),
        tcp.as_bytes(),
        &options,
        payload,
    ]
    .concat();
    let offload = Offload {
        checksum: Some(PARTIAL),
        gso: (payload.len() > outgoing.mss.into()).then_some(Gso {
            kind: GsoKind::TcpV4,
            ecn: false,
            size: outgoing.mss,
            header_len: header_len as u16,
        }),
        data_valid: false,
    };
    (frame, offload)
}

fn options(outgoing: &Outgoing) -> Vec<u8> {
    let Some(options) = outgoing.syn_options else {
        return Vec::new();
    };
    let [high, low] = options.mss.to_be_bytes();
    let mut bytes = vec![2, 4, high, low];
    if let Some(scale) = options.window_scale {
        bytes.extend([1, 3, 3, scale]);
    }
    bytes
}

const PARTIAL: PartialChecksum = PartialChecksum {
    start: (EthernetHeader::LEN + Ipv4Header::LEN) as u16,
    offset: TcpHeader::CHECKSUM_OFFSET,
};
