//! §4: 802.1Q.

use vswitch_switch::{
    AddPortError, DropReason, PortConfig, PortKind, PortVlans, TagOp, VlanFiltering, VlanSet,
};
use vswitch_testkit::frames::{SERVICE_VLAN, VLAN};
use vswitch_wire::{EtherType, VlanId, VlanTag};

use crate::scenario::*;

fn vlan(id: u16) -> VlanId {
    VlanId::new(id).expect("a valid id")
}

fn access(id: u16) -> PortVlans {
    PortVlans::Access(vlan(id))
}

fn trunk(allowed: &[u16], native: Option<u16>) -> PortVlans {
    PortVlans::Trunk {
        allowed: allowed.iter().copied().map(vlan).collect(),
        native: native.map(vlan),
    }
}

/// p1 access 10, p2 trunk 10,20, p3 access 20, p4 native 10 and trunk 20.
fn filtering() -> Scenario {
    let ports = [
        access(10),
        trunk(&[10, 20], None),
        access(20),
        trunk(&[20], Some(10)),
    ];
    Scenario::with_ports(
        |config| {
            config.vlan_filtering = VlanFiltering::On {
                tpid: EtherType::VLAN,
            }
        },
        ports.map(|vlans| PortConfig {
            vlans,
            ..PortConfig::uplink()
        }),
    )
}

fn priority(pcp: u8, vid: u16) -> u16 {
    (u16::from(pcp) << 13) | vid
}

fn push(vid: u16) -> TagOp {
    TagOp::Push(VlanTag::new(vlan(vid)))
}

#[test]
fn b_vl_1_without_filtering_tags_are_payload() {
    let mut net = Scenario::new();
    let tagged = frame(M1, BC).tagged_raw(VLAN, priority(3, 7));
    assert_eq!(
        net.out_tagged(1, &tagged),
        [(2, TagOp::Keep), (3, TagOp::Keep), (4, TagOp::Keep)]
    );
    assert_eq!(net.table(), [(0, M1, 1)]);
    assert_eq!(
        net.out(2, &frame(M2, M1).tagged(9)),
        [1],
        "one database for all tags"
    );
}

#[test]
fn b_vl_2_and_3_ingress_and_egress_as_the_table_says() {
    let bc = || frame(M1, BC);
    let keep_pcp = |vid| {
        TagOp::Replace(VlanTag {
            pcp: 5,
            dei: false,
            vid,
        })
    };
    let cases = [
        ("access untagged", 1, bc(), vec![(2, push(10)), (4, TagOp::Keep)]),
        (
            "access, priority only",
            1,
            bc().tagged_raw(VLAN, priority(5, 0)),
            vec![(2, keep_pcp(10)), (4, TagOp::Pop)],
        ),
        (
            "trunk tagged 20",
            2,
            bc().tagged_raw(VLAN, priority(6, 20)),
            vec![(3, TagOp::Pop), (4, TagOp::Keep)],
        ),
        (
            "trunk tagged 10 with an inner tag",
            2,
            bc().tagged(77).tagged(10),
            vec![(1, TagOp::Pop), (4, TagOp::Pop)],
        ),
        ("native untagged", 4, bc(), vec![(1, TagOp::Keep), (2, push(10))]),
        (
            "native, tagged all the same",
            4,
            bc().tagged(10),
            vec![(1, TagOp::Pop), (2, TagOp::Keep)],
        ),
        (
            "trunk with native, tagged 20",
            4,
            bc().tagged(20),
            vec![(2, TagOp::Keep), (3, TagOp::Pop)],
        ),
        ("access 20 untagged", 3, bc(), vec![(2, push(20)), (4, push(20))]),
    ];
    for (name, port, frame, expected) in cases {
        assert_eq!(filtering().out_tagged(port, &frame), expected, "{name}");
    }
}

#[test]
fn b_vl_2_frames_of_other_vlans_are_refused() {
    let bc = || frame(M1, BC);
    let cases = [
        ("access, own tag", 1, bc().tagged(10), DropReason::VlanNotAllowed),
        (
            "access, other tag",
            1,
            bc().tagged(20),
            DropReason::VlanNotAllowed,
        ),
        (
            "trunk without native, untagged",
            2,
            bc(),
            DropReason::VlanUntagged,
        ),
        (
            "trunk without native, priority only",
            2,
            bc().tagged(0),
            DropReason::VlanUntagged,
        ),
        (
            "trunk, not a member",
            2,
            bc().tagged(30),
            DropReason::VlanNotAllowed,
        ),
        ("VID 4095", 2, bc().tagged(4095), DropReason::VlanNotAllowed),
        (
            "VID 4095 on an access port",
            1,
            bc().tagged(4095),
            DropReason::VlanNotAllowed,
        ),
        (
            "tag cut short",
            1,
            bc().ethertype(VLAN).payload([0, 10]),
            DropReason::Malformed,
        ),
    ];
    for (name, port, frame, reason) in cases {
        let mut net = filtering();
        net.refused_unlearnt(port, &frame, reason);
        assert_eq!(net.counters(port).dropped(reason), 1, "{name}");
    }
}

#[test]
fn b_vl_3_known_unicast_leaves_only_through_members() {
    let mut net = filtering();
    net.out(2, &frame(M2, BC).tagged(10));
    assert_eq!(net.out_tagged(1, &frame(M1, M2)), [(2, push(10))]);
    assert_eq!(net.out(3, &frame(M3, M2)), [2, 4], "unknown in VLAN 20");
    net.configure(4, |port| port.hairpin = vswitch_switch::Hairpin::Off);
    net.switch.pin(net.id(1), None, M4).expect("a free address");
    assert_eq!(
        net.refused(3, &frame(M3, M4)),
        DropReason::EgressVlan,
        "p1 is not in VLAN 20"
    );
}

#[test]
fn b_vl_4_only_tags_of_the_configured_protocol_count() {
    let mut net = filtering();
    let service = frame(M1, BC).tagged_raw(SERVICE_VLAN, 20);
    assert_eq!(net.out_tagged(1, &service), [(2, push(10)), (4, TagOp::Keep)]);
    let mut provider = Scenario::with_ports(
        |config| {
            config.vlan_filtering = VlanFiltering::On {
                tpid: EtherType::SERVICE_VLAN,
            }
        },
        [access(10), trunk(&[10], None)].map(|vlans| PortConfig {
            vlans,
            ..PortConfig::uplink()
        }),
    );
    assert_eq!(provider.out_tagged(1, &frame(M1, BC).tagged(20)), [(2, push(10))]);
    assert_eq!(
        provider.out_tagged(2, &frame(M2, BC).tagged_raw(SERVICE_VLAN, 10)),
        [(1, TagOp::Pop)]
    );
}

#[test]
fn b_vl_6_tagged_frames_may_exceed_the_mtu_by_their_tags() {
    let mut net = filtering();
    let full = || frame(M1, BC).payload(vec![0; 1500]);
    assert_eq!(full().tagged(10).bytes().len(), 1518);
    assert_eq!(net.out(2, &full().tagged(10)), [1, 4]);
    assert_eq!(net.out(2, &full().tagged(77).tagged(10)), [1, 4]);
    assert_eq!(
        net.out(1, &full()),
        [2, 4],
        "a tag that is pushed counts as little"
    );
    let larger = frame(M1, BC).payload(vec![0; 1501]);
    assert_eq!(net.refused(2, &larger.tagged(10)), DropReason::Mtu);
}

#[test]
fn b_vl_8_a_container_cannot_reach_other_vlans_by_two_tags() {
    let container = PortConfig {
        vlans: access(10),
        ..PortConfig::unguarded()
    };
    let mut net = Scenario::with_ports(
        |config| {
            config.vlan_filtering = VlanFiltering::On {
                tpid: EtherType::VLAN,
            }
        },
        [
            container.clone(),
            PortConfig {
                vlans: trunk(&[10, 20], None),
                ..PortConfig::uplink()
            },
        ],
    );
    for outer in [10, 20, 0] {
        net.refused_unlearnt(
            1,
            &frame(M1, BC).tagged(20).tagged(outer),
            DropReason::VlanNotAllowed,
        );
    }
    let native = PortConfig {
        vlans: trunk(&[20], Some(10)),
        ..PortConfig::uplink()
    };
    let clash = AddPortError::NativeVlanOfContainers(vlan(10));
    assert_eq!(net.switch.add_port(net.clock.now(), native.clone()), Err(clash));
    let mut other_order = Scenario::with_ports(
        |config| {
            config.vlan_filtering = VlanFiltering::On {
                tpid: EtherType::VLAN,
            }
        },
        [native],
    );
    assert_eq!(
        other_order.switch.add_port(other_order.clock.now(), container),
        Err(clash)
    );
}

#[test]
fn the_switchs_own_address_is_the_gateways_in_every_vlan() {
    let mut net = filtering();
    let gateway = net.add(PortConfig {
        vlans: access(10),
        kind: PortKind::Gateway,
        ..PortConfig::gateway()
    });
    assert_eq!(
        net.out_tagged(2, &frame(M2, SWITCH_MAC).tagged(10)),
        [(gateway, TagOp::Pop)]
    );
    assert_eq!(net.refused(3, &frame(M3, SWITCH_MAC)), DropReason::EgressVlan);
    assert_eq!(net.out(gateway, &frame(SWITCH_MAC, M2)), [2]);
    net.refused_unlearnt(3, &frame(SWITCH_MAC, BC), DropReason::OwnAddress);
}

#[test]
fn a_vlan_set_holds_what_was_put_in() {
    let mut set = VlanSet::new();
    for id in [1, 63, 64, 4094] {
        set.insert(vlan(id));
    }
    set.remove(vlan(64));
    assert_eq!(set.iter().map(VlanId::value).collect::<Vec<_>>(), [1, 63, 4094]);
    assert_eq!(VlanSet::all().iter().count(), 4094);
}
