use std::{os::unix::fs::symlink, sync::Mutex};

use tempfile::TempDir;
use tokio::{
    sync::{
        broadcast,
        mpsc::{self, UnboundedReceiver},
    },
    task::JoinHandle,
};

use super::*;
use crate::api::types::Actor;

/// A watch of a file in a directory of its own.
struct Scene {
    directory: TempDir,
    told: UnboundedReceiver<Arc<[SocketAddr]>>,
    gateways: Arc<Mutex<Vec<IpAddr>>>,
    events: broadcast::Sender<Event>,
    task: Option<JoinHandle<()>>,
}

impl Scene {
    /// With `etc/resolv.conf` as `prepare` leaves it.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        Self::with_gateways(&[], prepare)
    }

    fn with_gateways(gateways: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["etc", "run", "other"] {
            fs::create_dir(directory.path().join(name)).expect("it is ours");
        }
        prepare(directory.path());
        let (tell, told) = mpsc::unbounded_channel();
        let gateways = gateways.iter().map(|text| text.parse().expect("an address"));
        let gateways: Arc<Mutex<Vec<IpAddr>>> = Arc::new(Mutex::new(gateways.collect()));
        let (events, receiver) = broadcast::channel(4);
        let current = Arc::clone(&gateways);
        let mut resolvers = Resolvers::new(
            &directory.path().join("etc/resolv.conf"),
            Box::new(move || current.lock().expect("no panic").clone()),
            Box::new(move |servers| {
                // A finished test does not listen.
                let _ = tell.send(servers);
            }),
        );
        resolvers.refresh();
        Self {
            directory,
            told,
            gateways,
            events,
            task: Some(tokio::spawn(resolvers.follow(receiver))),
        }
    }

    /// The next list that is told.
    async fn next(&mut self) -> Vec<String> {
        let servers = time::timeout(PATIENCE, self.told.recv()).await;
        let servers = servers.expect("in time").expect("it goes on");
        servers.iter().map(ToString::to_string).collect()
    }

    /// Writes beside the file and renames, as resolvconf does.
    fn replace(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).expect("it is ours");
        fs::rename(fresh, path).expect("it is ours");
    }

    fn announce(&self, kind: &str) {
        let event = Event {
            kind: kind.into(),
            action: "create".into(),
            actor: Actor {
                id: String::new(),
                attributes: Default::default(),
            },
            scope: "local".into(),
            time: 0,
            time_nano: 0,
        };
        self.events.send(event).expect("the watch listens");
    }
}

/// Less than [`LOOK`]: what comes within it came by notice.
const PATIENCE: Duration = Duration::from_secs(4);

#[tokio::test]
async fn r_dns_2_a_rewritten_and_a_replaced_file_are_read_again() {
    let mut scene = Scene::new(|root| {
        fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1\n").expect("it is ours");
    });
    assert_eq!(scene.next().await, ["192.0.2.1:53"], "at once");
    let path = scene.directory.path().join("etc/resolv.conf");
    fs::write(&path, "nameserver 127.0.0.53\nnameserver 192.0.2.2\n").expect("it is ours");
    assert_eq!(
        scene.next().await,
        ["127.0.0.53:53", "192.0.2.2:53"],
        "127/8 is kept as it is"
    );
    scene.replace("etc/resolv.conf", "search example\n");
    assert_eq!(scene.next().await, ["127.0.0.1:53"], "resolv.conf(5)'s default");
}

#[tokio::test]
async fn r_dns_2_the_target_of_a_link_is_watched_and_the_link_too() {
    let mut scene = Scene::new(|root| {
        fs::write(root.join("run/stub.conf"), "nameserver 192.0.2.1\n").expect("it is ours");
        symlink("../run/stub.conf", root.join("etc/resolv.conf")).expect("it is ours");
    });
    assert_eq!(scene.next().await, ["192.0.2.1:53"]);
    scene.replace("run/stub.conf", "nameserver 192.0.2.2\n");
    assert_eq!(scene.next().await, ["192.0.2.2:53"]);
    let root = scene.directory.path().to_owned();
    fs::write(root.join("other/full.conf"), "nameserver 192.0.2.3\n").expect("it is ours");
    symlink("../other/full.conf", root.join("etc/new")).expect("it is ours");
    fs::rename(root.join("etc/new"), root.join("etc/resolv.conf")).expect("it is ours");
    assert_eq!(scene.next().await, ["192.0.2.3:53"]);
    scene.replace("other/full.conf", "nameserver 192.0.2.4\n");
    assert_eq!(scene.next().await, ["192.0.2.4:53"], "the watch has moved along");
}

#[tokio::test]
async fn a_file_that_is_gone_leaves_what_it_said() {
    let mut scene = Scene::new(|root| {
        fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1\n").expect("it is ours");
    });
    assert_eq!(scene.next().await, ["192.0.2.1:53"]);
    fs::remove_file(scene.directory.path().join("etc/resolv.conf")).expect("it is ours");
    time::sleep(SETTLE * 4).await;
    scene.replace("etc/resolv.conf", "nameserver 192.0.2.2\n");
    assert_eq!(
        scene.next().await,
        ["192.0.2.2:53"],
        "nothing was told in between"
    );
}

#[tokio::test]
async fn r_dns_2_a_file_that_is_being_written_leaves_what_it_said() {
    let mut scene = Scene::new(|root| {
        fs::write(root.join("etc/resolv.conf"), "nameserver 192.0.2.1\n").expect("it is ours");
    });
    assert_eq!(scene.next().await, ["192.0.2.1:53"]);
    scene.replace("etc/resolv.conf", "");
    time::sleep(SETTLE * 4).await;
    scene.replace("etc/resolv.conf", "nameserver 192.0.2.2\n");
    assert_eq!(
        scene.next().await,
        ["192.0.2.2:53"],
        "nothing was told in between"
    );
    scene.replace("etc/resolv.conf", "\n");
    let told = time::timeout(3 * LOOK, scene.told.recv()).await;
    let told = told.expect("in time").expect("it goes on");
    assert_eq!(*told, [ResolvConf::LOCAL], "it stays empty");
}

#[tokio::test]
async fn a_file_that_was_never_there_means_the_host_itself() {
    let mut scene = Scene::new(|_| {});
    assert_eq!(scene.next().await, ["127.0.0.1:53"]);
    scene.replace("etc/resolv.conf", "nameserver fd00::53\n");
    assert_eq!(scene.next().await, ["[fd00::53]:53"]);
}

#[tokio::test]
async fn r_dns_4_a_gateway_of_ours_is_no_resolver() {
    let text = "nameserver 10.0.0.1\nnameserver 192.0.2.1\n";
    let mut scene = Scene::with_gateways(&["10.0.0.1", "fd00::1"], |root| {
        fs::write(root.join("etc/resolv.conf"), text).expect("it is ours");
    });
    assert_eq!(scene.next().await, ["192.0.2.1:53"]);
    scene
        .gateways
        .lock()
        .expect("no panic")
        .push(IpAddr::from([192, 0, 2, 1]));
    // A container's event would change nothing, a network's does.
    scene.announce("container");
    scene.announce("network");
    assert_eq!(scene.next().await, [""; 0], "better none than a loop");
    scene.gateways.lock().expect("no panic").clear();
    scene.announce("network");
    assert_eq!(scene.next().await, ["10.0.0.1:53", "192.0.2.1:53"]);
}

#[tokio::test]
async fn the_watch_ends_with_the_control_plane() {
    let Scene { events, task, .. } = Scene::new(|_| {});
    drop(events);
    let ended = time::timeout(PATIENCE, task.expect("it was started")).await;
    ended.expect("in time").expect("no panic");
}
