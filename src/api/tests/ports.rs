//! Published ports, in our own shape and in Docker's.

use super::*;
use crate::{
    api::types::{PortsPublish, PortsUnpublish},
    model::PortRequest,
};

fn requests(texts: &[&str]) -> Vec<PortRequest> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

fn publish(texts: &[&str]) -> PortsPublish {
    PortsPublish {
        ports: requests(texts),
    }
}

fn unpublish(texts: &[&str]) -> PortsUnpublish {
    PortsUnpublish {
        ports: requests(texts),
        close_connections: false,
    }
}

#[tokio::test]
async fn ports_are_published_listed_and_taken_back() {
    let daemon = Daemon::start().await;
    let mut wish = ourselves("web", &[]);
    wish.ports = requests(&["127.79.1.1:8080-8081:80-81", "127.79.1.1:5353:53/udp"]);
    let created = daemon.client.create_sandbox(&wish).await.expect("they are free");
    assert_eq!(created.warnings, [""; 0]);
    let more = publish(&["127.79.1.1:9000:90,allow=10.0.0.0/8,max-conns=7"]);
    let published = daemon
        .client
        .publish_ports("web", &more)
        .await
        .expect("it is free");
    assert_eq!(published.ports[0].to_string(), "127.79.1.1:9000->90/tcp");
    let rows = daemon.client.ports(Some("web")).await.expect("a list");
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {} {}", row.sandbox, row.network, row.mapping))
        .collect();
    assert_eq!(
        lines,
        [
            "web bridge 127.79.1.1:5353->53/udp",
            "web bridge 127.79.1.1:8080-8081->80-81/tcp",
            "web bridge 127.79.1.1:9000->90/tcp"
        ]
    );
    assert_eq!(rows[2].mapping.rules.max_connections, Some(7));
    assert_eq!(daemon.client.ports(None).await.expect("a list"), rows);
    let nosuch = daemon.client.ports(Some("nosuch")).await;
    assert_eq!(refusal(nosuch), (404, "No such container: nosuch".into()));

    let again = refusal(daemon.client.publish_ports("web", &more).await);
    assert_eq!(again.0, 500);
    assert!(
        again
            .1
            .ends_with("): Bind for 127.79.1.1:9000 failed: port is already allocated"),
        "{again:?}"
    );
    let wrong = json!({"Ports": [{"ContainerPorts": {"First": 0, "Last": 0}}]});
    let (status, answer) = daemon
        .call("POST", "/vswitch/v1/sandboxes/web/ports", &wrong)
        .await;
    assert_eq!(
        (status, &answer["message"]),
        (400, &json!("invalid containerPort: 0"))
    );
    let sctp = json!({"Ports": [{"ContainerPorts": {"First": 1, "Last": 1}, "Protocol": "sctp"}]});
    let (status, _) = daemon
        .call("POST", "/vswitch/v1/sandboxes/web/ports", &sctp)
        .await;
    assert_eq!(status, 400);
    for (sandbox, text) in [
        (
            "web",
            "no public port '82/tcp' published for web; published are 127.79.1.1:8080-8081->80-81/tcp, \
             127.79.1.1:5353->53/udp, 127.79.1.1:9000->90/tcp",
        ),
        ("nosuch", "No such container: nosuch"),
    ] {
        let missing = daemon.client.unpublish_ports(sandbox, &unpublish(&["82"])).await;
        assert_eq!(refusal(missing), (404, text.into()));
    }
    daemon
        .client
        .unpublish_ports("web", &unpublish(&["81", "9000:90"]))
        .await
        .expect("they are published");
    let rows = daemon.client.ports(None).await.expect("a list");
    let left: Vec<String> = rows.iter().map(|row| row.mapping.to_string()).collect();
    assert_eq!(left, ["127.79.1.1:5353->53/udp", "127.79.1.1:8080->80/tcp"]);
}

#[tokio::test]
async fn p17_docker_sees_ports_in_its_own_shapes() {
    let daemon = Daemon::start().await;
    let mut wish = ourselves("web", &[]);
    wish.ports = requests(&["80", "127.79.2.1:8081-8082:81-82", "127.79.2.1:5353:53/udp"]);
    daemon.client.create_sandbox(&wish).await.expect("they are free");
    let rows = daemon.client.ports(None).await.expect("a list");
    let chosen = rows.iter().find(|row| row.mapping.container_port == 80);
    let chosen = chosen.expect("it is published").mapping.host_port.to_string();
    let (_, found) = daemon.call("GET", "/containers/web/json", &Value::Null).await;
    let place = |ip: &str, port: &str| json!({"HostIp": ip, "HostPort": port});
    let bound = &found["NetworkSettings"]["Ports"];
    assert_eq!(bound["81/tcp"], json!([place("127.79.2.1", "8081")]));
    assert_eq!(bound["53/udp"], json!([place("127.79.2.1", "5353")]));
    let both = json!([place("0.0.0.0", &chosen), place("::", &chosen)]);
    let v4 = json!([place("0.0.0.0", &chosen)]);
    assert!([&both, &v4].contains(&&bound["80/tcp"]), "{bound}");
    let wished = &found["HostConfig"]["PortBindings"];
    assert_eq!(wished["80/tcp"], json!([place("", &chosen)]));
    assert_eq!(wished["82/tcp"], json!([place("127.79.2.1", "8082")]));
    assert_eq!(
        found["Config"]["ExposedPorts"],
        json!({"53/udp": {}, "80/tcp": {}, "81/tcp": {}, "82/tcp": {}})
    );
    let filters = [("publish", "8082")];
    let listed = daemon
        .client
        .containers(Listed::Running, &filters)
        .await
        .expect("a list");
    let in_list = serde_json::to_value(&listed[0].ports).expect("it is JSON");
    let udp = json!({"IP": "127.79.2.1", "PrivatePort": 53, "PublicPort": 5353, "Type": "udp"});
    assert!(in_list.as_array().expect("a list").contains(&udp), "{in_list}");

    daemon
        .client
        .disconnect_network("bridge", &disconnect("web"))
        .await
        .expect("it is connected");
    let (_, found) = daemon.call("GET", "/containers/web/json", &Value::Null).await;
    assert_eq!(
        found["NetworkSettings"]["Ports"],
        json!({}),
        "nothing leads there"
    );
    assert_eq!(
        found["HostConfig"]["PortBindings"]["82/tcp"],
        json!([place("127.79.2.1", "8082")]),
        "but it is asked for"
    );
    let rows = daemon.client.ports(None).await.expect("a list");
    assert!(rows.iter().all(|row| row.network.is_empty()), "{rows:?}");
}

#[tokio::test]
async fn p16_the_docker_client_prints_ports() {
    let Some(program) = docker() else { return };
    let daemon = Daemon::start().await;
    let mut wish = ourselves("web", &[]);
    wish.ports = requests(&["127.79.3.1:8081-8082:81-82", "127.79.3.1:5353:53/udp"]);
    daemon.client.create_sandbox(&wish).await.expect("they are free");
    let run = |args: &'static str| run_docker(program.clone(), &daemon.socket, args);
    let (_, out, error) = run("port web").await;
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "53/udp -> 127.79.3.1:5353",
            "81/tcp -> 127.79.3.1:8081",
            "82/tcp -> 127.79.3.1:8082"
        ],
        "{error}"
    );
    let (_, out, _) = run("port web 53/udp").await;
    assert_eq!(out, "127.79.3.1:5353\n");
    let (success, _, error) = run("port web 99").await;
    assert!(!success && error.contains("published for web"), "{error}");
    let (_, out, _) = run("ps --format {{.Ports}} --filter expose=82").await;
    assert_eq!(
        out,
        "127.79.3.1:5353->53/udp, 127.79.3.1:8081->81/tcp, 127.79.3.1:8082->82/tcp\n"
    );
    let (_, out, _) = run("ps -q --filter publish=9999").await;
    assert_eq!(out, "");
}
