//! The container: smoltcp's TCP and an application that reads and writes at its own pace.

use std::{collections::VecDeque, time::Duration};

use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Instant,
    wire::{EthernetAddress, HardwareAddress, IpCidr},
};

use super::{
    link::{CONTAINER, CONTAINER_MAC, CONTAINER_PORT, GATEWAY, SERVER, SERVER_PORT},
    random::Random,
    script::{Closing, Pace},
};
use crate::segment::pattern;

pub(super) struct Container {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    pub(super) device: Queues,
    pace: Pace,
    closing: Closing,
    /// Bytes that the application sends, and how many it has given to its socket.
    total: usize,
    written: usize,
    /// Bytes that it has read, all of them right.
    pub(super) read: usize,
    /// Whether it has seen the end of the server's stream.
    pub(super) ended: bool,
    closed: bool,
    wakes: Duration,
}

impl Container {
    pub(super) fn new(random: &mut Random, total: usize, closing: Closing, mtu: usize) -> Self {
        let mut device = Queues {
            mtu,
            ..Queues::default()
        };
        let address = HardwareAddress::Ethernet(EthernetAddress(CONTAINER_MAC.0));
        let mut config = Config::new(address);
        config.random_seed = random.number();
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses
                .push(IpCidr::new(CONTAINER.into(), 24))
                .expect("room for one");
        });
        interface
            .routes_mut()
            .add_default_ipv4_route(GATEWAY)
            .expect("room for one");
        let buffer = |random: &mut Random| {
            let len = random.pick(&[2048, 16_384, 65_536, 300_000]);
            SocketBuffer::new(vec![0; len])
        };
        let mut socket = Socket::new(buffer(random), buffer(random));
        socket.set_nagle_enabled(random.happens(500));
        socket
            .connect(interface.context(), (SERVER, SERVER_PORT), CONTAINER_PORT)
            .expect("a fresh socket");
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self {
            interface,
            sockets,
            socket,
            device,
            pace: Pace::new(random),
            closing,
            total,
            written: 0,
            read: 0,
            ended: false,
            closed: false,
            wakes: Duration::ZERO,
        }
    }

    /// Lets the stack do what is due and the application its turn.
    pub(super) fn poll(&mut self, now: Duration, random: &mut Random) {
        let at = instant(now);
        self.interface.poll(at, &mut self.device, &mut self.sockets);
        let is_last_chance = self.state() == State::TimeWait && !self.ended;
        if (self.wakes <= now || is_last_chance) && self.state() != State::SynSent {
            let before = (self.written, self.read);
            self.act(random);
            while self.state() == State::TimeWait && !self.ended {
                // smoltcp forgets what was not read 10 s from here; a kernel does not.
                self.act(random);
            }
            let busy = before != (self.written, self.read);
            self.wakes = now + self.pace.pause(random, busy);
            self.interface.poll(at, &mut self.device, &mut self.sockets);
        }
    }

    fn act(&mut self, random: &mut Random) {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        if socket.can_send() && self.written < self.total {
            let len = self.pace.amount(random).min(self.total - self.written);
            let sent = socket.send_slice(&pattern(self.written, len));
            self.written += sent.expect("may send");
        }
        if socket.can_recv() {
            let mut bytes = vec![0; self.pace.amount(random)];
            let len = socket.recv_slice(&mut bytes).expect("may receive");
            assert!(
                bytes[..len] == pattern(self.read, len),
                "other bytes than the server's, from {}",
                self.read
            );
            self.read += len;
        } else if !socket.may_recv() {
            self.ended = true;
        }
        let may_close = self.closing != Closing::AfterPeer || self.ended;
        if self.written == self.total && may_close && !self.closed {
            self.closed = true;
            socket.close();
        }
    }

    /// Gives up: a reset.
    pub(super) fn abort(&mut self, now: Duration) {
        self.sockets.get_mut::<Socket<'_>>(self.socket).abort();
        self.interface
            .poll(instant(now), &mut self.device, &mut self.sockets);
    }

    pub(super) fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.socket).state()
    }

    /// Whether both streams have ended for this side.
    pub(super) fn is_done(&self) -> bool {
        self.ended && matches!(self.state(), State::Closed | State::TimeWait)
    }

    /// Whether the stack has unacknowledged bytes and does not look after them. smoltcp 0.14 comes to that where
    /// a window closes with data in flight: its probe's timer replaces the retransmission's, and an update stops
    /// the probe's. In LAST-ACK it answers duplicates instead of counting them, so that a loss costs a timeout,
    /// of a minute in the end.
    pub(super) fn has_forgotten(&mut self, now: Duration) -> bool {
        let unsent = self.sockets.get::<Socket<'_>>(self.socket).send_queue() > 0;
        let sleeps = self.interface.poll_at(instant(now), &self.sockets).is_none();
        unsent && self.device.inward.is_empty() && (sleeps || self.state() == State::LastAck)
    }

    /// When to poll at the latest.
    pub(super) fn due(&mut self, now: Duration) -> Duration {
        let stack = self
            .interface
            .poll_at(instant(now), &self.sockets)
            .map(|at| Duration::from_micros(at.total_micros() as u64));
        // smoltcp may ask to be polled now without having anything to do.
        let soon = now + Duration::from_micros(100);
        let application = match self.state() {
            State::SynSent => Duration::MAX,
            _ => self.wakes.max(now + Duration::from_micros(1)),
        };
        stack.map_or(application, |stack| stack.max(soon).min(application))
    }
}

fn instant(now: Duration) -> Instant {
    Instant::from_micros(now.as_micros() as i64)
}

/// The container's device: frames in and out.
#[derive(Default)]
pub(super) struct Queues {
    pub(super) inward: VecDeque<Vec<u8>>,
    pub(super) outward: VecDeque<Vec<u8>>,
    mtu: usize,
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.inward.pop_front()?;
        Some((Received(frame), Sending(&mut self.outward)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outward))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu + 14;
        capabilities
    }
}

pub(super) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub(super) struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        self.0.push_back(frame);
        result
    }
}
