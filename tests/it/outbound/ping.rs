//! Echo requests to machines outside, and the way they take.

use std::net::IpAddr;

use super::{GATEWAYS, Scene};
use crate::support::{
    agent::Service,
    daemon::{Outcome, split},
    outside::{BOTH, FAR4, FAR6, OUTSIDE4, OUTSIDE6, Outside, Place, Privilege, UNREACHABLE},
    skip,
};

#[test]
fn machines_outside_answer_echo_requests() {
    let Some(scene) = Scene::new("") else { return };
    for address in BOTH.into_iter().chain([FAR4.into(), FAR6.into()]) {
        scene.daemon.ping("box", &address.to_string());
    }
}

#[test]
fn r_icmp_1_a_host_that_forbids_pings_is_an_error_and_says_what_to_do() {
    let Some(outside) = Outside::fresh(Privilege::Own) else {
        return;
    };
    let Some(scene) = Scene::on(outside, "") else {
        return;
    };
    for address in BOTH {
        scene.daemon.no_ping("box", &address.to_string());
    }
    for gateway in GATEWAYS {
        scene.daemon.ping("box", &gateway.to_string());
    }
    let setting = "net.ipv4.ping_group_range";
    assert!(scene.daemon.log().contains(setting), "{}", scene.daemon.log());
    assert!(scene.daemon.ok("info").contains(setting));
}

#[test]
fn the_ping_of_iputils_works_with_all_sizes() {
    let Some(scene) = Scene::new("") else { return };
    if !installed(&scene, "ping") {
        return;
    }
    for address in BOTH {
        for size in [0, 56, 1472, 4000, 60_000] {
            let outcome = in_box(&scene, &format!("ping -n -c 2 -i 0.2 -W 5 -s {size} {address}"));
            assert_eq!(outcome.code, 0, "{address}, {size}: {outcome:?}");
            assert!(outcome.stdout.contains(" 0% packet loss"), "{outcome:?}");
        }
    }
    for address in UNREACHABLE {
        // Also of what came in fragments.
        for size in [56, 4000] {
            let outcome = in_box(&scene, &format!("ping -n -c 1 -W 5 -s {size} {address}"));
            assert!(
                outcome.stdout.contains("nreachable"),
                "{address}, {size}: {outcome:?}"
            );
        }
    }
}

#[test]
fn traceroute_sees_every_hop() {
    let Some(scene) = Scene::new("") else { return };
    if !installed(&scene, "traceroute") {
        return;
    }
    let (_server, port) = scene.serve(Place::Far, Service::Echo);
    let ways: [[IpAddr; 3]; 2] = [
        [GATEWAYS[0], OUTSIDE4.into(), FAR4.into()],
        [GATEWAYS[1], OUTSIDE6.into(), FAR6.into()],
    ];
    for [gateway, router, far] in ways {
        for (how, hops) in [
            ("", vec![gateway, router, far]),
            ("-I", vec![gateway, router, far]),
            // R-TTL-1: hops behind the gateway are not seen by TCP, whose connections end there.
            (&format!("-T -p {port}"), vec![gateway, far]),
        ] {
            let outcome = in_box(&scene, &format!("traceroute -n -q 1 -w 5 -m 5 {how} {far}"));
            assert_eq!(outcome.code, 0, "{outcome:?}");
            assert_eq!(hops_of(&outcome.stdout), hops, "{how} {far}: {outcome:?}");
        }
    }
}

/// The addresses of a traceroute, in order.
fn hops_of(output: &str) -> Vec<IpAddr> {
    let lines = output.lines().skip(1);
    lines
        .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok())
        .collect()
}

/// Runs a program in `box`.
pub(super) fn in_box(scene: &Scene, words: &str) -> Outcome {
    scene.daemon.vswitch(&split(&format!("exec box -- {words}")))
}

/// Whether a program is there; says visibly if it is not.
pub(super) fn installed(scene: &Scene, program: &str) -> bool {
    let found = scene
        .outside
        .sh(Place::Host, &format!("command -v {program}"))
        .code
        == 0;
    if !found {
        skip(format_args!("{program} is not installed"));
    }
    found
}
