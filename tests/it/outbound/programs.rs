//! Programs that people run.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
};

use super::{
    Scene,
    ping::{in_box, installed},
};
use crate::support::{
    agent::{PAGE, Service},
    daemon::PATIENCE,
    outside::{BOTH, Place},
    within,
};

#[test]
fn curl_fetches_a_page() {
    let Some(scene) = Scene::new("") else { return };
    if !installed(&scene, "curl") {
        return;
    }
    let (_server, port) = scene.serve(Place::Outside, Service::Http);
    for address in BOTH {
        let address = SocketAddr::new(address, port);
        let outcome = in_box(&scene, &format!("curl -sS --max-time 30 http://{address}/"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, PAGE), "{outcome:?}");
    }
    let outcome = in_box(&scene, &format!("curl -sS --max-time 30 http://{}:9/", BOTH[0]));
    assert_eq!(outcome.code, 7, "refused: {outcome:?}");
}

#[test]
fn iperf3_measures_all_ways() {
    let Some(scene) = Scene::new("") else { return };
    if !installed(&scene, "iperf3") {
        return;
    }
    let _server = Measured::start(&scene);
    for address in BOTH {
        for how in ["", "--reverse", "--bidir", "--udp --bitrate 20M --length 1200"] {
            let run = || in_box(&scene, &format!("iperf3 -c {address} -t 1 {how}"));
            let mut outcome = run();
            within(PATIENCE, "the server is done with the run before", || {
                let busy = outcome.code != 0 && outcome.stderr.contains("busy");
                if busy {
                    outcome = run();
                }
                !busy
            });
            assert_eq!(outcome.code, 0, "{address} {how}: {outcome:?}");
        }
    }
}

/// A server of iperf3. Dropping it ends it.
struct Measured(Child);

impl Measured {
    fn start(scene: &Scene) -> Self {
        let mut server = scene.outside.command(Place::Outside, "iperf3");
        server.args(["--server", "--forceflush"]).stdout(Stdio::piped());
        let mut server = Self(server.spawn().expect("it is installed"));
        let output = BufReader::new(server.0.stdout.take().expect("a pipe"));
        let mut lines = output.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("listening")), "it ended at once");
        // It goes on to speak.
        std::thread::spawn(move || lines.count());
        server
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
