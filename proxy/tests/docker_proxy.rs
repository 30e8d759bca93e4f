//! The `docker-proxy` program, started as dockerd starts it.

use std::{
    fs, io,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn streams_go_both_ways_and_may_end_one_by_one() {
    let container = echo_streams();
    for host in [fresh_v4(), fresh_v6()] {
        let _proxy = Proxy::start("tcp", host, container);
        let mut client = connect(host);
        client.write_all(b"hello").expect("sent");
        client.shutdown(Shutdown::Write).expect("shut");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("received");
        // The server says the last word only after our end.
        assert_eq!(answer, "hello.", "{host}");
    }
}

#[test]
fn a_container_that_refuses_resets_the_client() {
    let host = fresh_v4();
    let _proxy = Proxy::start("tcp", host, fresh_v4());
    let error = connect(host).read(&mut [0]).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_thousand_connections_leave_no_descriptor() {
    let (host, container) = (fresh_v4(), echo_streams());
    let proxy = Proxy::start("tcp", host, container);
    round_trip(&connect(host));
    let before = proxy.descriptors();
    for _ in 0..1000 {
        round_trip(&connect(host));
    }
    // A round trip lets the program see what has ended before.
    let is_clean = (0..100).any(|_| {
        round_trip(&connect(host));
        proxy.descriptors() <= before + 2
    });
    assert!(is_clean, "{} and {before}", proxy.descriptors());
}

#[test]
fn r_lim_2_clients_wait_while_there_are_no_descriptors() {
    let (host, container) = (fresh_v4(), echo_streams());
    // Standard streams, the poll set, signals, the listener: room for five pairs.
    let mut proxy = Proxy::start_after("ulimit -n 16;", "tcp", host, container);
    let mut clients: Vec<TcpStream> = (0..12).map(|_| connect(host)).collect();
    for mut client in &clients {
        client.write_all(b"?").expect("sent");
    }
    let before = proxy.cpu_ticks();
    let is_served = |mut client: &TcpStream| {
        client.set_read_timeout(Some(MOMENT)).expect("a socket");
        client.read(&mut [0]).is_ok_and(|count| count == 1)
    };
    let served = clients.iter().filter(|client| is_served(client)).count();
    assert!((4..=6).contains(&served), "{served}");
    // Half a second and more has gone by.
    assert!(proxy.cpu_ticks() - before < 10, "it spins");
    clients.drain(..served);
    // These leave room for five of those.
    for client in &clients[..4] {
        client.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut client = client;
        assert_eq!(client.read(&mut [0]).expect("an answer"), 1);
    }
    assert!(proxy.is_running());
}

#[test]
fn p9_datagrams_go_both_ways_and_come_from_the_address_that_was_asked() {
    let container = echo_datagrams(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let port = fresh_v4().port();
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port + 1));
    let _proxy = Proxy::start("udp", any, container);
    for asked in [fresh_v4().ip(), fresh_v4().ip()] {
        let client = datagram_client(SocketAddr::new(asked, any.port()));
        for len in [1, 0, 1400, 65_507] {
            client.send(&vec![7; len]).expect("sent");
            let mut buffer = vec![0; 65_536];
            assert_eq!(client.recv(&mut buffer).expect("an answer from there"), len);
        }
    }
}

#[test]
fn datagrams_of_ipv6_clients_reach_an_ipv4_container() {
    let (host, container) = (
        fresh_v6(),
        echo_datagrams(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    );
    let _proxy = Proxy::start("udp", host, container);
    let client = datagram_client(host);
    client.send(b"six").expect("sent");
    assert_eq!(client.recv(&mut [0; 8]).expect("an answer"), 3);
}

#[test]
fn many_datagram_clients_are_told_apart() {
    let (host, container) = (
        fresh_v4(),
        echo_datagrams(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    );
    let _proxy = Proxy::start("udp", host, container);
    let clients: Vec<UdpSocket> = (0..100).map(|_| datagram_client(host)).collect();
    for (number, client) in (0u8..).zip(&clients) {
        client.send(&[number]).expect("sent");
    }
    for (number, client) in (0u8..).zip(&clients) {
        let mut answer = [0];
        assert_eq!(client.recv(&mut answer).expect("an answer"), 1);
        assert_eq!(answer, [number]);
    }
}

#[test]
fn p9_a_container_that_does_not_listen_yet_does_not_end_the_session() {
    let (host, container) = (fresh_v4(), fresh_v4());
    let proxy = Proxy::start("udp", host, container);
    let client = datagram_client(host);
    client.set_read_timeout(Some(MOMENT)).expect("a socket");
    let before = proxy.cpu_ticks();
    for _ in 0..5 {
        client.send(b"?").expect("sent");
        client.recv(&mut [0]).expect_err("nobody is there");
    }
    assert!(proxy.cpu_ticks() - before < 10, "it spins");
    echo_datagrams(container);
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client.send(b"!").expect("sent");
    assert_eq!(client.recv(&mut [0]).expect("an answer"), 1);
}

#[test]
fn what_cannot_be_done_is_told_on_the_status_pipe() {
    let owner = TcpListener::bind(fresh_v4()).expect("bound");
    let in_use = owner.local_addr().expect("bound");
    let foreign: SocketAddr = "192.0.2.77:80".parse().expect("an address");
    for (protocol, host, expected) in [
        (
            "tcp",
            in_use,
            format!("listen tcp4 {in_use}: bind: address already in use"),
        ),
        (
            "udp",
            foreign,
            format!("listen udp4 {foreign}: bind: cannot assign requested address"),
        ),
        (
            "sctp",
            foreign,
            "sctp is not supported by vswitch's docker-proxy: publish tcp or udp ports only, or start dockerd \
             without --userland-proxy-path"
                .to_owned(),
        ),
        ("dccp", foreign, "unsupported protocol dccp".to_owned()),
    ] {
        let mut proxy = Proxy::spawn("", &flags(protocol, host, foreign), Stdio::null());
        assert_eq!(proxy.status_text(), format!("1\n{expected}"));
        assert_eq!(proxy.wait().code(), Some(1), "{protocol}");
    }
    let mut proxy = Proxy::spawn("", &["-bogus".to_owned()], Stdio::null());
    assert!(
        proxy
            .status_text()
            .starts_with("1\nflag provided but not defined: -bogus")
    );
    assert_eq!(proxy.wait().code(), Some(2));
}

#[test]
fn a_listening_socket_may_be_given() {
    let mut with_flag = flags("tcp", fresh_v4(), echo_streams());
    with_flag.push("-use-listen-fd".to_owned());
    let listener = TcpListener::bind(fresh_v4()).expect("bound");
    let host = listener.local_addr().expect("bound");
    let mut proxy = Proxy::spawn("", &with_flag, OwnedFd::from(listener).into());
    assert_eq!(proxy.status_text(), "0\n");
    round_trip(&connect(host));

    let mut with_flag = flags(
        "udp",
        fresh_v4(),
        echo_datagrams(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
    );
    with_flag.push("-use-listen-fd=true".to_owned());
    let listener = UdpSocket::bind(fresh_v4()).expect("bound");
    let host = listener.local_addr().expect("bound");
    let client = datagram_client(host);
    // It waits in the socket that is handed over.
    client.send(b"early").expect("sent");
    let mut proxy = Proxy::spawn("", &with_flag, OwnedFd::from(listener).into());
    assert_eq!(proxy.status_text(), "0\n");
    assert_eq!(client.recv(&mut [0; 8]).expect("an answer"), 5);

    with_flag[1] = "tcp".to_owned();
    let listener = UdpSocket::bind(fresh_v4()).expect("bound");
    let mut proxy = Proxy::spawn("", &with_flag, OwnedFd::from(listener).into());
    let reason = proxy.status_text();
    assert!(
        reason.starts_with("1\nuse the listening socket that was given as descriptor 4: "),
        "{reason}"
    );
}

#[test]
fn it_ends_well_on_the_signals_that_dockerd_sends() {
    for signal in [Signal::INT, Signal::TERM] {
        let (host, container) = (fresh_v4(), echo_streams());
        let mut proxy = Proxy::start("tcp", host, container);
        let mut client = connect(host);
        round_trip(&client);
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(0), "{signal:?}");
        // An unfinished stream is not taken for a finished one.
        let error = client.read(&mut [0]).expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        // And the port is free again, whatever is in TIME_WAIT (P11).
        Proxy::start("tcp", host, container);
    }
}

#[test]
fn without_a_status_pipe_it_says_what_it_is_for_and_serves() {
    let (host, container) = (fresh_v4(), echo_streams());
    let mut child = Command::new(PROGRAM)
        .args(flags("tcp", host, container))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = vec![0; 31];
    let stderr = child.stderr.as_mut().expect("a pipe");
    stderr.read_exact(&mut said).expect("it says something");
    assert_eq!(said, b"docker-proxy is started by dock");
    let mut proxy = Proxy { child };
    // It says so before it listens.
    let client = (0..1000).find_map(|_| {
        thread::yield_now();
        TcpStream::connect_timeout(&host, MOMENT).ok()
    });
    round_trip(&client.expect("it listens"));
    assert!(proxy.is_running());
}

#[test]
fn it_says_its_version() {
    let output = Command::new(PROGRAM).arg("-version").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("docker-proxy (vswitch) "), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

/// The program, with a pipe as descriptor 3 and its standard input as descriptor 4.
struct Proxy {
    child: Child,
}

impl Proxy {
    /// One that serves.
    fn start(protocol: &str, host: SocketAddr, container: SocketAddr) -> Self {
        Self::start_after("", protocol, host, container)
    }

    fn start_after(before: &str, protocol: &str, host: SocketAddr, container: SocketAddr) -> Self {
        let mut proxy = Self::spawn(before, &flags(protocol, host, container), Stdio::null());
        assert_eq!(proxy.status_text(), "0\n");
        proxy
    }

    fn spawn(before: &str, flags: &[String], stdin: Stdio) -> Self {
        let script = format!("{before} exec \"$0\" \"$@\" 3>&1 4<&0 >/dev/null </dev/null");
        let child = Command::new("sh")
            .args(["-c", &script, PROGRAM])
            .args(flags)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { child }
    }

    /// All that it writes before it closes the pipe.
    fn status_text(&mut self) -> String {
        let mut text = String::new();
        let pipe = self.child.stdout.as_mut().expect("a pipe");
        pipe.read_to_string(&mut text).expect("read");
        text
    }

    fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(directory).expect("it runs").count()
    }

    /// Time on a processor, in hundredths of a second.
    fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let behind_name = stat.rsplit_once(')').expect("a name in brackets").1;
        // `utime` and `stime` (proc_pid_stat(5)).
        let words = behind_name.split_whitespace().skip(11).take(2);
        words.map(|word| word.parse::<u64>().expect("a number")).sum()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("our child")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn flags(protocol: &str, host: SocketAddr, container: SocketAddr) -> Vec<String> {
    let words = [
        "-proto",
        protocol,
        "-host-ip",
        &host.ip().to_string(),
        "-host-port",
        &host.port().to_string(),
        "-container-ip",
        &container.ip().to_string(),
        "-container-port",
        &container.port().to_string(),
    ];
    words.map(str::to_owned).to_vec()
}

/// A server that says what it hears, and a full stop after the end of the stream.
fn echo_streams() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            thread::spawn(move || {
                let mut reader = stream.try_clone().expect("cloned");
                // Whoever resets it wants no answer.
                let _ = io::copy(&mut reader, &mut stream).and_then(|_| stream.write_all(b"."));
            });
        }
    });
    address
}

/// A server that sends everything back.
fn echo_datagrams(address: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind(address).expect("bound");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, peer)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..len], peer).expect("sent");
        }
    });
    address
}

fn connect(host: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(host).expect("connected");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client
}

fn round_trip(mut client: &TcpStream) {
    client.write_all(b"?").expect("sent");
    assert_eq!(client.read(&mut [0]).expect("an answer"), 1);
}

fn datagram_client(host: SocketAddr) -> UdpSocket {
    let any: IpAddr = match host {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let client = UdpSocket::bind((any, 0)).expect("bound");
    client.connect(host).expect("connected");
    client.set_read_timeout(Some(PATIENCE)).expect("a socket");
    client
}

/// An address of this host that no other test has; its port is below those that the kernel chooses.
fn fresh_v4() -> SocketAddr {
    let [high, low, ..] = process::id().to_le_bytes();
    let address = Ipv4Addr::new(127, high, low, fresh());
    SocketAddr::from((address, base_port()))
}

fn fresh_v6() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::LOCALHOST, base_port() + u16::from(fresh())))
}

fn fresh() -> u8 {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn base_port() -> u16 {
    20_000 + (process::id() % 10_000) as u16
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_docker-proxy");

/// For what comes.
const PATIENCE: Duration = Duration::from_secs(10);
/// For what does not come.
const MOMENT: Duration = Duration::from_millis(100);
