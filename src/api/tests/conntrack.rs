//! Connections of the translation, on a daemon that translates nothing.

use super::*;

#[tokio::test]
async fn connections_can_be_asked_for_by_what_they_are() {
    let daemon = Daemon::start().await;
    let id = daemon.network("n1", "10.1.0.0/24").await;
    daemon.sandbox("web", &["n1"]).await.expect("it is ours");
    for query in [
        String::new(),
        format!("?network={}&sandbox=web", &id[..8]),
        "?family=ipv4&protocol=TCP&state=established&status=assured".into(),
        "?protocol=89&orig_src=10.0.0.0/8&orig_dst=198.51.100.2&reply_src=::/0&reply_dst=2001:db8::1".into(),
        "?orig_sport=1&orig_dport=2&reply_sport=3&reply_dport=65535".into(),
    ] {
        for method in ["GET", "DELETE"] {
            let path = format!("/vswitch/v1/conntrack{query}");
            let (status, _, body) = daemon.raw(&request(method, &path)).await;
            assert_eq!(
                (status, body.contains("[]")),
                (200, true),
                "{method} {query}: {body}"
            );
        }
    }
    let client = &daemon.client;
    assert_eq!(
        client.connections(&[("protocol", "udp")]).await.expect("a list"),
        []
    );
    assert_eq!(client.remove_connections(&[]).await.expect("a list"), []);
    client.flush_connections().await.expect("a list");
    assert_eq!(client.connection_count().await.expect("a number"), 0);
}

#[tokio::test]
async fn a_filter_that_is_none_is_refused_before_anything_is_removed() {
    let daemon = Daemon::start().await;
    for (query, status, message) in [
        (
            "colour=red",
            400,
            "invalid filter \"colour\": use one of family, network, orig_dport",
        ),
        ("network=nosuch", 404, "network nosuch not found"),
        ("sandbox=nosuch", 404, "No such container: nosuch"),
        (
            "protocol=nonsense",
            400,
            "invalid protocol \"nonsense\": use tcp, udp, icmp",
        ),
        ("protocol=256", 400, "invalid protocol \"256\": use tcp"),
        (
            "orig_src=10.0.0",
            400,
            "invalid orig_src \"10.0.0\": use an address or a prefix",
        ),
        ("orig_dport=65536", 400, "invalid orig_dport \"65536\": "),
        ("state=OPEN", 400, "invalid state \"OPEN\": use one of SYN_SENT"),
        (
            "status=new",
            400,
            "invalid status \"new\": use assured, seen_reply or unreplied",
        ),
        ("family=ip", 400, "invalid family \"ip\": use ipv4 or ipv6"),
        ("types=new", 400, "invalid filter \"types\""),
    ] {
        for method in ["GET", "DELETE"] {
            let path = format!("/vswitch/v1/conntrack?{query}");
            let (found, answer) = daemon.call(method, &path, &Value::Null).await;
            let text = answer["message"].as_str().expect("a message");
            assert_eq!(
                (found, text.starts_with(message)),
                (status, true),
                "{method} {query}: {text}"
            );
        }
    }
    let path = "/vswitch/v1/conntrack/events?types=new,old";
    let (status, answer) = daemon.call("GET", path, &Value::Null).await;
    let message = "invalid types \"old\": use new, update or destroy";
    assert_eq!((status, answer), (400, json!({"message": message})));
    let (status, _) = daemon.call("POST", "/vswitch/v1/conntrack", &Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn the_stream_of_events_ends_with_the_daemon() {
    let daemon = Daemon::start().await;
    let wish = [("types", "new,destroy"), ("protocol", "tcp")];
    let mut events = daemon.client.connection_events(&wish).await.expect("a stream");
    daemon.kill().await;
    assert_eq!(events.next().await.expect("a clean end"), None);
}

#[tokio::test]
async fn without_translation_there_are_no_rules_and_no_row_of_counters() {
    let daemon = Daemon::start().await;
    let rules = daemon.call("GET", "/vswitch/v1/nat", &Value::Null).await;
    let none =
        json!({"ExternalAddresses": [], "Networks": [], "Ports": [], "Connections": 0, "Counters": {}});
    assert_eq!(rules, (200, none));
    let stats = daemon.client.stats().await.expect("a list");
    assert!(stats.iter().all(|port| !port.network.is_empty()), "{stats:?}");
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}
