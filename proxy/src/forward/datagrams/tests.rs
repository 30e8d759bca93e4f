//! Sessions between real sockets, on a clock of the test's own.

use std::net::UdpSocket;

use mio::Poll;

use super::*;

#[test]
fn p9_a_silent_client_is_forgotten_and_only_its_own_datagrams_count() {
    let mut scene = Scene::new();
    let client = scene.client();
    client.send(b"1").expect("sent");
    scene.receive(0);
    assert_eq!(scene.datagrams.timeout(scene.at(0)), Some(IDLE));
    client.send(b"2").expect("sent");
    scene.receive(60);
    // What the container says does not keep it.
    let (_, session) = scene.container.recv_from(&mut [0]).expect("it came");
    scene.container.send_to(b"!", session).expect("sent");
    scene.datagrams.answer(0);
    assert_eq!(client.recv(&mut [0]).expect("an answer"), 1);
    scene.expire(60 + 89);
    assert_eq!(scene.sessions(), 1);
    scene.expire(60 + 90);
    assert_eq!(scene.sessions(), 0);
    assert_eq!(scene.datagrams.timeout(scene.at(150)), None);
}

#[test]
fn r_lim_the_client_that_has_been_silent_longest_makes_room() {
    let mut scene = Scene::new();
    scene.datagrams.most = 2;
    let clients = [scene.client(), scene.client(), scene.client()];
    for (second, number) in [(0, 0), (1, 1), (2, 0), (3, 2)] {
        clients[number].send(b"?").expect("sent");
        scene.receive(second);
    }
    assert_eq!(scene.sessions(), 2);
    let is_known = |client: &UdpSocket| {
        let peer = client.local_addr().expect("bound");
        scene.datagrams.by_ends.keys().any(|ends| ends.peer == peer)
    };
    assert_eq!(clients.each_ref().map(is_known), [true, false, true]);
    // Places are used again.
    assert_eq!(scene.datagrams.sessions.len(), 2);
}

#[test]
fn one_client_has_a_session_for_each_address_that_it_asks() {
    let mut scene = Scene::new();
    let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
    for address in ["127.0.0.1", "127.0.0.2"] {
        client.send_to(b"?", (address, scene.port)).expect("sent");
    }
    scene.receive(0);
    assert_eq!(scene.sessions(), 2);
}

struct Scene {
    poll: Poll,
    datagrams: Datagrams,
    container: UdpSocket,
    port: u16,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        let container = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let listener = UdpSocket::bind("0.0.0.0:0").expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let address = container.local_addr().expect("bound");
        Self {
            poll: Poll::new().expect("a poll set"),
            datagrams: Datagrams::new(listener.into(), address).expect("sockets"),
            container,
            port,
            start: super::super::now(),
        }
    }

    fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").expect("bound");
        client.connect(("127.0.0.1", self.port)).expect("connected");
        client
    }

    fn receive(&mut self, second: u64) {
        let now = self.at(second);
        self.datagrams.receive(now, self.poll.registry());
    }

    fn expire(&mut self, second: u64) {
        let now = self.at(second);
        self.datagrams.handle_timeout(now, self.poll.registry());
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn sessions(&self) -> usize {
        let sessions = self.datagrams.sessions.iter().flatten().count();
        assert_eq!(sessions, self.datagrams.by_ends.len());
        sessions
    }
}
