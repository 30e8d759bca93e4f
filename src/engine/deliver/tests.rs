use vswitch_switch::TagOp;
use vswitch_wire::{EtherType, VlanTag};

use super::{super::tests::super_frame, *};

fn edited(op: TagOp, protocol: EtherType, frame: &[u8], offload: &Offload) -> (VnetHeader, Vec<u8>) {
    let edit = TagEdit::new(op, protocol, frame, offload).expect("the frame is long enough");
    (edit.vnet, [edit.addresses, edit.tag(), edit.rest].concat())
}

#[test]
fn b_vl_5_a_tag_moves_the_offsets_of_a_super_frame_with_it() {
    let (vnet, frame) = super_frame(1, 2, 5_000);
    let offload = vnet.validate(&frame).expect("consistent");
    let tag = VlanTag::from_tci(0x6007);
    for protocol in [EtherType::VLAN, EtherType::SERVICE_VLAN] {
        let (pushed_vnet, pushed) = edited(TagOp::Push(tag), protocol, &frame, &offload);
        let wire_tag = [&protocol.value().to_be_bytes()[..], &[0x60, 0x07]].concat();
        assert_eq!(pushed, [&frame[..12], &wire_tag, &frame[12..]].concat());
        let moved = pushed_vnet.validate(&pushed).expect("the offsets moved too");
        assert_eq!(Some(moved), offload.shifted(4));

        let other = VlanTag::from_tci(0x0008);
        let (replaced_vnet, replaced) = edited(TagOp::Replace(other), protocol, &pushed, &moved);
        let wire_tag = [&protocol.value().to_be_bytes()[..], &[0x00, 0x08]].concat();
        assert_eq!(replaced, [&frame[..12], &wire_tag, &frame[12..]].concat());
        assert_eq!(replaced_vnet, pushed_vnet);

        assert_eq!(
            edited(TagOp::Pop, protocol, &replaced, &moved),
            (offload.header(), frame.clone())
        );
    }
}

#[test]
fn b_vl_5_a_frame_too_short_for_its_tag_is_none() {
    for len in 0..16 {
        let short = vec![0; len];
        for op in [TagOp::Pop, TagOp::Replace(VlanTag::from_tci(1))] {
            assert!(TagEdit::new(op, EtherType::VLAN, &short, &Offload::NONE).is_none());
        }
    }
}
