//! Ports that are out of service for a while, and the next daemon's.

use super::*;
use crate::control::ShutdownMode;

#[tokio::test]
async fn g8_without_a_way_outside_ports_wait_for_one() {
    let daemon = Daemon::start().await;
    daemon.network("inside", true).await;
    daemon.network("outside", false).await;
    let created = daemon.run(&["inside"], &["127.78.5.1:8080:80"]).await;
    let warnings = created.expect("it is no error").warnings;
    assert_eq!(
        warnings,
        [
            "Published ports of container web are not open yet: none of its networks leads outside (network inside is \
             internal or has no gateway); they will be published when it is connected to a network that leads outside"
        ]
    );
    assert!(!reaches("127.78.5.1:8080"));
    TcpListener::bind("127.78.5.1:8080").expect("it is not held");
    let published = daemon.publish(&["127.78.5.1:8081:81"]).await;
    assert_eq!(published.expect("no error"), warnings, "nothing is bound");
    assert_eq!(daemon.ports().0.len(), 2);
    let directory = daemon.kill().await;

    let daemon = Daemon::start_in(directory).await;
    assert_eq!((daemon.ports().0.len(), daemon.ports().1.len()), (2, 0));
    daemon.connect("outside").await;
    assert!(reaches("127.78.5.1:8080") && reaches("127.78.5.1:8081"));
    daemon.disconnect("outside").await;
    daemon.disconnect("inside").await;
    let published = daemon.publish(&["127.78.5.1:8082:82"]).await.expect("no error");
    assert!(
        published.len() == 1 && published[0].contains("it is connected to no network"),
        "{published:?}"
    );
    daemon.publish(&["127.78.5.1:8082:82"]).await.expect("no error");
    assert_eq!(
        (daemon.ports().0.len(), daemon.ports().1.len()),
        (3, 0),
        "there are no twins"
    );
    daemon.control.delete_sandbox("web").await.expect("it is there");
    let created = daemon.run(&["none"], &["127.78.5.1:8080:80"]).await;
    assert_eq!(
        created.expect("it is no error").warnings,
        ["Published ports are discarded when using none network mode"]
    );
    assert_eq!(daemon.ports(), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn what_is_only_chosen_gives_back_nobody_elses_port() {
    let daemon = Daemon::start().await;
    daemon.network("inside", true).await;
    daemon
        .run_as("other", &[], &["127.78.5.2:8080:80"])
        .await
        .expect("it is free");
    daemon.run(&["inside"], &[]).await.expect("it is ours");
    let clash = daemon.publish(&["127.78.5.2:8080:80"]).await;
    clash.expect_err("it is taken");
    daemon.publish(&["127.78.5.2:8081:81"]).await.expect("no error");
    daemon
        .control
        .publish("other", requests(&["127.78.5.2:8081:81"]))
        .await
        .expect("it is only chosen");
    daemon.unpublish(&["81"], false).await.expect("it is stored");
    let clash = daemon.control.publish("other", requests(&["127.78.5.2:8081:81"]));
    let clash = clash.await.expect_err("it is still held").to_string();
    assert!(clash.ends_with("port is already allocated"), "{clash}");
}

#[tokio::test]
async fn p12_the_older_sandbox_gets_the_port_again() {
    let daemon = Daemon::start().await;
    daemon.network("inside", true).await;
    // As many as make a random order likely to show.
    let names = ["e", "c", "a", "f", "d", "b"].map(|name| format!("box-{name}"));
    for name in &names {
        let wish = ["127.78.7.2:8080:80"];
        daemon.run_as(name, &["inside"], &wish).await.expect("it waits");
    }
    for name in &names {
        let wish = NetworkConnect {
            container: name.clone(),
            endpoint_config: None,
        };
        daemon.control.connect("bridge", wish).await.expect("it connects");
    }
    let directory = daemon.kill().await;
    let daemon = Daemon::start_in(directory).await;
    for (index, name) in names.iter().enumerate() {
        let served = daemon.control.read(|state| {
            let sandbox = state.resolve_sandbox(name).expect("it is there").id;
            state.publications_of(sandbox).iter().any(|one| one.at.is_some())
        });
        assert_eq!(served, index == 0, "{name}");
    }
}

#[tokio::test]
async fn p12_the_next_daemon_publishes_the_same_ports() {
    let daemon = Daemon::start().await;
    daemon
        .run(&[], &["127.78.7.1::80", "127.78.7.1:8081-8082:81-82"])
        .await
        .expect("they are free");
    let before = daemon.ports();
    let chosen = daemon.sandbox().ports[0].host_port;
    let directory = daemon.kill().await;
    assert!(!reaches("127.78.7.1:8081"));

    let daemon = Daemon::start_in(directory).await;
    assert_eq!(daemon.ports(), before);
    assert!(reaches(&format!("127.78.7.1:{chosen}")) && reaches("127.78.7.1:8082"));
    let clash = daemon.publish(&["127.78.7.1:8082:90"]).await;
    assert!(
        clash.is_err_and(|error| error.to_string().ends_with("port is already allocated")),
        "they are held"
    );
    let directory = daemon.kill().await;

    let foreign = TcpListener::bind("127.78.7.1:8082").expect("nobody has it");
    let daemon = Daemon::start_in(directory).await;
    let (stored, served) = daemon.ports();
    assert_eq!(stored, before.0, "what cannot be bound stays");
    assert_eq!(served, [format!("127.78.7.1:{chosen}->80/tcp")]);
    assert!(!reaches("127.78.7.1:8081"));
    let wish = ["127.78.7.1:8081-8082:81-82"];
    let taken = daemon.publish(&wish).await.expect_err("it is still taken");
    assert!(taken.to_string().ends_with("address already in use"), "{taken}");
    assert_eq!(daemon.ports(), (stored, served));
    drop(foreign);
    daemon.publish(&wish).await.expect("it is free");
    assert_eq!(daemon.ports(), before, "it is revived, there is no other");
    assert!(reaches("127.78.7.1:8081"));
    daemon
        .unpublish(&["81-82"], false)
        .await
        .expect("it is published");
    daemon.control.shutdown(ShutdownMode::CleanUp).await;
    let log = daemon.log();
    assert_eq!(log[log.len() - 2..], ["unpublish 1 End", "detach eth0 alive"]);
}
