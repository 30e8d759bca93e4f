//! Connections that end, half or whole, in order or not.

use std::time::Duration;

use super::Scene;
use crate::support::{
    agent::{Dialogue, Service},
    outside::{BOTH, Place},
};

#[test]
fn r_cl_1_a_connection_that_the_container_has_finished_lives_on_for_the_answer() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::AnswerLate { pause: PAUSE });
    for address in BOTH {
        let answer = scene.dial((address, port).into(), Dialogue::AskAndFinish);
        assert_eq!(answer, "answer to question", "{address}");
        server.word();
        assert_eq!(server.word(), "question", "{address}");
    }
}

#[test]
fn r_cl_1_a_connection_that_the_server_has_finished_lives_on_for_the_container() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::CloseFirst);
    for address in BOTH {
        let heard = scene.dial((address, port).into(), Dialogue::FinishLate { pause: PAUSE });
        assert_eq!(heard, "", "{address}");
        server.word();
        assert_eq!(server.word(), "afterthought", "{address}");
    }
}

#[test]
fn a_reset_by_the_server_reaches_the_container() {
    let Some(scene) = Scene::new("") else { return };
    let (_server, port) = scene.serve(Place::Outside, Service::Reset);
    for address in BOTH {
        let word = scene.dial((address, port).into(), Dialogue::AwaitReset);
        assert_eq!(word, "ConnectionReset", "{address}");
    }
}

#[test]
fn a_reset_by_the_container_reaches_the_server() {
    let Some(scene) = Scene::new("") else { return };
    let (server, port) = scene.serve(Place::Outside, Service::Echo);
    for address in BOTH {
        let word = scene.dial((address, port).into(), Dialogue::Reset);
        assert_eq!(word, "reset");
        server.word();
        assert_eq!(server.word(), "ConnectionReset", "{address}");
    }
}

/// Enough that nothing on the way is merely slow to forget.
const PAUSE: Duration = Duration::from_secs(3);
