//! Programs that people run.

use super::{
    Scene,
    ping::{in_box, installed},
};
use crate::support::{
    agent::Service,
    outside::{BOTH, Place},
};

#[test]
fn curl_fetches_a_page() {
    let Some(scene) = Scene::new("") else { return };
    if !installed(&scene, "curl") {
        return;
    }
    let (_server, port) = scene.serve(Place::Outside, Service::Http);
    for address in BOTH {
        let address = std::net::SocketAddr::new(address, port);
        let outcome = in_box(&scene, &format!("curl -sS --max-time 30 http://{address}/"));
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (0, "from outside\n"),
            "{outcome:?}"
        );
    }
    let outcome = in_box(&scene, &format!("curl -sS --max-time 30 http://{}:9/", BOTH[0]));
    assert_eq!(outcome.code, 7, "refused: {outcome:?}");
}
