//! Networks as Docker's clients see them.

use super::*;

#[tokio::test]
async fn the_predefined_networks_look_like_dockers() {
    let daemon = Daemon::start().await;
    let (_, bridge) = daemon.call("GET", "/networks/bridge", &Value::Null).await;
    let expected = json!({
        "Name": "bridge", "Id": bridge["Id"], "Created": bridge["Created"], "Scope": "local", "Driver": "bridge",
        "EnableIPv4": true, "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": null,
                 "Config": [{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}]},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
        "Containers": {},
        "Options": {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": "docker0",
            "com.docker.network.driver.mtu": "1500"
        },
        "Labels": {}
    });
    assert_eq!(bridge, expected);
    for (name, driver) in [("host", "host"), ("none", "null")] {
        let (_, network) = daemon
            .call("GET", &format!("/networks/{name}"), &Value::Null)
            .await;
        assert_eq!(
            (&network["Driver"], &network["IPAM"]["Config"]),
            (&json!(driver), &json!([]))
        );
        let refused = refusal(daemon.client.remove_network(name).await);
        assert_eq!(
            refused,
            (
                403,
                format!("{name} is a pre-defined network and cannot be removed")
            )
        );
        let refused = refusal(daemon.client.create_network(&create(name)).await);
        assert_eq!(
            refused,
            (
                403,
                format!("operation is not permitted on predefined {name} network ")
            )
        );
    }
}

#[tokio::test]
async fn a_network_shows_what_was_asked_for() {
    let daemon = Daemon::start().await;
    let config = json!([
        {"Subnet": "fd12:7::/64"},
        {"Subnet": "10.7.0.0/16", "IPRange": "10.7.4.0/24", "Gateway": "10.7.4.254", "AuxiliaryAddresses": {"dns": "10.7.0.5"}}
    ]);
    let wish = json!({
        "Name": "foo", "Driver": "bridge", "Scope": "", "EnableIPv6": true, "Internal": true, "Attachable": true,
        "Ingress": false, "ConfigOnly": false, "ConfigFrom": null, "CheckDuplicate": true,
        "IPAM": {"Driver": "default", "Options": {}, "Config": config},
        "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {"a": "b", "solo": ""}
    });
    let (status, created) = daemon.call("POST", "/v1.43/networks/create", &wish).await;
    assert_eq!((status, &created["Warning"]), (201, &json!("")));
    let (_, found) = daemon.call("GET", "/networks/foo", &Value::Null).await;
    assert_eq!(found["Id"], created["Id"]);
    // IPv4 first, and no gateway where none was asked for.
    assert_eq!(found["IPAM"]["Config"], json!([config[1], config[0]]));
    assert_eq!(
        (&found["IPAM"]["Options"], &found["Options"], &found["Labels"]),
        (&json!({}), &wish["Options"], &wish["Labels"])
    );
    assert_eq!(
        (&found["Internal"], &found["Attachable"], &found["EnableIPv6"]),
        (&json!(true), &json!(true), &json!(true))
    );

    let (_, listed) = daemon
        .call(
            "GET",
            "/networks?filters=%7B%22name%22%3A%5B%22%5Efoo%24%22%5D%7D",
            &Value::Null,
        )
        .await;
    assert_eq!(listed, json!([found]));
    let bridges = daemon.client.bridges(Some("foo")).await.expect("it has a switch");
    assert_eq!(bridges[0].gateways, ["10.7.4.254/16", "fd12:7::1/64"]);
    assert_eq!((bridges[0].mtu, bridges[0].internal), (1400, true));
}

#[tokio::test]
async fn names_ids_and_prefixes_lead_to_a_network() {
    let daemon = Daemon::start().await;
    let id = daemon.network("bad name!/x", "10.1.0.0/24").await;
    for term in [id.as_str(), &id[..60], "bad name!/x"] {
        assert_eq!(daemon.client.network(term).await.expect(term).id, id, "{term}");
    }
    let named = daemon.network(&id[..3], "10.2.0.0/24").await;
    assert_eq!(
        daemon
            .client
            .network(&id[..3])
            .await
            .expect("a name beats a prefix")
            .id,
        named
    );
    let refused = refusal(daemon.client.network("nosuch").await);
    assert_eq!(refused, (404, "network nosuch not found".into()));
    daemon
        .client
        .remove_network("bad name!/x")
        .await
        .expect("it is empty");
    let answer = daemon
        .call("GET", "/networks/bridge?verbose=maybe", &Value::Null)
        .await;
    let message = "invalid value for verbose: strconv.ParseBool: parsing \"maybe\": invalid syntax";
    assert_eq!(answer, (400, json!({"message": message})));
}

#[tokio::test]
async fn what_exists_or_overlaps_is_refused_and_leaves_nothing() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    let refused = refusal(daemon.client.create_network(&create("n1")).await);
    assert_eq!(refused, (409, "network with name n1 already exists".into()));
    let body = json!({"Name": "n2", "IPAM": {"Config": [{"Subnet": "10.1.0.128/25"}]}});
    let overlap = "invalid pool request: Pool overlaps with other one on this address space";
    assert_eq!(
        daemon.call("POST", "/networks/create", &body).await,
        (403, json!({"message": overlap}))
    );
    let refused = refusal(daemon.client.create_network(&create("")).await);
    assert_eq!(refused, (400, "invalid name: name is empty".into()));
    let unknown = NetworkCreate {
        driver: "nosuch".into(),
        ..create("n2")
    };
    let refused = refusal(daemon.client.create_network(&unknown).await);
    assert_eq!(refused, (404, "plugin \"nosuch\" not found".into()));
    let names = |networks: Vec<crate::api::types::Network>| {
        let mut names: Vec<String> = networks.into_iter().map(|network| network.name).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(daemon.client.networks(&[]).await.expect("a list")),
        ["bridge", "host", "n1", "none"]
    );
    daemon.client.remove_network("n1").await.expect("it is empty");
    daemon.network("n3", "10.1.0.128/25").await;
}

#[tokio::test]
async fn networks_in_use_stay_and_prune_takes_the_others() {
    let daemon = Daemon::start().await;
    daemon.network("used", "10.1.0.0/24").await;
    daemon.network("idle", "10.2.0.0/24").await;
    daemon.sandbox("web", &["used"]).await.expect("it is ours");
    let endpoint = daemon
        .client
        .network("used")
        .await
        .expect("it is there")
        .containers;
    let endpoint = &endpoint.values().next().expect("one endpoint").endpoint_id[..12];
    let refused = refusal(daemon.client.remove_network("used").await);
    let text = format!(
        "error while removing network: network used has active endpoints (name:\"web\" id:\"{endpoint}\")"
    );
    assert_eq!(refused, (403, text));
    let refused = refusal(daemon.client.prune_networks(&[("name", "x")]).await);
    assert_eq!(refused, (400, "invalid filter 'name'".into()));
    assert_eq!(
        daemon.client.prune_networks(&[]).await.expect("it prunes"),
        ["idle"]
    );
    let again = daemon.call("POST", "/networks/prune", &Value::Null).await;
    assert_eq!(again, (200, json!({"NetworksDeleted": null})));
}

#[tokio::test]
async fn networks_survive_a_killed_daemon() {
    let daemon = Daemon::start().await;
    daemon.network("n1", "10.1.0.0/24").await;
    let before = daemon.client.networks(&[]).await.expect("a list");
    let daemon = Daemon::start_in(daemon.kill().await).await;
    assert_eq!(daemon.client.networks(&[]).await.expect("a list"), before);
    let bridges = daemon.client.bridges(None).await.expect("a list");
    let names: Vec<&str> = bridges.iter().map(|bridge| bridge.network.as_str()).collect();
    assert_eq!(names, ["bridge", "n1"], "their switches are there again");
}
