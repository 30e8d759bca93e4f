//! `GET /vswitch/v1/flows`, and what a network may reach outside.

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
