//! The real docker client.

use super::{stop::sleeper, *};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_docker_client_works() {
    let Some(program) = docker() else { return };
    let daemon = Daemon::start().await;
    daemon.sandbox("web", &[]).await.expect("it is ours");
    let run = |args: &'static str| run_docker(program.clone(), &daemon.socket, args);
    let succeeds = async |args: &'static str| {
        let (success, out, error) = run(args).await;
        assert!(success, "docker {args}: {error}");
        out.trim().to_owned()
    };
    let created =
        succeeds("network create --subnet 10.9.0.0/24 --gateway 10.9.0.254 --label a=b my_net").await;
    let id = daemon.client.network("my_net").await.expect("it is there").id;
    assert_eq!(created, id);
    let listed = succeeds("network ls --format {{.Name}}:{{.Driver}}:{{.Scope}}").await;
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [
            "bridge:bridge:local",
            "host:host:local",
            "my_net:bridge:local",
            "none:null:local"
        ]
    );
    assert_eq!(
        succeeds("network ls -q --filter name=^my --filter label=a --no-trunc").await,
        id
    );
    assert_eq!(
        succeeds("network connect --ip 10.9.0.77 --alias www my_net web").await,
        ""
    );
    let format = "network inspect -f {{range.Containers}}{{.Name}}={{.IPv4Address}}{{end}} my_net";
    assert_eq!(succeeds(format).await, "web=10.9.0.77/24");
    // The client walks a Go map: the networks come in any order.
    let listed = succeeds("ps --format {{.Names}}:{{.State}}:{{.Networks}}").await;
    assert!(
        ["web:running:bridge,my_net", "web:running:my_net,bridge"].contains(&listed.as_str()),
        "{listed}"
    );
    let format = "inspect -f {{.NetworkSettings.Networks.my_net.IPAddress}}:{{.NetworkSettings.Networks.my_net.Aliases}} web";
    assert_eq!(succeeds(format).await, "10.9.0.77:[www]");
    assert_eq!(
        succeeds("inspect -f {{.Driver}} my_net").await,
        "bridge",
        "through containers, images, networks"
    );
    assert_eq!(succeeds("port web").await, "");
    assert_eq!(succeeds("version --format {{.Server.APIVersion}}").await, "1.47");
    assert_eq!(succeeds("info --format {{.Containers}}").await, "1");
    for (name, verb) in [("first", "stop first"), ("second", "kill -s TERM second")] {
        let (mut process, id) = sleeper(&daemon, name, "exec sleep 600").await;
        assert_eq!(succeeds(verb).await, name);
        process.wait().expect("it is ours");
        // `kill` does not wait for the end.
        while daemon.client.container(&id).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    let (success, _, error) = run("network rm my_net").await;
    assert!(
        !success && error.contains("network my_net has active endpoints (name:\"web\" id:"),
        "{error}"
    );
    assert_eq!(succeeds("network disconnect my_net web").await, "");
    assert_eq!(succeeds("network rm my_net").await, "my_net");
    succeeds("network create --ipv6 other").await;
    assert_eq!(succeeds("network prune -f").await, "Deleted Networks:\nother");
    let (success, _, error) = run("network inspect nosuch").await;
    assert!(!success && error.contains("network nosuch not found"), "{error}");
    let (success, _, error) = run("inspect nosuch").await;
    assert!(
        !success && error.to_lowercase().contains("no such object: nosuch"),
        "{error}"
    );
}
