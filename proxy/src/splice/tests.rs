//! Pairs between real sockets of the loopback. The peers are threads; the test's own thread is the packet loop.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use mio::{Events, Poll, event::Event};
use socket2::{Domain, SockRef, Type};

use super::{direction::BUDGET, *};

#[test]
fn streams_of_64_mib_arrive_both_ways_at_once() {
    both_ways(PipeLimits::default(), 64 << 20);
}

#[test]
fn streams_arrive_although_there_is_no_pipe() {
    both_ways(
        PipeLimits {
            most: 0,
            ..PipeLimits::default()
        },
        16 << 20,
    );
}

#[test]
fn streams_arrive_although_pipes_hold_little() {
    both_ways(
        PipeLimits {
            capacity: 4096,
            ..PipeLimits::default()
        },
        16 << 20,
    );
}

#[test]
fn the_prefix_is_the_first_that_the_container_gets() {
    let mut rig = Rig::new(PipeLimits::default());
    let (mut client, mut server) = rig.pair_with(b"PROXY TCP4\r\n".to_vec());
    client.write_all(b"hello").expect("sent");
    client.shutdown(Shutdown::Write).expect("shut");
    let server = thread::spawn(move || {
        let mut text = String::new();
        server.read_to_string(&mut text).expect("received");
        (server, text)
    });
    let (server, text) = rig.run_while(server);
    assert_eq!(text, "PROXY TCP4\r\nhello");
    drop(server);
    assert_eq!(rig.ended(), summary(5, 0));
}

#[test]
fn r_cl_1_the_client_may_end_its_stream_first() {
    let mut rig = Rig::new(PipeLimits::default());
    let (client, server) = rig.pair();
    let talk = talk(client, server);
    rig.run_while(talk);
    assert_eq!(rig.ended(), summary(5000, 16));
}

#[test]
fn r_cl_1_the_container_may_end_its_stream_first() {
    let mut rig = Rig::new(PipeLimits::default());
    let (client, server) = rig.pair();
    let talk = talk(server, client);
    rig.run_while(talk);
    assert_eq!(rig.ended(), summary(16, 5000));
}

#[test]
fn a_reset_of_either_side_comes_out_of_the_other_after_what_was_sent() {
    for side in [Side::Front, Side::Back] {
        let mut rig = Rig::new(PipeLimits::default());
        let (client, server) = rig.pair();
        let (mut culprit, mut other) = match side {
            Side::Front => (client, server),
            Side::Back => (server, client),
        };
        culprit.write_all(b"last words").expect("sent");
        rig.settle();
        reset(culprit);
        let heard = thread::spawn(move || {
            let mut text = Vec::new();
            let error = other.read_to_end(&mut text).expect_err("no end of the stream");
            (text, error.kind())
        });
        let heard = rig.run_while(heard);
        assert_eq!(
            heard,
            (b"last words".to_vec(), ErrorKind::ConnectionReset),
            "{side:?}"
        );
        assert!(rig.ended().reset);
    }
}

#[test]
fn a_reset_after_the_end_of_the_stream_comes_out_of_the_other() {
    let mut rig = Rig::new(PipeLimits::default());
    let (client, mut server) = rig.pair();
    client.shutdown(Shutdown::Write).expect("shut");
    assert_eq!(
        rig.run_while(thread::spawn(move || (
            server.read(&mut [0]).expect("the end"),
            server
        )))
        .0,
        0
    );
    reset(client);
    assert!(rig.ended().reset);
}

#[test]
fn a_reset_does_not_wait_for_a_container_that_reads_nothing() {
    let mut rig = Rig::new(PipeLimits::default());
    let (client, _server) = rig.pair();
    fill(&mut rig, &client);
    reset(client);
    assert!(rig.ended().reset);
    assert_eq!(rig.splicer.means.pipes.lent(), 0);
}

#[test]
fn r_in_2_a_client_of_a_container_that_refuses_is_reset() {
    let mut rig = Rig::new(PipeLimits::default());
    let refusing = TcpListener::bind("127.0.0.1:0").expect("bound");
    let nobody = refusing.local_addr().expect("bound");
    drop(refusing);
    let mut client = rig.begin(nobody.into(), Vec::new());
    assert!(rig.ended().reset);
    assert_eq!(
        client.read(&mut [0]).expect_err("reset").kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn a_client_that_resets_before_the_container_answers_ends_the_pair() {
    let mut rig = Rig::new(PipeLimits::default());
    // A full backlog answers no SYN.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .expect("bound");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound");
    let _filler = TcpStream::connect(address.as_socket().expect("IPv4")).expect("connected");
    let client = rig.begin(address, Vec::new());
    rig.settle();
    assert_eq!(rig.splicer.len(), 1);
    reset(client);
    assert!(rig.ended().reset);
}

#[test]
fn a_slow_reader_stops_the_writer_and_loses_nothing() {
    let mut rig = Rig::new(PipeLimits::default());
    let (client, mut server) = rig.pair();
    let written = fill(&mut rig, &client);
    // Both sockets' queues and a pipe, not more.
    assert!(written < 32 << 20, "{written}");
    assert!(rig.splicer.means.pipes.lent() <= 1);
    client.shutdown(Shutdown::Write).expect("shut");
    let read = thread::spawn(move || {
        let mut sink = Vec::new();
        server.read_to_end(&mut sink).expect("received");
        (sink.len(), server)
    });
    let (read, server) = rig.run_while(read);
    assert_eq!(read, written);
    drop(server);
    assert_eq!(rig.ended(), summary(written as u64, 0));
    assert_eq!(rig.splicer.means.pipes.lent(), 0);
}

#[test]
fn an_elephant_stops_at_its_budget() {
    let mut rig = Rig::new(PipeLimits::default());
    let (mut client, mut server) = rig.pair();
    let talk = thread::spawn(move || {
        let reads = thread::spawn(move || io::copy(&mut server, &mut io::sink()).expect("received"));
        let block = vec![7; 1 << 20];
        (0..64).try_for_each(|_| client.write_all(&block)).expect("sent");
        drop(client);
        reads.join().expect("it ends")
    });
    assert_eq!(rig.run_while(talk), 64 << 20);
    // The last splice may go beyond it.
    let most = BUDGET + CAPACITY;
    assert!(rig.largest_call <= most as u64, "{}", rig.largest_call);
}

#[test]
fn r_rx_11_urgent_data_stays_in_the_stream() {
    let mut rig = Rig::new(PipeLimits::default());
    let (mut client, mut server) = rig.pair();
    let long = vec![b'a'; 200_000];
    client.write_all(&long).expect("sent");
    SockRef::from(&client).send_out_of_band(b"!").expect("sent");
    client.write_all(&long).expect("sent");
    client.shutdown(Shutdown::Write).expect("shut");
    let read = thread::spawn(move || {
        let mut all = Vec::new();
        server.read_to_end(&mut all).expect("received");
        all
    });
    let all = rig.run_while(read);
    assert_eq!(all.len(), 400_001);
    assert_eq!(all[200_000], b'!');
}

#[test]
fn a_thousand_short_connections_leave_nothing() {
    let mut rig = Rig::new(PipeLimits::default());
    for _ in 0..1000 {
        let (mut client, mut server) = rig.pair();
        client.write_all(b"?").expect("sent");
        client.shutdown(Shutdown::Write).expect("shut");
        server.write_all(b"!").expect("sent");
        server.shutdown(Shutdown::Write).expect("shut");
        assert_eq!(rig.ended(), summary(1, 1));
    }
    assert!(rig.splicer.is_empty());
    assert_eq!(rig.splicer.pairs.len(), 1);
    assert_eq!(rig.splicer.means.pipes.lent(), 0);
}

#[test]
fn a_pair_can_be_seen_and_aborted() {
    let mut rig = Rig::new(PipeLimits::default());
    let (mut client, mut server) = rig.pair();
    client.write_all(b"abc").expect("sent");
    rig.settle();
    let views: Vec<SpliceView> = rig.splicer.views().collect();
    assert_eq!(
        views,
        [SpliceView {
            id: SpliceId(0),
            client: client.local_addr().ok(),
            container: server.local_addr().ok(),
            to_back: 3,
            to_front: 0,
        }]
    );
    assert!(rig.splicer.abort(SpliceId(0)).expect("it is there").reset);
    assert_eq!(rig.splicer.abort(SpliceId(0)), None);
    for peer in [&mut client, &mut server] {
        let error = peer.read_to_end(&mut Vec::new()).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[test]
fn events_of_pairs_that_are_gone_do_nothing() {
    let mut splicer = Splicer::new(PipeLimits::default());
    assert_eq!(
        splicer.handle_ready(SpliceId(7), Side::Back, NOTHING),
        Progress::Open
    );
}

fn both_ways(limits: PipeLimits, len: usize) {
    let mut rig = Rig::new(limits);
    let (client, server) = rig.pair();
    let both = thread::spawn(move || {
        let streams = [client, server].map(|stream| {
            let mut writer = stream.try_clone().expect("cloned");
            let writes = thread::spawn(move || {
                // Of odd lengths, so that no boundary is kept by accident.
                let block = pattern(700_001);
                let mut at = 0;
                while at < len {
                    let from = at % PERIOD;
                    let count = (len - at).min(block.len() - from);
                    writer.write_all(&block[from..from + count]).expect("sent");
                    at += count;
                }
                writer.shutdown(Shutdown::Write).expect("shut");
            });
            (stream, writes)
        });
        for (stream, _) in &streams {
            stream.set_nonblocking(false).expect("blocking");
        }
        let readers = streams.map(|(mut stream, writes)| {
            thread::spawn(move || {
                let mut at = 0;
                let mut buffer = vec![0; 256 << 10];
                let expected = pattern(PERIOD + buffer.len());
                loop {
                    let count = stream.read(&mut buffer).expect("received");
                    if count == 0 {
                        break;
                    }
                    let from = at % PERIOD;
                    assert!(buffer[..count] == expected[from..from + count], "at {at}");
                    at += count;
                }
                writes.join().expect("it ends");
                at
            })
        });
        readers.map(|reader| reader.join().expect("it ends"))
    });
    assert_eq!(rig.run_while(both), [len, len]);
    assert_eq!(rig.ended(), summary(len as u64, len as u64));
    assert_eq!(rig.splicer.means.pipes.lent(), 0);
}

/// The first bytes of an endless stream.
fn pattern(len: usize) -> Vec<u8> {
    (0..PERIOD as u8).cycle().take(len).collect()
}

/// `first` says 5000 bytes and ends its stream; then `second` answers and ends its own.
fn talk(mut first: TcpStream, mut second: TcpStream) -> JoinHandle<()> {
    thread::spawn(move || {
        first.write_all(&[1; 5000]).expect("sent");
        first.shutdown(Shutdown::Write).expect("shut");
        let mut heard = Vec::new();
        second.read_to_end(&mut heard).expect("received");
        assert_eq!(heard.len(), 5000);
        second.write_all(&[2; 16]).expect("sent");
        drop(second);
        heard.clear();
        first.read_to_end(&mut heard).expect("received");
        assert_eq!(heard.len(), 16);
    })
}

/// Writes until nothing more goes.
fn fill(rig: &mut Rig, mut client: &TcpStream) -> usize {
    client.set_nonblocking(true).expect("non-blocking");
    let block = vec![7; 1 << 20];
    let mut written = 0;
    loop {
        let before = written;
        while let Ok(count) = client.write(&block) {
            written += count;
        }
        rig.settle();
        if written == before {
            client.set_nonblocking(false).expect("blocking");
            return written;
        }
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("a socket");
}

fn summary(to_back: u64, to_front: u64) -> Summary {
    Summary {
        to_back,
        to_front,
        reset: false,
    }
}

struct Rig {
    poll: Poll,
    splicer: Splicer,
    turns: VecDeque<SpliceId>,
    ended: Option<Summary>,
    /// Most bytes that a call has moved from a client.
    largest_call: u64,
}

impl Rig {
    fn new(limits: PipeLimits) -> Self {
        Self {
            poll: Poll::new().expect("a poll set"),
            splicer: Splicer::new(limits),
            turns: VecDeque::new(),
            ended: None,
            largest_call: 0,
        }
    }

    /// A client, and the server that it is connected to.
    fn pair(&mut self) -> (TcpStream, TcpStream) {
        self.pair_with(Vec::new())
    }

    fn pair_with(&mut self, prefix: Vec<u8>) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = self.begin(listener.local_addr().expect("bound").into(), prefix);
        (client, listener.accept().expect("connected").0)
    }

    /// A client whose connection is on its way to a container.
    fn begin(&mut self, container: socket2::SockAddr, prefix: Vec<u8>) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let back = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
        let error = back.connect(&container).expect_err("it is on its way");
        assert_eq!(error.raw_os_error(), Some(libc::EINPROGRESS));
        let front = Socket::from(listener.accept().expect("connected").0);
        front.set_nonblocking(true).expect("a socket");
        for socket in [&front, &back] {
            prepare(socket).expect("a TCP socket");
        }
        let ends = Ends {
            front,
            back,
            connect: Connect::Begun,
            prefix,
        };
        self.ended = None;
        self.splicer
            .open(ends, self.poll.registry(), |id, side| {
                Token((id.0 as usize) << 1 | usize::from(side == Side::Front))
            })
            .expect("opened");
        client
    }

    /// Serves the pairs until the thread has ended.
    fn run_while<T>(&mut self, thread: JoinHandle<T>) -> T {
        let mut idle = 0;
        while !thread.is_finished() && idle < PATIENCE {
            idle = if self.step() { 0 } else { idle + 1 };
        }
        assert!(thread.is_finished(), "no more events");
        thread.join().expect("it ends well")
    }

    /// Serves the pairs until one has ended.
    fn ended(&mut self) -> Summary {
        let mut idle = 0;
        loop {
            if let Some(summary) = self.ended.take() {
                return summary;
            }
            assert!(idle < PATIENCE, "no more events");
            idle = if self.step() { 0 } else { idle + 1 };
        }
    }

    /// Serves the pairs until nothing happens.
    fn settle(&mut self) {
        while self.step() {}
    }

    /// Waits for events, a moment at most, and serves them; whether there were any.
    fn step(&mut self) -> bool {
        let mut events = Events::with_capacity(64);
        let wait = if self.turns.is_empty() {
            MOMENT
        } else {
            Duration::ZERO
        };
        self.poll.poll(&mut events, Some(wait)).expect("polled");
        let turns: Vec<SpliceId> = self.turns.drain(..).collect();
        let happened = !turns.is_empty() || !events.is_empty();
        for id in turns {
            self.serve(id, Side::Front, NOTHING);
        }
        for event in &events {
            let Token(token) = event.token();
            let side = if token & 1 == 1 { Side::Front } else { Side::Back };
            self.serve(SpliceId((token >> 1) as u32), side, readiness(event));
        }
        happened
    }

    fn serve(&mut self, id: SpliceId, side: Side, readiness: Readiness) {
        let before = self.moved();
        let progress = self.splicer.handle_ready(id, side, readiness);
        let after = match progress {
            Progress::Ended(summary) => summary.to_back,
            Progress::More | Progress::Open => self.moved(),
        };
        self.largest_call = self.largest_call.max(after - before);
        match progress {
            Progress::Ended(summary) => self.ended = Some(summary),
            Progress::More => self.turns.push_back(id),
            Progress::Open => {}
        }
    }

    fn moved(&self) -> u64 {
        self.splicer.views().map(|view| view.to_back).sum()
    }
}

fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable() || event.is_read_closed(),
        writable: event.is_writable(),
        error: event.is_error(),
    }
}

const NOTHING: Readiness = Readiness {
    readable: false,
    writable: false,
    error: false,
};

const PERIOD: usize = 251;
const MOMENT: Duration = Duration::from_millis(20);
/// Moments without an event after which a test has failed.
const PATIENCE: u32 = 500;
