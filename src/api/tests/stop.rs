//! Ending sandboxes.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::*;

#[tokio::test]
async fn a_process_that_obeys_ends_by_sigterm_and_its_sandbox_is_gone() {
    let daemon = Daemon::start().await;
    let (mut process, id) = sleeper(&daemon, "web", "exec sleep 600").await;
    daemon.devices.take_log();
    daemon.client.stop_container("web", 60).await.expect("it is ours");
    // Nothing to wait for: the answer means that it is done.
    assert_eq!(refusal(daemon.client.container(&id).await).0, 404);
    assert_eq!(daemon.devices.take_log(), ["detach eth0 gone"]);
    let status = process.wait().expect("it is ours");
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

#[tokio::test]
async fn a_process_that_does_not_obey_is_killed_after_the_time() {
    let daemon = Daemon::start().await;
    let deaf = "trap '' TERM; echo; exec sleep 600";
    let (mut process, _) = sleeper(&daemon, "web", deaf).await;
    let begin = Instant::now();
    daemon.client.stop_container("web", 1).await.expect("it is ours");
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    let status = process.wait().expect("it is ours");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(refusal(daemon.client.container("web").await).0, 404);
}

#[tokio::test]
async fn waiting_for_a_process_holds_nobody_up_but_its_caller() {
    let daemon = Daemon::start().await;
    let deaf = "trap '' TERM; echo; exec sleep 600";
    let (mut process, _) = sleeper(&daemon, "web", deaf).await;
    let client = daemon.client.clone();
    let stopping = tokio::spawn(async move { client.stop_container("web", 3600).await });
    daemon.network("meanwhile", "10.1.0.0/24").await;
    // SIGKILL from elsewhere ends the wait.
    assert_eq!(
        daemon.call("POST", "/containers/web/kill", &Value::Null).await.0,
        204
    );
    stopping.await.expect("no panic").expect("it has ended");
    process.wait().expect("it is ours");
}

#[tokio::test]
async fn the_daemon_ends_though_somebody_waits() {
    let daemon = Daemon::start().await;
    let deaf = "trap '' TERM; echo; exec sleep 600";
    let (mut process, _) = sleeper(&daemon, "web", deaf).await;
    let client = daemon.client.clone();
    let stopping = tokio::spawn(async move { client.stop_container("web", 3600).await });
    // Its SIGTERM has been sent when the next request is answered.
    daemon.client.container("web").await.expect("it lives");
    let Daemon { stop, serving, .. } = daemon;
    stop.send(()).expect("it serves");
    let served = tokio::time::timeout(Duration::from_secs(30), serving).await;
    served
        .expect("it does not wait for the process")
        .expect("no panic")
        .expect("no error");
    let refused = stopping.await.expect("no panic");
    assert!(
        matches!(
            refused,
            Err(ClientError::Refused { status: 503, .. }
                | ClientError::NotRunning(_)
                | ClientError::Transport(_))
        ),
        "{refused:?}"
    );
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
}

#[tokio::test]
async fn what_cannot_be_stopped_is_refused_in_dockers_words() {
    let daemon = Daemon::start().await;
    let (mut process, id) = sleeper(&daemon, "web", "exec sleep 600").await;
    let path = SandboxCreate {
        pid: None,
        netns: Some("/proc/self/ns/net".into()),
        ..ourselves("by-path", &["none"])
    };
    daemon
        .client
        .create_sandbox(&path)
        .await
        .expect("it is a namespace");
    let post = async |path: &str| {
        let (status, answer) = daemon.call("POST", path, &Value::Null).await;
        (status, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    for verb in ["stop", "kill"] {
        assert_eq!(
            post(&format!("/containers/nosuch/{verb}")).await,
            (404, "No such container: nosuch".into())
        );
        assert_eq!(
            post(&format!("/containers/web/{verb}?signal=SIGNOSUCH")).await,
            (400, "invalid signal: SIGNOSUCH".into())
        );
        let (status, message) = post(&format!("/containers/by-path/{verb}")).await;
        assert_eq!(status, 409);
        assert!(message.contains("by-path was attached by the path"), "{message}");
    }
    assert_eq!(
        post("/containers/web/stop?t=soon").await,
        (400, "strconv.Atoi: parsing \"soon\": invalid syntax".into())
    );
    assert_eq!(daemon.client.container("web").await.expect("it lives").id, id);
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
}

#[tokio::test]
async fn a_sandbox_that_has_ended_is_stopped_already() {
    let daemon = Daemon::start().await;
    let (mut process, _) = sleeper(&daemon, "web", "exec sleep 600").await;
    let kept = SandboxCreate {
        pid: Some(process.id()),
        auto_remove: false,
        ports: Vec::new(),
        ..ourselves("kept", &["none"])
    };
    daemon.client.create_sandbox(&kept).await.expect("it is ours");
    assert_eq!(
        daemon.call("POST", "/containers/kept/stop", &Value::Null).await.0,
        204
    );
    process.wait().expect("it is ours");
    assert_eq!(
        daemon.call("POST", "/containers/kept/stop", &Value::Null).await.0,
        304
    );
    daemon
        .client
        .stop_container("kept", 1)
        .await
        .expect("304 is no error");
    let (status, answer) = daemon.call("POST", "/containers/kept/kill", &Value::Null).await;
    let id = daemon.client.container("kept").await.expect("it stays").id;
    assert_eq!(
        (status, answer),
        (409, json!({"message": format!("container {id} is not running")}))
    );
}

#[tokio::test]
async fn a_successor_of_the_process_id_is_not_signalled() {
    let daemon = Daemon::start().await;
    // Our own process; what is stored of it says that it started at another time.
    daemon.sandbox("web", &["bridge"]).await.expect("it is ours");
    let command = async || {
        let container = daemon.call("GET", "/containers/web/json", &Value::Null).await.1;
        let list = daemon.call("GET", "/containers/json", &Value::Null).await.1;
        [container["Path"].clone(), list[0]["Command"].clone()]
    };
    assert!(!command().await.contains(&json!("")), "it is our own");
    fixtures::forge_start_time(&daemon.control, "web");
    assert_eq!(command().await, ["", ""], "a stranger's command");
    daemon
        .client
        .stop_container("web", 1)
        .await
        .expect("it has ended");
    assert_eq!(refusal(daemon.client.container("web").await).0, 404);
}

/// A sandbox whose process, a shell, has run `script` as far as its first line of output, or up to `exec`.
pub(super) async fn sleeper(daemon: &Daemon, name: &str, script: &str) -> (Child, String) {
    let mut process = Command::new("sh")
        .args(["-c", &format!("echo; {script}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts");
    let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
    for _ in 0..=script.matches("echo").count() {
        output.read_line(&mut String::new()).expect("it prints");
    }
    let wish = SandboxCreate {
        pid: Some(process.id()),
        ..ourselves(name, &["bridge"])
    };
    let created = daemon.client.create_sandbox(&wish).await.expect("it is ours");
    (process, created.id)
}
