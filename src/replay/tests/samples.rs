//! Captures and configurations for the other tests.

use std::net::Ipv4Addr;

use vswitch_testkit::frames::{Packet, mac};

use crate::replay::{
    Emitted, Fate, Report, RunError,
    capture::{LinkType, Reader, Timestamp, Writer},
    config::{Config, RawConfig},
    run,
};

/// A host inside.
pub(super) const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The router outside.
pub(super) const X: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A server.
pub(super) const S: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// What became of a packet, without the packet.
#[derive(Debug, PartialEq)]
pub(super) struct Played {
    pub(super) side: Option<String>,
    pub(super) fate: Fate,
    pub(super) emitted: Vec<Emitted>,
}

/// A capture of these packets: interface, nanoseconds, bytes.
pub(super) fn capture(interfaces: &[(&str, LinkType)], packets: &[(usize, u64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).expect("a vector takes everything");
    let add = |&(name, link)| writer.add_interface(name, link).expect("as above");
    let ids: Vec<_> = interfaces.iter().map(add).collect();
    for (interface, time, bytes) in packets {
        writer
            .write(ids[*interface], Timestamp(*time), [&[], bytes])
            .expect("as above");
    }
    writer.finish().expect("as above")
}

/// One network, `lan`, and the outside, and what else is given: fields before, tables behind.
pub(super) fn config(fields: &str, tables: &str) -> Config {
    let text = format!(
        r#"
        {fields}
        [outside]
        addresses = ["{X}"]
        prefixes = ["198.51.100.0/24"]
        {tables}
        [[network]]
        name = "lan"
        prefixes = ["10.0.0.0/24"]
        gateways = ["10.0.0.1"]
        "#
    );
    let raw: RawConfig = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Config::try_from(raw).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Plays a capture to its end.
pub(super) fn play(config: &Config, capture: &[u8]) -> Result<(Vec<Played>, Report), RunError> {
    let mut played = Vec::new();
    let mut reader = Reader::new(capture)?;
    let report = run(config, &mut reader, |step| {
        played.push(Played {
            side: step.side.map(|side| side.name.clone()),
            fate: step.fate,
            emitted: step.emitted.clone(),
        });
        Ok(())
    })?;
    Ok((played, report))
}

/// A datagram as a frame.
pub(super) fn udp(src: Ipv4Addr, dst: Ipv4Addr, from: u16, to: u16) -> Vec<u8> {
    Packet::udp_ports(src, dst, from, to)
        .frame(mac(2), mac(1))
        .bytes()
}
