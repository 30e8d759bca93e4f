//! Real ports of 127.0.0.0/8, recorded devices.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    api::types::{
        NetworkConnect, NetworkCreate, NetworkDisconnect, PortsUnpublish, SandboxCreate, SandboxNetwork,
    },
    control::{
        Caller, Control, ControlError, NewSandbox,
        fixtures::{self, FakeAttacher},
    },
    dataplane::{DataPlane, PollMode},
    model::{PortRequest, Sandbox},
};

mod dormant;
mod sockets;

struct Daemon {
    directory: TempDir,
    control: Control,
    devices: FakeAttacher,
}

impl Daemon {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary directory")).await
    }

    async fn start_in(directory: TempDir) -> Self {
        let (control, devices) = fixtures::control(directory.path()).await;
        Self {
            directory,
            control,
            devices,
        }
    }

    /// With so many descriptors for host sockets.
    async fn start_with(descriptors: usize) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let devices = FakeAttacher::default();
        let mut config = fixtures::config(directory.path(), devices.clone());
        (config.dataplane, config.reports) =
            DataPlane::start(1, PollMode::Sleep, descriptors).expect("the kernel gives a thread");
        Self {
            control: Control::start(config).await.expect("a fresh state"),
            directory,
            devices,
        }
    }

    /// Ends as `kill -9` does: nothing is cleaned up, and all descriptors are closed.
    async fn kill(self) -> TempDir {
        let Self {
            directory,
            control,
            devices,
        } = self;
        drop((control, devices));
        // Watchers of the old daemon hold the state's lock for a moment.
        tokio::time::sleep(Duration::from_millis(50)).await;
        directory
    }

    async fn network(&self, name: &str, internal: bool) {
        let wish = NetworkCreate {
            name: name.into(),
            internal,
            ..NetworkCreate::default()
        };
        self.control.create_network(wish).await.expect("pools have room");
    }

    async fn run(&self, networks: &[&str], ports: &[&str]) -> Result<NewSandbox, ControlError> {
        self.run_as("web", networks, ports).await
    }

    /// Hands our own process over.
    async fn run_as(
        &self,
        name: &str,
        networks: &[&str],
        ports: &[&str],
    ) -> Result<NewSandbox, ControlError> {
        let networks = networks.iter().map(|network| SandboxNetwork {
            network: (*network).to_owned(),
            ..SandboxNetwork::default()
        });
        let wish = SandboxCreate {
            name: name.into(),
            pid: Some(std::process::id()),
            netns: None,
            hostname: None,
            networks: networks.collect(),
            ports: requests(ports),
            auto_remove: true,
        };
        self.control.create_sandbox(wish, Caller { uid: 0 }).await
    }

    async fn publish(&self, ports: &[&str]) -> Result<Vec<String>, ControlError> {
        let published = self.control.publish("web", requests(ports)).await?;
        let texts = published.ports.iter().map(ToString::to_string);
        Ok(texts.chain(published.warnings).collect())
    }

    async fn unpublish(&self, ports: &[&str], close_connections: bool) -> Result<(), ControlError> {
        let wish = PortsUnpublish {
            ports: requests(ports),
            close_connections,
        };
        self.control.unpublish("web", wish).await
    }

    async fn connect(&self, network: &str) {
        let wish = NetworkConnect {
            container: "web".into(),
            endpoint_config: None,
        };
        self.control.connect(network, wish).await.expect("it connects");
    }

    async fn disconnect(&self, network: &str) {
        let wish = NetworkDisconnect {
            container: "web".into(),
            force: false,
        };
        self.control
            .disconnect(network, wish)
            .await
            .expect("it is connected");
    }

    /// What was done about ports since the last call.
    fn log(&self) -> Vec<String> {
        let is_of_ports = |line: &String| !["attach", "routes"].iter().any(|other| line.starts_with(other));
        self.devices.take_log().into_iter().filter(is_of_ports).collect()
    }

    fn sandbox(&self) -> Sandbox {
        let found = self.control.read(|state| state.resolve_sandbox("web").cloned());
        found.expect("it is there")
    }

    /// Stored ports, and those of them that are in service.
    fn ports(&self) -> (Vec<String>, Vec<String>) {
        let sandbox = self.sandbox();
        let stored = sandbox.ports.iter().map(ToString::to_string).collect();
        let served = self.control.read(|state| {
            let publications = state.publications_of(sandbox.id).iter();
            publications
                .filter(|publication| publication.at.is_some() && !publication.addresses.is_empty())
                .map(|publication| publication.mapping.to_string())
                .collect()
        });
        (stored, served)
    }
}

fn requests(texts: &[&str]) -> Vec<PortRequest> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn reaches(place: &str) -> bool {
    TcpStream::connect(place).is_ok()
}

#[tokio::test]
async fn ports_are_published_with_the_sandbox_and_end_with_it() {
    let daemon = Daemon::start().await;
    let ports = ["127.78.1.1:8080-8081:80-81", "127.78.1.1:5353:53/udp"];
    let created = daemon.run(&[], &ports).await.expect("all are free");
    assert!(created.warnings.is_empty());
    assert_eq!(
        daemon.log(),
        [
            "publish 1 of 2 to 172.17.0.2 routed 4",
            "with sockets",
            "publish 2 of 1 to 172.17.0.2 routed 4",
        ]
    );
    assert!(reaches("127.78.1.1:8080") && reaches("127.78.1.1:8081"));
    let (stored, served) = daemon.ports();
    assert_eq!(stored.len(), 2);
    assert_eq!(stored, served);
    daemon.control.delete_sandbox("web").await.expect("it is there");
    assert_eq!(
        daemon.log(),
        ["unpublish 1 End", "unpublish 2 End", "detach eth0 alive"],
        "before the endpoint goes"
    );
    assert!(!reaches("127.78.1.1:8080"));
    daemon.run(&[], &ports).await.expect("they are free again");
}

#[tokio::test]
async fn p4_a_sandbox_whose_port_is_taken_leaves_nothing() {
    let daemon = Daemon::start().await;
    let foreign = TcpListener::bind("127.78.2.1:8081").expect("nobody has it");
    let refused = daemon
        .run(&[], &["127.78.2.1:8080:80", "127.78.2.1:8081:81"])
        .await
        .expect_err("somebody has it")
        .to_string();
    assert!(
        refused.starts_with("driver failed programming external connectivity on endpoint web ("),
        "{refused}"
    );
    assert!(
        refused.ends_with("): failed to bind host port 127.78.2.1:8081/tcp: address already in use"),
        "{refused}"
    );
    assert_eq!(daemon.devices.take_log(), [""; 0], "no device was made");
    assert!(!reaches("127.78.2.1:8080"));
    drop(foreign);
    let wrong = daemon.run(&["nosuch"], &["127.78.2.1:8081:81"]).await;
    wrong.expect_err("there is no such network");
    daemon.devices.refuse("attach");
    let failed = daemon.run(&[], &["127.78.2.1:8081:81"]).await;
    failed.expect_err("no device");
    daemon.devices.refuse("publish 2");
    let failed = daemon
        .run(&[], &["127.78.2.1:8080:80", "127.78.2.1:8081:81"])
        .await;
    let failed = failed.expect_err("not served").to_string();
    assert!(
        failed.starts_with("driver failed programming external connectivity"),
        "{failed}"
    );
    assert!(!reaches("127.78.2.1:8080"));
    daemon.devices.refuse("");
    daemon.devices.take_log();
    let created = daemon
        .run(&[], &["127.78.2.1:8080:80", "127.78.2.1:8081:81"])
        .await;
    created.expect("nothing was left, not even its name or address");
    assert!(
        daemon.devices.take_log()[0].contains(" 172.17.0.2/16 "),
        "the lowest address"
    );
}

#[tokio::test]
async fn ports_come_and_go_while_the_sandbox_runs() {
    let daemon = Daemon::start().await;
    daemon.run(&[], &[]).await.expect("it is ours");
    daemon.log();
    let published = daemon.publish(&["127.78.3.1:8000-8004:80-84"]).await;
    assert_eq!(
        published.expect("all are free"),
        ["127.78.3.1:8000-8004->80-84/tcp"]
    );
    let clash = daemon
        .publish(&["127.78.3.1:9000:90", "127.78.3.1:8002:91"])
        .await
        .expect_err("it is taken")
        .to_string();
    assert!(
        clash.ends_with("Bind for 127.78.3.1:8002 failed: port is already allocated"),
        "{clash}"
    );
    assert!(!reaches("127.78.3.1:9000"), "all or none");
    daemon.log();

    let missing = daemon.unpublish(&["82", "90"], false).await.expect_err("no 90");
    assert_eq!(
        missing.to_string(),
        "no public port '90/tcp' published for web; published are 127.78.3.1:8000-8004->80-84/tcp"
    );
    let missing = daemon.unpublish(&["127.78.3.1:9000:82/udp"], false).await;
    assert!(
        missing.is_err_and(|error| error.to_string().contains("'127.78.3.1:9000:82/udp'")),
        "all of what was asked"
    );
    let ruled = daemon.unpublish(&["82,max-conns=5"], false).await;
    let ruled = ruled.expect_err("it has a rule").to_string();
    assert!(
        ruled.starts_with("82/tcp,max-conns=5: rules have no place here"),
        "{ruled}"
    );
    assert_eq!(daemon.log(), [""; 0], "all or none");
    daemon.unpublish(&["82"], true).await.expect("it is published");
    assert_eq!(
        daemon.log(),
        [
            "split 83..=84 of 1 to 2",
            "split 82..=82 of 1 to 3",
            "unpublish 3 End",
        ]
    );
    assert!(reaches("127.78.3.1:8001") && !reaches("127.78.3.1:8002") && reaches("127.78.3.1:8003"));
    let left = [
        "127.78.3.1:8000-8001->80-81/tcp",
        "127.78.3.1:8003-8004->83-84/tcp",
    ];
    assert_eq!(
        daemon.ports(),
        (left.map(Into::into).into(), left.map(Into::into).into())
    );
    let again = daemon.publish(&["127.78.3.1:8002:70/tcp"]).await;
    again.expect("it was given back");
    daemon.unpublish(&["1-65535"], false).await.expect("all of them");
    assert!(!reaches("127.78.3.1:8000") && !reaches("127.78.3.1:8002"));
    assert_eq!(daemon.ports(), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn g2_ports_move_with_the_default_route() {
    let daemon = Daemon::start().await;
    for (name, internal) in [("m", false), ("a", false), ("inside", true)] {
        daemon.network(name, internal).await;
    }
    daemon
        .run(&["m"], &["127.78.4.1:8080:80"])
        .await
        .expect("it is free");
    assert_eq!(
        daemon.log(),
        ["publish 1 of 1 to 172.18.0.2 routed 4", "with sockets"]
    );
    daemon.connect("inside").await;
    let log = daemon.log();
    assert!(
        log.len() == 1 && log[0].starts_with("reroute 1 beside "),
        "{log:?}"
    );
    daemon.connect("a").await;
    assert_eq!(
        daemon.log(),
        [
            "unpublish 1 End",
            "publish 1 of 1 to 172.19.0.2 routed 4",
            "with sockets"
        ]
    );
    assert!(reaches("127.78.4.1:8080"), "by the same listener");
    daemon.disconnect("a").await;
    assert_eq!(
        daemon.log(),
        [
            "unpublish 1 End",
            "publish 1 of 1 to 172.18.0.2 routed 4",
            "with sockets",
            "detach eth2 alive"
        ]
    );
    daemon.disconnect("m").await;
    assert_eq!(daemon.log(), ["unpublish 1 End", "detach eth0 alive"]);
    assert!(!reaches("127.78.4.1:8080"), "nobody would answer");
    let (stored, served) = daemon.ports();
    assert_eq!((stored.len(), served.len()), (1, 0));

    let foreign = TcpListener::bind("127.78.4.1:8080").expect("it was given back");
    daemon.connect("a").await;
    assert_eq!(daemon.ports().1.len(), 0, "somebody has it now");
    drop(foreign);
    daemon.connect("m").await;
    assert!(reaches("127.78.4.1:8080"));
    assert_eq!(daemon.ports().1.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_split_stays_published() {
    let daemon = Daemon::start().await;
    let wish = ["127.78.3.2:8000-8004:80-84"];
    daemon.run(&[], &wish).await.expect("it is free");
    let before = daemon.ports();
    for (refused, ports, left) in [
        ("split", &["82"][..], &["127.78.3.2:8000-8004->80-84/tcp"][..]),
        ("split", &["80"], &["127.78.3.2:8000-8004->80-84/tcp"]),
        (
            "split 82",
            &["82"],
            &[
                "127.78.3.2:8000-8002->80-82/tcp",
                "127.78.3.2:8003-8004->83-84/tcp",
            ],
        ),
    ] {
        assert_eq!(daemon.ports(), before);
        daemon.devices.refuse(refused);
        let failed = daemon
            .unpublish(ports, true)
            .await
            .expect_err("it fails")
            .to_string();
        assert!(failed.contains("is still published"), "{failed}");
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        assert_eq!(daemon.ports(), (left.clone(), left), "{refused} {ports:?}");
        assert!((8000..=8004).all(|port| reaches(&format!("127.78.3.2:{port}"))));
        let clash = daemon.publish(&["127.78.3.2:8002:90"]).await;
        assert!(
            clash.is_err_and(|error| error.to_string().ends_with("port is already allocated")),
            "they are held"
        );
        daemon.devices.refuse("");
    }
    let directory = daemon.kill().await;
    let daemon = Daemon::start_in(directory).await;
    assert_eq!(daemon.ports().0.len(), 2, "it is stored so");
}

#[tokio::test]
async fn what_is_answered_is_what_is_bound() {
    let daemon = Daemon::start().await;
    daemon.run(&[], &[]).await.expect("it is ours");
    let published = daemon.control.publish("web", requests(&["80"])).await;
    let mapping = published.expect("there are free ones").ports.remove(0);
    let has_v6 = TcpListener::bind("[::1]:0").is_ok();
    let expected = (!has_v6).then_some([0; 4].into());
    assert_eq!(mapping.host_ip, expected);
    assert_eq!(daemon.sandbox().ports[0].host_ip, None, "as it was asked");
}

#[tokio::test]
async fn mappings_hear_of_networks_that_come_and_go() {
    let daemon = Daemon::start().await;
    daemon
        .run(&[], &["127.78.6.1:8080:80"])
        .await
        .expect("it is free");
    daemon.log();
    daemon.network("n", false).await;
    let log = daemon.log();
    assert!(
        log.len() == 1 && log[0].starts_with("reroute 1 beside "),
        "{log:?}"
    );
    assert!(
        log[0].contains("172.17.0.0/16") && log[0].contains("172.18.0.0/16"),
        "{log:?}"
    );
    daemon.control.remove_network("n").await.expect("nobody is on it");
    assert_eq!(daemon.log(), ["reroute 1 beside 172.17.0.0/16"]);
}
