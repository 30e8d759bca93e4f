//! A packet loop that keeps the frames it is given, and what tests of flows need beside it.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use mio::{Poll, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use vswitch_wire::{MacAddr, Offload, Refusal, Stations, segment};

use crate::{
    Delivery, Link, Path, SocketId,
    config::Source,
    datagram::{Counters, FragmentIds, Inbound},
    resolvers::Resolvers,
};

/// Records what is sent.
#[derive(Debug)]
pub(crate) struct RecordingLink {
    /// Frames, with their offloads.
    pub(crate) frames: Vec<(Vec<u8>, Offload)>,
    /// What becomes of frames.
    pub(crate) delivery: Delivery,
    poll: Poll,
}

impl Link for RecordingLink {
    fn send(&mut self, frame: &mut [u8], offload: Offload) -> Delivery {
        if self.delivery == Delivery::Sent {
            self.frames.push((frame.to_vec(), offload));
        }
        self.delivery
    }

    fn refuse(&mut self, _: u32, _: &mut [u8], _: Offload, _: Refusal) {}

    fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    fn token(&self, socket: SocketId) -> Token {
        Token(socket.0 as usize)
    }
}

/// What an [`Inbound`] borrows.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) link: RecordingLink,
    pub(crate) path: Path,
    pub(crate) gateway: IpAddr,
    pub(crate) resolvers: Resolvers,
    pub(crate) source: Source,
    pub(crate) ids: FragmentIds,
    pub(crate) counters: Counters,
}

impl Side {
    pub(crate) fn new(container: &str, remote: &str) -> Self {
        let container: SocketAddr = container.parse().expect("an address");
        let gateway = match container {
            SocketAddr::V4(_) => "10.0.0.1",
            SocketAddr::V6(_) => "fd00::1",
        };
        Self {
            link: RecordingLink {
                frames: Vec::new(),
                delivery: Delivery::Sent,
                poll: Poll::new().expect("a poll set"),
            },
            path: Path {
                container,
                remote: remote.parse().expect("an address"),
                stations: Stations {
                    src: MacAddr([2, 0, 0, 0, 0, 1]),
                    dst: MacAddr([2, 0, 0, 0, 0, 2]),
                },
                mtu: 1500,
            },
            gateway: gateway.parse().expect("an address"),
            resolvers: Resolvers::new([].into()),
            source: Source::default(),
            ids: FragmentIds::new(0x1234_fffe),
            counters: Counters::default(),
        }
    }

    pub(crate) fn inbound(&mut self) -> Inbound<'_, RecordingLink> {
        Inbound {
            link: &mut self.link,
            path: &self.path,
            gateway: self.gateway,
            token: Token(0),
            resolvers: &mut self.resolvers,
            source: &self.source,
            ids: &mut self.ids,
            counters: &mut self.counters,
        }
    }

    /// The frames so far as they are on the wire: segments, with complete checksums.
    pub(crate) fn wire_frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for (mut frame, offload) in self.link.frames.drain(..) {
            let validated = offload.header().validate(&frame);
            assert_eq!(validated, Ok(offload), "a device would refuse it");
            if offload.gso.is_some() {
                let mut segments = segment::Segmenter::new(&frame, &offload).expect("it fits");
                while let Some(segment) = segments.next_segment() {
                    frames.push([segment.header, segment.payload].concat());
                }
                continue;
            }
            if let Some(partial) = offload.checksum {
                segment::complete_checksum(&mut frame, partial).expect("it fits");
            }
            frames.push(frame);
        }
        frames
    }

    /// The payloads of UDP in the frames so far, as another parser reads them, with all fields held against
    /// the path.
    pub(crate) fn datagrams(&mut self) -> Vec<Vec<u8>> {
        let frames = self.wire_frames();
        frames.iter().map(|frame| self.datagram(frame)).collect()
    }

    fn datagram(&self, frame: &[u8]) -> Vec<u8> {
        use etherparse::{SlicedPacket, TransportSlice};
        let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
        let Some(TransportSlice::Udp(udp)) = &packet.transport else {
            panic!("no UDP: {packet:?}");
        };
        let header = udp.to_header();
        assert_eq!(header.source_port, self.path.remote.port());
        assert_eq!(header.destination_port, self.path.container.port());
        assert_ne!(header.checksum, 0);
        let expected = match packet.net.expect("IP") {
            etherparse::NetSlice::Ipv4(ip) => {
                let ip = ip.header().to_header();
                assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                assert_eq!(IpAddr::from(ip.source), self.path.remote.ip());
                assert_eq!(IpAddr::from(ip.destination), self.path.container.ip());
                header.calc_checksum_ipv4(&ip, udp.payload())
            }
            etherparse::NetSlice::Ipv6(ip) => {
                let ip = ip.header().to_header();
                assert_eq!(IpAddr::from(ip.source), self.path.remote.ip());
                assert_eq!(IpAddr::from(ip.destination), self.path.container.ip());
                header.calc_checksum_ipv6(&ip, udp.payload())
            }
            net => panic!("no IP: {net:?}"),
        };
        assert_eq!(Ok(header.checksum), expected);
        udp.payload().to_vec()
    }
}

/// Waits until the descriptor is readable or has an error; panics after 10 s.
pub(crate) fn wait_ready(fd: impl AsFd) {
    let mut fds = [PollFd::new(&fd, PollFlags::IN | PollFlags::ERR)];
    let deadline = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let ready = rustix::event::poll(&mut fds, Some(&deadline)).expect("poll");
    assert_eq!(ready, 1, "nothing came in 10 s");
}

/// Any instant, as the first of a test.
#[expect(clippy::disallowed_methods, reason = "time of a test begins somewhere")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// One second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
