//! Sandboxes and endpoints.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use super::*;
use crate::{control::ShutdownMode, io::netns::Liveness};

#[tokio::test]
async fn a_sandbox_gets_a_device_for_each_network() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    let mut wish = ourselves("web", &["bridge", "n1"]);
    wish.networks[1].ipv4_address = Some("10.1.0.77".into());
    wish.networks[1].mac_address = Some("02:00:00:00:00:07".into());
    let created = daemon.client.create_sandbox(&wish).await.expect("it is ours");
    assert_eq!(
        daemon.devices.take_log(),
        [
            "attach web/eth0 02:42:ac:11:00:02 172.17.0.2/16 mtu 1500 via ",
            "attach web/eth1 02:00:00:00:00:07 10.1.0.77/24 mtu 1500 via ",
            "routes eth0 172.17.0.1",
        ]
    );
    assert_eq!(created.endpoints[1].ipv4_address, "10.1.0.77/24");

    let (_, found) = daemon.call("GET", "/containers/web/json", &Value::Null).await;
    assert_eq!(
        (&found["Name"], &found["State"]["Pid"]),
        (&json!("/web"), &json!(std::process::id()))
    );
    let ourself = Liveness::of(std::process::id()).expect("we run");
    assert_eq!(found["State"]["StartTicks"], json!(ourself.started()));
    let settings = &found["NetworkSettings"];
    assert_eq!(
        (&settings["IPAddress"], &settings["Gateway"]),
        (&json!("172.17.0.2"), &json!("172.17.0.1"))
    );
    let short = &created.id[..12];
    assert_eq!(
        settings["Networks"]["n1"],
        json!({
            "IPAMConfig": {"IPv4Address": "10.1.0.77"}, "Links": null, "Aliases": null,
            "MacAddress": "02:00:00:00:00:07", "DriverOpts": null,
            "NetworkID": settings["Networks"]["n1"]["NetworkID"], "EndpointID": created.endpoints[1].endpoint_id,
            "Gateway": "10.1.0.1", "IPAddress": "10.1.0.77", "IPPrefixLen": 24,
            "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DNSNames": ["web", short]
        })
    );
    let listed = daemon
        .client
        .containers(Listed::Running, &[("network", "n1")])
        .await
        .expect("a list");
    assert_eq!((listed.len(), listed[0].names[0].as_str()), (1, "/web"));
    assert_eq!(listed[0].pid, std::process::id());

    daemon.client.delete_sandbox(short).await.expect("it is there");
    assert_eq!(
        daemon.devices.take_log(),
        ["detach eth0 alive", "detach eth1 alive"]
    );
    assert_eq!(
        refusal(daemon.client.container("web").await),
        (404, "No such container: web".into())
    );
}

#[tokio::test]
async fn connecting_moves_the_default_route_and_disconnecting_moves_it_back() {
    let daemon = Daemon::start().await;
    daemon.network("m", "10.1.0.0/24").await;
    daemon.network("a", "10.2.0.0/24").await;
    daemon.network("z", "10.3.0.0/24").await;
    daemon.sandbox("web", &["m"]).await.expect("it is ours");
    daemon.devices.take_log();
    daemon
        .client
        .connect_network("a", &wish("web"))
        .await
        .expect("it connects");
    assert_eq!(
        daemon.devices.take_log(),
        [
            "attach web/eth1 02:42:0a:02:00:02 10.2.0.2/24 mtu 1500 via 10.2.0.1",
            "routes eth1 10.2.0.1"
        ]
    );
    daemon
        .client
        .connect_network("z", &wish("web"))
        .await
        .expect("it connects");
    assert_eq!(
        daemon.devices.take_log(),
        ["attach web/eth2 02:42:0a:03:00:02 10.3.0.2/24 mtu 1500 via "]
    );
    daemon
        .client
        .disconnect_network("a", &disconnect("web"))
        .await
        .expect("it is connected");
    assert_eq!(
        daemon.devices.take_log(),
        ["detach eth1 alive", "routes eth0 10.1.0.1"]
    );
    daemon
        .client
        .connect_network("a", &with_ip("web", "10.2.0.2"))
        .await
        .expect("the address is free again");
    assert!(
        daemon.devices.take_log()[0].starts_with("attach web/eth1 "),
        "the lowest free name"
    );
    daemon
        .client
        .disconnect_network("z", &disconnect("web"))
        .await
        .expect("it is connected");
    assert_eq!(
        daemon.devices.take_log(),
        ["detach eth2 alive"],
        "the routes stay as they are"
    );
}

#[tokio::test]
async fn bad_connects_get_dockers_words_and_change_nothing() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/29").await;
    daemon
        .client
        .create_network(&create("auto"))
        .await
        .expect("pools have room");
    let id = daemon.sandbox("web", &["n1"]).await.expect("it is ours");
    daemon.sandbox("other", &["none"]).await.expect("it is ours");
    daemon.devices.take_log();
    let client = &daemon.client;
    let cases = [
        (
            client.connect_network("nosuch", &wish("web")).await,
            404,
            "network nosuch not found",
        ),
        (
            client.connect_network("n1", &wish("nosuch")).await,
            404,
            "No such container: nosuch",
        ),
        (
            client.connect_network("n1", &wish("web")).await,
            403,
            "endpoint with name web already exists in network n1",
        ),
        (
            client.connect_network("n1", &with_ip("other", "10.1.0.2")).await,
            403,
            "Address already in use",
        ),
        (
            client.connect_network("n1", &with_ip("other", "10.1.0.1")).await,
            403,
            "Address already in use",
        ),
        (
            client.connect_network("n1", &with_ip("other", "10.99.0.1")).await,
            400,
            "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address 10.99.0.1",
        ),
        (
            client
                .connect_network("auto", &with_ip("other", "172.18.0.9"))
                .await,
            400,
            "invalid endpoint settings:\nuser specified IP address is supported only when connecting to networks with \
             user configured subnets",
        ),
        (
            client
                .connect_network("bridge", &with_ip("other", "172.17.0.9"))
                .await,
            400,
            "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
        ),
        (
            client.connect_network("host", &wish("other")).await,
            400,
            "cannot connect container to host network - container must be created in host network mode",
        ),
        (
            client.connect_network("none", &wish("other")).await,
            400,
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ),
        (
            client.disconnect_network("auto", &disconnect("web")).await,
            500,
            &format!("container {id} is not connected to network auto"),
        ),
        (
            client
                .disconnect_network(
                    "n1",
                    &NetworkDisconnect {
                        container: "gone".into(),
                        force: true,
                    },
                )
                .await,
            404,
            "endpoint gone not found",
        ),
    ];
    for (outcome, status, message) in cases {
        assert_eq!(refusal(outcome), (status, message.to_owned()));
    }
    assert_eq!(daemon.devices.take_log(), [""; 0]);
    for number in 0..4 {
        daemon
            .sandbox(&format!("full{number}"), &["n1"])
            .await
            .expect("six hosts less gateway and web");
    }
    let (status, message) = refusal(daemon.sandbox("full4", &["n1"]).await);
    let id = daemon.client.network("n1").await.expect("it is there").id;
    assert_eq!(
        (status, message),
        (
            500,
            format!("no available IPv4 addresses on this network's address pools: n1 ({id})")
        )
    );
}

#[tokio::test]
async fn bad_sandboxes_are_refused() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    let id = daemon.sandbox("web", &["n1"]).await.expect("it is ours");
    let conflict = format!(
        "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    );
    assert_eq!(refusal(daemon.sandbox("web", &[]).await), (409, conflict));
    let (status, message) = refusal(daemon.sandbox("-x", &[]).await);
    assert_eq!(
        (status, message.as_str()),
        (
            400,
            "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )
    );
    assert_eq!(
        refusal(daemon.sandbox("ab", &["nosuch"]).await),
        (404, "network nosuch not found".into())
    );
    assert_eq!(refusal(daemon.sandbox("ab", &["n1", "none"]).await).0, 400);
    assert_eq!(
        refusal(daemon.sandbox("ab", &["n1", "n1"]).await),
        (403, "endpoint with name ab already exists in network n1".into())
    );
    let refused = |change: fn(&mut SandboxCreate)| {
        let mut wish = ourselves("ab", &["n1"]);
        change(&mut wish);
        let client = daemon.client.clone();
        async move { refusal(client.create_sandbox(&wish).await) }
    };
    let taken = (
        403,
        "MAC address 02:42:0a:01:00:02 is already in use on network n1".to_owned(),
    );
    assert_eq!(
        refused(|wish| wish.networks[0].mac_address = Some("02:42:0a:01:00:02".into())).await,
        taken
    );
    assert_eq!(
        refused(|wish| wish.networks[0].interface = Some("lo".into()))
            .await
            .0,
        400
    );
    assert_eq!(refused(|wish| wish.pid = Some(u32::MAX)).await.0, 400);
    assert_eq!(refused(|wish| wish.netns = Some("/x".into())).await.0, 400);
    // Everything that was reserved on the way is free again.
    let created = daemon
        .client
        .create_sandbox(&ourselves("ab", &["n1"]))
        .await
        .expect("all is well");
    assert_eq!(created.endpoints[0].ipv4_address, "10.1.0.3/24");
}

#[tokio::test]
async fn a_failing_device_rolls_everything_back() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    daemon.network("n2", "10.2.0.0/24").await;
    daemon.devices.refuse("attach web/eth1");
    let (status, message) = refusal(daemon.sandbox("web", &["n1", "n2"]).await);
    assert_eq!(
        (status, message.as_str()),
        (500, "failed to set up container networking: test: refused")
    );
    let log = daemon.devices.take_log();
    assert!(log[1].starts_with("! attach web/eth1"), "{log:?}");
    assert_eq!(log[2..], ["detach eth0 alive"]);
    assert_eq!(refusal(daemon.client.container("web").await).0, 404);
    daemon.devices.refuse("");
    let created = daemon
        .client
        .create_sandbox(&ourselves("web", &["n1", "n2"]))
        .await
        .expect("all is well");
    let addresses: Vec<&str> = created
        .endpoints
        .iter()
        .map(|endpoint| endpoint.ipv4_address.as_str())
        .collect();
    assert_eq!(
        addresses,
        ["10.1.0.2/24", "10.2.0.2/24"],
        "the addresses were given back"
    );

    daemon.network("a", "10.3.0.0/24").await;
    daemon.devices.take_log();
    daemon.devices.refuse("routes eth2");
    refusal(daemon.client.connect_network("a", &wish("web")).await);
    let log = daemon.devices.take_log();
    assert_eq!(
        log[1..],
        [
            "! routes eth2 10.3.0.1",
            "detach eth2 alive",
            "routes eth0 10.1.0.1"
        ]
    );
    assert!(
        daemon
            .client
            .network("a")
            .await
            .expect("it is there")
            .containers
            .is_empty()
    );

    let daemon = Daemon::start_in(daemon.kill().await).await;
    let stored = daemon
        .client
        .container("web")
        .await
        .expect("it was acknowledged")
        .network_settings
        .networks;
    assert_eq!(
        stored.keys().collect::<Vec<_>>(),
        ["n1", "n2"],
        "what was rolled back is not stored either"
    );
}

#[tokio::test]
async fn a_refused_sandbox_keeps_its_own_default_routes() {
    let daemon = Daemon::start().await;
    daemon.network("four", "10.1.0.0/24").await;
    let body = json!({"Name": "six", "EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "fd00:1::/64"}]}});
    let (status, answer) = daemon.call("POST", "/networks/create", &body).await;
    assert_eq!(status, 201, "{answer}");
    for (networks, refused) in [
        (["four", "six"], "attach web/eth1"),
        (["six", "four"], "attach web/eth1"),
        (["bridge", "four"], "attach web/eth1"),
        (["four", "bridge"], "attach web/eth0"),
    ] {
        daemon.devices.refuse(refused);
        refusal(daemon.sandbox("web", &networks).await);
        let log = daemon.devices.take_log();
        let routed = log.iter().any(|line| {
            line.starts_with("routes") || (line.starts_with("attach") && !line.ends_with("via "))
        });
        assert!(!routed, "{log:?}");
    }
    daemon.devices.refuse("");
    daemon
        .sandbox("web", &["four", "six"])
        .await
        .expect("all is well");
    let log = daemon.devices.take_log();
    assert_eq!(log[2..], ["routes eth0 10.1.0.1,eth1 fd00:1::1"], "{log:?}");
}

#[tokio::test]
async fn teardown_goes_on_past_errors() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    daemon
        .sandbox("web", &["bridge", "n1"])
        .await
        .expect("it is ours");
    daemon.devices.refuse("detach eth0");
    let (status, message) = refusal(daemon.client.delete_sandbox("web").await);
    assert_eq!(status, 500);
    assert_eq!(
        message,
        "removed, but not everything could be cleaned up: eth0: test: refused"
    );
    assert!(
        daemon
            .devices
            .take_log()
            .contains(&"detach eth1 alive".to_owned())
    );
    assert_eq!(refusal(daemon.client.container("web").await).0, 404);
    daemon
        .client
        .remove_network("n1")
        .await
        .expect("nothing is on it");
}

#[tokio::test]
async fn an_ended_container_is_noticed_and_its_address_free_again() {
    let daemon = Daemon::start().await;
    let mut process = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep starts");
    for (name, auto_remove) in [("gone", true), ("kept", false)] {
        let wish = SandboxCreate {
            pid: Some(process.id()),
            auto_remove,
            ..ourselves(name, &["bridge"])
        };
        daemon.client.create_sandbox(&wish).await.expect("it is ours");
    }
    let mut events = daemon
        .client
        .events(&[("event", "die"), ("event", "destroy")])
        .await
        .expect("it streams");
    daemon.devices.take_log();
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
    for _ in 0..3 {
        events
            .next()
            .await
            .expect("the daemon lives")
            .expect("it goes on");
    }
    // A command waits for those before it.
    refusal(daemon.client.delete_sandbox("nosuch").await);
    assert_eq!(
        daemon.devices.take_log(),
        ["detach eth0 gone", "detach eth0 gone"]
    );
    assert_eq!(refusal(daemon.client.container("gone").await).0, 404);
    let kept = daemon.client.container("kept").await.expect("it stays");
    assert_eq!(
        (
            kept.state.status.as_str(),
            kept.state.pid,
            kept.network_settings.networks.len()
        ),
        ("exited", 0, 0)
    );
    assert!(
        daemon
            .client
            .containers(Listed::Running, &[])
            .await
            .expect("a list")
            .is_empty()
    );
    assert_eq!(
        daemon
            .client
            .containers(Listed::All, &[])
            .await
            .expect("a list")
            .len(),
        1
    );
    let refused = refusal(daemon.client.connect_network("bridge", &wish("kept")).await);
    assert_eq!(refused, (409, format!("container {} is not running", kept.id)));
    let created = daemon
        .client
        .create_sandbox(&ourselves("next", &[]))
        .await
        .expect("it is ours");
    assert_eq!(created.endpoints[0].ipv4_address, "172.17.0.2/16");
    daemon.client.delete_sandbox("kept").await.expect("it is there");
}

#[tokio::test]
async fn a_namespace_path_that_goes_is_noticed() {
    let daemon = Daemon::start().await;
    let mut process = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep starts");
    let path = format!("/proc/{}/ns/net", process.id());
    let wish = SandboxCreate {
        pid: None,
        netns: Some(path.clone()),
        ..ourselves("by-path", &[])
    };
    daemon
        .client
        .create_sandbox(&wish)
        .await
        .expect("it is a namespace");
    let found = daemon.client.container("by-path").await.expect("it is there");
    assert_eq!((found.state.pid, found.network_settings.sandbox_key), (0, path));
    let mut events = daemon
        .client
        .events(&[("event", "destroy")])
        .await
        .expect("it streams");
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
    events
        .next()
        .await
        .expect("the daemon lives")
        .expect("it goes on");
}

#[tokio::test]
async fn a_killed_daemons_endpoints_are_taken_over_and_the_dead_forgotten() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    let mut process = Command::new("sleep")
        .arg("600")
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep starts");
    let dead = SandboxCreate {
        pid: Some(process.id()),
        ..ourselves("dead", &["n1"])
    };
    daemon.client.create_sandbox(&dead).await.expect("it is ours");
    daemon
        .sandbox("web", &["n1", "bridge"])
        .await
        .expect("it is ours");
    let before = daemon.client.container("web").await.expect("it is there");
    let attached = daemon.devices.take_log()[1..].to_vec();
    let directory = daemon.kill().await;
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");

    let daemon = Daemon::start_in(directory).await;
    let log = daemon.devices.take_log();
    for line in &attached {
        assert!(log.contains(line), "{line} is not in {log:?}");
    }
    assert_eq!(daemon.client.container("web").await.expect("it is there"), before);
    assert_eq!(refusal(daemon.client.container("dead").await).0, 404);
    let created = daemon
        .client
        .create_sandbox(&ourselves("next", &["n1"]))
        .await
        .expect("it is ours");
    assert_eq!(
        created.endpoints[0].ipv4_address, "10.1.0.2/24",
        "what the dead one had, not what web has"
    );
}

#[tokio::test]
async fn many_sandboxes_are_taken_over_a_few_at_once() {
    let daemon = Daemon::start().await;
    for number in 0..20 {
        let created = daemon.sandbox(&format!("web{number}"), &["bridge"]).await;
        created.expect("it is ours");
    }
    assert_eq!(daemon.devices.most_at_once(), 1);
    let mut attached = daemon.devices.take_log();
    let daemon = Daemon::start_in(daemon.kill().await).await;
    let mut again = daemon.devices.take_log();
    attached.sort();
    again.sort();
    assert_eq!(again, attached);
    assert_eq!(daemon.devices.most_at_once(), 4);
}

#[tokio::test]
async fn a_sandbox_of_another_boot_is_forgotten_though_its_process_seems_to_live() {
    let daemon = Daemon::start().await;
    daemon.sandbox("web", &["bridge"]).await.expect("it is ours");
    let directory = daemon.kill().await;
    fixtures::reboot(&directory.path().join("state")).await;

    let daemon = Daemon::start_in(directory).await;
    assert_eq!(daemon.devices.take_log(), ["detach eth0 gone"]);
    assert_eq!(refusal(daemon.client.container("web").await).0, 404);
    let next = daemon.client.create_sandbox(&ourselves("next", &[])).await;
    assert_eq!(
        next.expect("it is ours").endpoints[0].ipv4_address,
        "172.17.0.2/16"
    );
}

#[tokio::test]
async fn a_clean_end_removes_devices_and_keeps_networks() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    daemon.sandbox("web", &["n1"]).await.expect("it is ours");
    daemon.devices.take_log();
    daemon.control.shutdown(ShutdownMode::CleanUp).await;
    assert_eq!(daemon.devices.take_log(), ["detach eth0 alive"]);
    assert_eq!(
        refusal(daemon.client.create_network(&create("late")).await),
        (503, "vswitchd is shutting down".into())
    );
    let daemon = Daemon::start_in(daemon.kill().await).await;
    assert!(
        daemon
            .client
            .containers(Listed::All, &[])
            .await
            .expect("a list")
            .is_empty()
    );
    daemon.client.network("n1").await.expect("networks stay");
}

#[tokio::test]
async fn a_clean_end_that_is_cut_short_leaves_everything_to_the_next_daemon() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    daemon
        .sandbox("web", &["bridge", "n1"])
        .await
        .expect("it is ours");
    daemon.devices.take_log();
    daemon.devices.stall_removals();
    let end = daemon.control.shutdown(ShutdownMode::CleanUp);
    tokio::time::timeout(Duration::from_millis(50), end)
        .await
        .expect_err("no device goes away");
    assert_eq!(daemon.devices.take_log().len(), 2, "both were begun");

    let daemon = Daemon::start_in(daemon.kill().await).await;
    let log = daemon.devices.take_log();
    assert!(
        log.len() == 2 && log.iter().all(|line| line.starts_with("attach ")),
        "{log:?}"
    );
    let networks = daemon
        .client
        .container("web")
        .await
        .expect("it is still there")
        .network_settings
        .networks;
    assert_eq!(networks.len(), 2);
}

#[tokio::test]
async fn an_ipv6_only_network_gives_random_macs() {
    let daemon = Daemon::start().await;
    let body = json!({"Name": "six", "EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [{"Subnet": "fd00:1::/64"}]}});
    assert_eq!(daemon.call("POST", "/networks/create", &body).await.0, 201);
    let created = daemon
        .client
        .create_sandbox(&ourselves("web", &["six"]))
        .await
        .expect("it is ours");
    let endpoint = &created.endpoints[0];
    assert_eq!(
        (endpoint.ipv4_address.as_str(), endpoint.ipv6_address.as_str()),
        ("", "fd00:1::2/64")
    );
    assert!(
        endpoint.mac_address.starts_with("02:42:"),
        "{}",
        endpoint.mac_address
    );
    assert!(daemon.devices.take_log()[0].ends_with("via fd00:1::1"));
}
