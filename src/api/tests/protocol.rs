//! Versions, headers, bad requests, events.

use super::*;

#[tokio::test]
async fn ping_and_every_answer_carry_dockers_headers() {
    let daemon = Daemon::start().await;
    for request in [
        "HEAD /_ping",
        "GET /_ping",
        "GET /v1.40/networks/nosuch",
        "GET /nosuch",
        "GET /v9.0/x",
    ] {
        let (_, head, _) = daemon
            .raw(&format!(
                "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            ))
            .await;
        for header in [
            "api-version: 1.47",
            "ostype: linux",
            "docker-experimental: false",
            "server: vswitchd/",
        ] {
            assert!(head.contains(header), "{request}: {header} is not in\n{head}");
        }
    }
    let (status, head, body) = daemon
        .raw("GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!((status, body.as_str()), (200, "OK"));
    assert!(head.contains("content-type: text/plain"), "{head}");
}

#[tokio::test]
async fn versions_are_checked_with_dockers_words() {
    let daemon = Daemon::start().await;
    for path in ["/networks", "/networks/", "/v1.24/networks", "/v1.47/networks"] {
        assert_eq!(daemon.call("GET", path, &Value::Null).await.0, 200, "{path}");
    }
    let new = "client version 1.99 is too new. Maximum supported API version is 1.47";
    let old = "client version 1.11 is too old. Minimum supported API version is 1.24, please upgrade your client to a \
               newer version";
    for (path, message) in [("/v1.99/networks", new), ("/v1.11/networks", old)] {
        assert_eq!(
            daemon.call("GET", path, &Value::Null).await,
            (400, json!({"message": message}))
        );
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_not_found() {
    let daemon = Daemon::start().await;
    for (method, path) in [
        ("GET", "/nosuch"),
        ("GET", "/images/x/json"),
        ("PUT", "/networks"),
        ("POST", "/networks/x"),
        ("DELETE", "/vswitch/v1/fdb"),
        ("GET", "/v1.47"),
    ] {
        let answer = daemon.call(method, path, &Value::Null).await;
        assert_eq!(
            answer,
            (404, json!({"message": "page not found"})),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    let daemon = Daemon::start().await;
    let post = |kind: &str, body: &str| {
        format!(
            "POST /networks/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (request, expected) in [
        (post("application/json", ""), "got EOF while reading request body"),
        (post("application/json", "{\"Name\":"), "invalid JSON: EOF"),
        (post("application/json", "[1]"), "invalid JSON: "),
        (post("application/json", "{\"Name\":7}"), "invalid JSON: "),
        (
            post("application/x-www-form-urlencoded", "a=b"),
            "Content-Type specified (application/x-www-form-urlencoded) must be 'application/json'",
        ),
    ] {
        let (status, _, body) = daemon.raw(&request).await;
        let body: Value = serde_json::from_str(&body).expect("errors are JSON");
        let message = body["message"].as_str().expect("errors have a message");
        assert!(
            status == 400 && message.starts_with(expected),
            "{status} {message}"
        );
    }
    let (status, _, _) = daemon
        .raw(&post("application/json; charset=utf-8", r#"{"Name":"n"}"#))
        .await;
    assert_eq!(status, 201);
    let large = format!(r#"{{"Name":"{}"}}"#, "x".repeat(2 << 20));
    let head = format!(
        "POST /networks/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        large.len()
    );
    let (status, _, body) = daemon.raw(&head).await;
    assert_eq!(status, 413, "refused by its length alone: {body}");
}

#[tokio::test]
async fn events_are_streamed_filtered_and_end_with_the_daemon() {
    let daemon = Daemon::start().await;
    let mut all = daemon
        .client
        .events(&[("type", "network")])
        .await
        .expect("it streams");
    let mut web = daemon
        .client
        .events(&[("container", "web")])
        .await
        .expect("it streams");
    let id = daemon.network("n1", "10.1.0.0/24").await;
    let sandbox = daemon.sandbox("web", &["n1"]).await.expect("it is ours");
    daemon.client.delete_sandbox("web").await.expect("it is there");
    daemon.client.remove_network("n1").await.expect("it is empty");
    for action in ["create", "connect", "disconnect", "destroy"] {
        let event = all.next().await.expect("the daemon lives").expect("it goes on");
        assert_eq!((event.action.as_str(), &event.actor.id), (action, &id));
        assert_eq!(event.actor.attributes["name"], "n1");
        assert_eq!(event.actor.attributes["type"], "bridge");
        let container = event.actor.attributes.get("container");
        assert_eq!(
            container,
            action.ends_with("connect").then_some(&sandbox),
            "{action}"
        );
    }
    for action in ["start", "destroy"] {
        assert_eq!(
            web.next()
                .await
                .expect("the daemon lives")
                .expect("it goes on")
                .action,
            action
        );
    }
    let past = "GET /events?since=0&until=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (status, _, body) = daemon.raw(past).await;
    assert_eq!(
        (status, body.as_str()),
        (200, "0\r\n\r\n"),
        "no chunk but the last: the stream ends by itself"
    );
    let (_, _, body) = daemon
        .raw(&past.replace("until=1", "until=0s").replace("since=0", "since=1h"))
        .await;
    assert_eq!(
        body.matches("\"scope\":\"local\"").count(),
        9,
        "all remembered events: {body}"
    );
    assert_eq!(
        daemon
            .call("GET", "/events?since=2&until=1", &Value::Null)
            .await
            .0,
        400
    );
    assert_eq!(daemon.call("GET", "/events?since=x", &Value::Null).await.0, 400);

    daemon.stop.send(()).expect("it serves");
    assert!(all.next().await.expect("no broken stream").is_none());
    daemon.serving.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn the_daemon_says_what_the_host_lacks() {
    let daemon = Daemon::start().await;
    let info = daemon.client.daemon().await.expect("it answers");
    assert_eq!(info.hints, ["something is missing"]);
    assert_eq!(info.pid, std::process::id());
}
