//! The uplink's own addresses, and its gateway.

use super::{DEVICE, FAR, INNER, SECOND, Scene, UPLINK, at};
use crate::support::{
    agent::{Role, Transport},
    daemon::{Outcome, PATIENCE},
    outside::{Outside, Place},
    within,
};

#[test]
fn an_address_that_another_station_has_is_told_and_not_used() {
    let Some(outside) = Outside::with_device() else {
        return;
    };
    outside.ok(
        Place::Outside,
        "ip address add 198.51.100.11/24 dev dev0; ip address add 2001:db8:3::11/64 dev dev0 nodad",
    );
    let link = outside.ok(Place::Outside, "ip -o link show dev dev0");
    let mut words = link.split_whitespace().skip_while(|&word| word != "link/ether");
    let station = words.nth(1).expect("an Ethernet device").to_owned();
    let Some(daemon) = outside.daemon(&["--uplink", DEVICE]) else {
        return;
    };
    let mut scene = Scene { daemon, outside };
    scene.populate("", "");
    for second in SECOND {
        let complaint = format!("does not use {second}: {station} has it");
        assert!(scene.daemon.log().contains(&complaint), "{}", scene.daemon.log());
    }
    let info = scene.daemon.ok("info");
    let line = format!("Uplink address:   198.51.100.11/24 (taken by {station})");
    assert!(info.contains(&line), "{info}");
    assert!(info.contains("198.51.100.10/24 (in use)"), "{info}");
    // The others are not concerned, and the other station is left alone.
    let server = scene.introduce_outside(Place::Far);
    for (far, own) in FAR.into_iter().zip(UPLINK) {
        scene.visit_from("web", at(far, INNER), Transport::Tcp);
        assert_eq!(server.word(), format!("tcp from {own}"));
    }
    scene.daemon.ping("web", &SECOND[0].to_string());
}

#[test]
fn a_gateway_that_is_down_is_a_host_that_cannot_be_reached() {
    let Some(outside) = Outside::with_device() else {
        return;
    };
    let device = "device=up0,address=198.51.100.10/24,address=2001:db8:3::10/64,gateway=198.51.100.99,\
                  gateway=2001:db8:3::99";
    let Some(daemon) = outside.daemon(&["--uplink", device]) else {
        return;
    };
    let mut scene = Scene { daemon, outside };
    scene.populate("", "");
    if !scene.has("ping") {
        return;
    }
    let connect = Role::Connect {
        to: at(FAR[0], INNER),
    };
    // All at once: each takes three seconds.
    let agent = scene.daemon.agent("app", &connect);
    let pings = FAR.map(|far| {
        let mut ping = scene
            .daemon
            .client(&["exec", "web", "--", "ping", "-n", "-c", "1"]);
        ping.args(["-W", "10", &far.to_string()]);
        std::thread::spawn(move || Outcome::of(&mut ping))
    });
    for (ping, gateway) in pings.into_iter().zip(super::GATEWAYS) {
        let ping = ping.join().expect("it runs to its end");
        // The container's own gateway says it, about the packet as it was.
        let expected = format!("From {gateway}");
        let is_told = ping.stdout.contains(&expected) && ping.stdout.contains("nreachable");
        assert!(is_told, "{ping:?}");
    }
    assert!(agent.word().parse::<u64>().is_ok(), "how long it took");
    assert_eq!(agent.word(), "HostUnreachable");
    // It comes up.
    scene.outside.ok(
        Place::Outside,
        "ip address add 198.51.100.99/24 dev dev0; ip address add 2001:db8:3::99/64 dev dev0 nodad",
    );
    for far in FAR {
        within(PATIENCE, "the far machine answers", || {
            scene.inside("web", &format!("ping -n -c 1 -W 1 {far}")).code == 0
        });
    }
}
