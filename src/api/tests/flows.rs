//! The way out: flows, what a network may reach outside, and who resolves names.

use super::*;

#[tokio::test]
async fn flows_can_be_asked_for_by_network_and_sandbox() {
    let daemon = Daemon::start().await;
    let id = daemon.network("n1", "10.1.0.0/24").await;
    let sandbox = daemon.sandbox("web", &["n1"]).await.expect("it is ours");
    for query in [
        String::new(),
        "?network=n1".into(),
        format!("?network={}&sandbox={}", &id[..8], &sandbox[..8]),
        "?sandbox=web".into(),
    ] {
        let answer = daemon
            .call("GET", &format!("/vswitch/v1/flows{query}"), &Value::Null)
            .await;
        assert_eq!(answer, (200, json!([])), "{query}");
    }
    for (query, refused) in [
        ("?network=nosuch", (404, "network nosuch not found")),
        ("?network=host", (400, "network host has no switch")),
        ("?sandbox=nosuch", (404, "No such container: nosuch")),
        ("?network=n1&sandbox=db", (404, "No such container: db")),
    ] {
        let answer = daemon
            .call("GET", &format!("/vswitch/v1/flows{query}"), &Value::Null)
            .await;
        assert_eq!(answer, (refused.0, json!({"message": refused.1})), "{query}");
    }
    daemon.client.flows().await.expect("of everything");
    daemon.client.network_flows("n1").await.expect("of a network");
    daemon.client.sandbox_flows("web").await.expect("of a sandbox");
}

#[tokio::test]
async fn r_lim_6_options_of_the_way_out_are_checked_kept_and_shown_as_given() {
    let daemon = Daemon::start().await;
    let options = json!({"allow_metadata": "1", "outbound_addr": "192.0.2.1", "outbound_denied": "drop"});
    let wish = json!({"Name": "out", "Options": options});
    let (status, created) = daemon.call("POST", "/networks/create", &wish).await;
    assert_eq!((status, &created["Warning"]), (201, &json!("")));
    let directory = daemon.kill().await;
    let daemon = Daemon::start_in(directory).await;
    let (_, found) = daemon.call("GET", "/networks/out", &Value::Null).await;
    assert_eq!(found["Options"], options, "also by the next daemon");

    let pointless = json!({"Name": "in", "Internal": true, "Options": {"allow_host_loopback": "true"}});
    let (status, created) = daemon.call("POST", "/networks/create", &pointless).await;
    let warning = "ignored, because an internal network has no way out: allow_host_loopback";
    assert_eq!((status, &created["Warning"]), (201, &json!(warning)));

    let wrong = json!({"Name": "no", "Options": {"outbound_addr": "localhost"}});
    let message = "failed to parse outbound_addr value: localhost (must be a unicast IPv4 address of this host that \
                   is not loopback)";
    assert_eq!(
        daemon.call("POST", "/networks/create", &wrong).await,
        (400, json!({"message": message}))
    );
}

#[tokio::test]
async fn r_dns_1_the_first_network_with_a_way_out_offers_the_resolvers() {
    let daemon = Daemon::start().await;
    for body in [
        json!({"Name": "in", "Internal": true, "IPAM": {"Config": [{"Subnet": "10.1.0.0/24"}]}}),
        json!({"Name": "out", "EnableIPv6": true,
               "IPAM": {"Config": [{"Subnet": "fd12:7::/64"}, {"Subnet": "10.2.0.0/24", "Gateway": "10.2.0.9"}]}}),
    ] {
        let (status, answer) = daemon.call("POST", "/networks/create", &body).await;
        assert_eq!(status, 201, "{answer}");
    }
    for (networks, expected) in [
        (&["in", "out", "bridge"][..], &["10.2.0.9", "fd12:7::1"][..]),
        (&["bridge", "out"], &["172.17.0.1"]),
        (&["in"], &[]),
        (&["none"], &[]),
    ] {
        let created = daemon.client.create_sandbox(&ourselves("web", networks)).await;
        let servers: Vec<String> = created
            .expect("it is ours")
            .name_servers
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(servers, expected, "{networks:?}");
        daemon.client.delete_sandbox("web").await.expect("it is there");
    }
}
