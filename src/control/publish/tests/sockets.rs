//! What sockets take: descriptors, and the stock inside of containers.

use std::sync::Arc;

use vswitch_proxy::publish::SocketKind;

use super::*;

#[tokio::test]
async fn sockets_inside_are_delivered_while_tcp_ports_are_published() {
    let daemon = Daemon::start().await;
    daemon
        .run(&[], &["127.78.8.1:53:53/udp"])
        .await
        .expect("it is free");
    assert_eq!(daemon.log(), ["publish 1 of 1 to 172.17.0.2 routed 4"]);
    daemon.publish(&["127.78.8.1:8080:80"]).await.expect("it is free");
    tokio::time::sleep(Duration::from_millis(20)).await;
    let orders = daemon.devices.take_socket_orders();
    assert_eq!(orders.len(), 1, "{orders:?}");
    assert_eq!((orders[0].tcp_v4, orders[0].tcp_v6), (4, 0));
    let sockets = daemon.devices.sockets_of(2).expect("it has a stock");
    assert_eq!(sockets.count(SocketKind::TcpV4), 4);
    for _ in 0..3 {
        sockets.take(SocketKind::TcpV4).expect("there are some");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let orders = daemon.devices.take_socket_orders();
    assert_eq!(orders[0].tcp_v4, 7, "twice as many as before");
    daemon.unpublish(&["80"], false).await.expect("it is published");
    assert_eq!(
        sockets.count(SocketKind::TcpV4),
        0,
        "sockets keep the namespace alive, whoever holds the stock"
    );
    let left = Arc::downgrade(&sockets);
    drop(sockets);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(left.upgrade().is_none(), "sockets keep the namespace alive");
}

#[tokio::test]
async fn only_tcp_ports_of_local_clients_get_sockets_in_any_order() {
    let daemon = Daemon::start().await;
    let ports = ["127.78.8.2:53:53/udp", "127.78.8.2:8081:81,local=relay"];
    daemon.run(&[], &ports).await.expect("they are free");
    assert!(!daemon.log().contains(&"with sockets".into()));
    assert!(daemon.devices.take_socket_orders().is_empty());
    let spliced = "127.78.8.2:8080:80";
    for texts in [[ports[0], ports[1], spliced], [spliced, ports[1], ports[0]]] {
        daemon.control.delete_sandbox("web").await.expect("it is there");
        daemon.log();
        daemon.run(&[], &texts).await.expect("they are free");
        let log = daemon.log();
        let with = log.iter().filter(|line| *line == "with sockets").count();
        assert_eq!(with, 1, "{log:?}");
    }
    daemon.unpublish(&["80"], false).await.expect("it is published");
    daemon.devices.take_socket_orders();
    daemon
        .publish(&["127.78.8.2:8082:82,local=relay"])
        .await
        .expect("it is free");
    assert!(daemon.devices.take_socket_orders().is_empty());
}

#[tokio::test]
async fn r_lim_2_without_descriptors_no_process_is_started_for_sockets() {
    let daemon = Daemon::start_with(32).await;
    daemon
        .run(&[], &["127.78.8.3:8080:80"])
        .await
        .expect("it is free");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(daemon.devices.take_socket_orders().is_empty());
}

#[tokio::test]
async fn a_range_that_takes_more_descriptors_than_there_are_is_refused_at_once() {
    let daemon = Daemon::start_with(32).await;
    let refused = daemon
        .run(&[], &["127.78.8.4:8000:80", "127.78.8.4:9000-9031:9000-9031"])
        .await
        .expect_err("it is too much")
        .to_string();
    assert!(
        refused.ends_with(
            "needs 33 descriptors, 32 are left; raise the limit of open files (ulimit -Hn) or publish fewer ports"
        ),
        "{refused}"
    );
    assert!(!reaches("127.78.8.4:8000"));
    daemon
        .run(&[], &["127.78.8.4:9000-9031:9000-9031"])
        .await
        .expect("that is all of them");
}
