//! Captures of others through the engine: what comes out must be what came out there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use vswitch_nat::Config as EngineConfig;
use vswitch_testkit::compare::{Ignored, differences};

use crate::replay::{capture::Reader, config::Config, explain, link, run};

/// Packets from the IP header on, by the name of the side where they leave.
type Sides = BTreeMap<String, Vec<Vec<u8>>>;

#[test]
fn each_capture_comes_out_as_it_did_there() {
    let directories = directories();
    assert!(directories.len() >= 12, "the golden vectors alone are twelve");
    let failures: Vec<String> = directories
        .iter()
        .filter_map(|directory| play(&load(directory), directory, directory))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} fixtures differ\n\n{}",
        failures.len(),
        directories.len(),
        failures.join("\n")
    );
}

/// What profiles have in common is most of what they do: only `g09-hairpin` shows a choice of one of them.
#[test]
fn real_exchanges_come_out_alike_in_every_profile() {
    let directories = directories()
        .into_iter()
        .filter(|path| name(path).starts_with("k-"));
    for directory in directories {
        for profile in [EngineConfig::standard, EngineConfig::rfc, EngineConfig::linux] {
            let config = Config {
                engine: profile(1),
                ..load(&directory)
            };
            let differs = play(&config, &directory, &directory);
            assert_eq!(differs, None, "{:?}", config.engine);
        }
    }
}

#[test]
fn what_comes_out_otherwise_is_told() {
    let [v4, v6] = ["k-curl", "k-curl6"].map(|name| fixtures().join(name));
    let text = play(&load(&v4), &v4, &v6).expect("the one is IPv4, the other IPv6");
    for part in [
        "--- k-curl, leaving on outside\npacket 1:\n",
        "ip.src: expected 2001:db8:b::1, got 198.51.100.1\n",
        "1 0.000000 inside tcp 10.0.0.2:",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

/// Plays the capture of a fixture and compares with what another expects. What differs, with a line for each packet that
/// went in.
fn play(config: &Config, directory: &Path, other: &Path) -> Option<String> {
    let name = name(directory);
    let expected = read(&other.join("out.pcap"));
    assert!(!expected.is_empty(), "{name} expects something");
    let mut actual = Sides::new();
    let mut log = Vec::new();
    let mut start = None;
    let mut reader = open(&directory.join("in.pcap"));
    run(config, &mut reader, |step| {
        for emitted in &step.emitted {
            let side = config.sides.iter().find(|side| side.zone == emitted.zone);
            let name = side.expect("packets leave on a side").name.clone();
            actual.entry(name).or_default().push(emitted.packet.clone());
        }
        explain(&mut log, config, *start.get_or_insert(step.time), step)
    })
    .unwrap_or_else(|error| panic!("{name}: {error}"));
    let ignored = ignored(directory);
    let mut text = String::new();
    for side in &config.sides {
        let of = |sides: &Sides| sides.get(&side.name).cloned().unwrap_or_default();
        if let Some(found) = differences(&of(&expected), &of(&actual), &ignored) {
            text += &format!("--- {name}, leaving on {}\n{found}", side.name);
        }
    }
    (!text.is_empty()).then(|| text + &String::from_utf8_lossy(&log))
}

pub(super) fn directories() -> Vec<PathBuf> {
    let entries = fs::read_dir(fixtures()).expect("the fixtures are there");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    let mut directories: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    directories.sort();
    directories
}

pub(super) fn name(directory: &Path) -> String {
    let name = directory.file_name().expect("a directory of ours has one");
    name.to_string_lossy().into_owned()
}

pub(super) fn load(directory: &Path) -> Config {
    Config::load(&directory.join("config.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// The packets of a capture.
fn read(path: &Path) -> Sides {
    let mut sides = Sides::new();
    let mut reader = open(path);
    while let Some(record) = reader
        .read()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    {
        let envelope = link::open(record.interface.link, record.bytes).expect("a known link type");
        let packet = &record.bytes[envelope.expect("it carries IP").offset..];
        let name = record.interface.name.clone().expect("interfaces have names");
        sides
            .entry(name)
            .or_default()
            .push(link::trimmed(packet).to_vec());
    }
    sides
}

fn ignored(directory: &Path) -> Vec<Ignored> {
    let text = fs::read_to_string(directory.join("ignore")).unwrap_or_default();
    let named = |name| Ignored::named(name).unwrap_or_else(|| panic!("{name} cannot be ignored"));
    text.lines().map(named).collect()
}

pub(super) fn open(path: &Path) -> Reader<BufReader<File>> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Reader::new(BufReader::new(file)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nat")
}
