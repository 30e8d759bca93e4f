use super::*;
use crate::{
    IpVersion,
    tests::{
        mutilate,
        recipe::{DST4, DST6, Recipe, SRC4, SRC6},
    },
};

const PORTS: Option<Ports> = Some(Ports { src: 40000, dst: 80 });

#[test]
fn tcp_behind_tags_and_extension_headers() {
    for tags in 0..=2 {
        let recipe = Recipe {
            tags,
            ..Recipe::tcp(IpVersion::V4, 10)
        };
        let key = FlowKey {
            src: SRC4.into(),
            dst: DST4.into(),
            protocol: IpProtocol::TCP,
            ports: PORTS,
        };
        assert_eq!(FlowKey::from_frame(&recipe.complete()), Ok(Some(key)));
        assert_eq!(FlowKey::parse(&recipe.complete()[recipe.l3()..]), Ok(key));
        assert_eq!(key.version(), IpVersion::V4);

        let recipe = Recipe {
            tags,
            extensions: true,
            ..Recipe::tcp(IpVersion::V6, 10)
        };
        let key = FlowKey {
            src: SRC6.into(),
            dst: DST6.into(),
            protocol: IpProtocol::TCP,
            ports: PORTS,
        };
        assert_eq!(FlowKey::from_frame(&recipe.complete()), Ok(Some(key)));
        assert_eq!(key.version(), IpVersion::V6);
    }
}

#[test]
fn other_frames_have_no_flow() {
    let mut frame = Recipe::tcp(IpVersion::V4, 10).complete();
    frame[13] = 0x06;
    assert_eq!(FlowKey::from_frame(&frame), Ok(None));
    let three_tags = Recipe {
        tags: 3,
        ..Recipe::tcp(IpVersion::V4, 10)
    }
    .complete();
    assert_eq!(FlowKey::from_frame(&three_tags), Ok(None));
}

#[test]
fn a_version_other_than_the_ethertype_s_is_refused() {
    let mut frame = Recipe::tcp(IpVersion::V6, 10).complete();
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    assert_eq!(FlowKey::from_frame(&frame), Err(Malformed::Version));
    assert_eq!(FlowKey::parse(&[0x50; 40]), Err(Malformed::Version));
    assert_eq!(FlowKey::parse(&[]), Err(Malformed::Truncated));
}

#[test]
fn only_the_first_fragment_has_ports() {
    let mut packet = Recipe::udp(IpVersion::V4, 24).complete().split_off(14);
    packet[6..8].copy_from_slice(&[0x20, 0]);
    assert_eq!(
        FlowKey::parse(&packet).unwrap().ports,
        Some(Ports { src: 40000, dst: 53 })
    );
    packet[6..8].copy_from_slice(&[0x20, 1]);
    assert_eq!(FlowKey::parse(&packet).unwrap().ports, None);
    packet[6..8].copy_from_slice(&[0, 1]);
    assert_eq!(FlowKey::parse(&packet).unwrap().ports, None);

    let mut packet = Recipe::udp(IpVersion::V6, 24).complete().split_off(14);
    packet.splice(40..40, [17, 0, 0, 1, 0, 0, 0, 9]);
    packet[5] += 8;
    packet[6] = 44;
    let key = FlowKey::parse(&packet).unwrap();
    assert_eq!(
        (key.protocol, key.ports),
        (IpProtocol::UDP, Some(Ports { src: 40000, dst: 53 }))
    );
    packet[43] = 8;
    let key = FlowKey::parse(&packet).unwrap();
    assert_eq!((key.protocol, key.ports), (IpProtocol::UDP, None));
}

#[test]
fn an_echo_has_its_identifier_as_ports() {
    for (kind, ports) in [
        (
            8,
            Some(Ports {
                src: 0x1234,
                dst: 0x1234,
            }),
        ),
        (
            0,
            Some(Ports {
                src: 0x1234,
                dst: 0x1234,
            }),
        ),
        (3, None),
    ] {
        let mut packet = Recipe::udp(IpVersion::V4, 8).complete().split_off(14);
        packet[9] = 1;
        packet[20..28].copy_from_slice(&[kind, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(FlowKey::parse(&packet).unwrap().ports, ports, "type {kind}");
    }
    for (kind, ports) in [
        (
            128,
            Some(Ports {
                src: 0x1234,
                dst: 0x1234,
            }),
        ),
        (8, None),
        (135, None),
    ] {
        let mut packet = Recipe::udp(IpVersion::V6, 8).complete().split_off(14);
        packet[6] = 58;
        packet[40..48].copy_from_slice(&[kind, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(FlowKey::parse(&packet).unwrap().ports, ports, "type {kind}");
    }
}

#[test]
fn a_packet_that_ends_before_its_ports_is_refused() {
    let mut packet = Recipe::tcp(IpVersion::V4, 0).complete().split_off(14);
    packet[3] = 23;
    assert_eq!(FlowKey::parse(&packet), Err(Malformed::Truncated));
    packet[3] = 24;
    assert_eq!(FlowKey::parse(&packet).map(|key| key.ports), Ok(PORTS));
}

#[test]
fn a_quoted_packet_has_the_flow_of_the_whole() {
    for version in [IpVersion::V4, IpVersion::V6] {
        let packet = Recipe::tcp(version, 1000).complete().split_off(14);
        let header_len = if version == IpVersion::V4 { 20 } else { 40 };
        let quoted = &packet[..header_len + 8];
        assert_eq!(FlowKey::parse(quoted), Err(Malformed::Length));
        assert_eq!(FlowKey::parse_quoted(quoted), FlowKey::parse(&packet));
        assert_eq!(
            FlowKey::parse_quoted(&quoted[..header_len + 3]),
            Err(Malformed::Truncated)
        );
    }
}

#[test]
fn parsing_survives_mutilation() {
    for recipe in [
        Recipe {
            tags: 2,
            extensions: true,
            ..Recipe::tcp(IpVersion::V6, 10)
        },
        Recipe::udp(IpVersion::V4, 10),
    ] {
        mutilate(&recipe.complete(), recipe.header_len(), |frame| {
            let _ = FlowKey::from_frame(frame);
            if let Some(packet) = frame.get(recipe.l3()..) {
                let _ = (FlowKey::parse(packet), FlowKey::parse_quoted(packet));
            }
        });
    }
}
