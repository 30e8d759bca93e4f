//! Captures of others through the engine: what comes out must be what came out there.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use vswitch_testkit::compare::{Ignored, differences};

use crate::replay::{capture::Reader, config::Config, explain, link, run};

/// Packets from the IP header on, by the name of the side where they leave.
type Sides = BTreeMap<String, Vec<Vec<u8>>>;

#[test]
fn each_capture_comes_out_as_it_did_there() {
    let mut directories: Vec<PathBuf> = fs::read_dir(fixtures())
        .expect("the fixtures are there")
        .map(|entry| entry.expect("it can be read").path())
        .filter(|path| path.is_dir())
        .collect();
    directories.sort();
    assert!(directories.len() >= 12, "the golden vectors alone are twelve");
    let failures: Vec<String> = directories
        .iter()
        .filter_map(|directory| play(directory))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} fixtures differ\n\n{}",
        failures.len(),
        directories.len(),
        failures.join("\n")
    );
}

/// What differs, with a line for each packet that went in.
fn play(directory: &Path) -> Option<String> {
    let name = directory
        .file_name()
        .expect("it has one")
        .to_string_lossy()
        .into_owned();
    let config =
        Config::load(&directory.join("config.toml")).unwrap_or_else(|error| panic!("{name}: {error}"));
    let expected = read(&directory.join("out.pcap"));
    let mut actual = Sides::new();
    let mut log = Vec::new();
    let mut start = None;
    let mut reader = open(&directory.join("in.pcap"));
    run(&config, &mut reader, |step| {
        for emitted in &step.emitted {
            let side = config.sides.iter().find(|side| side.zone == emitted.zone);
            let name = side.expect("packets leave on a side").name.clone();
            actual.entry(name).or_default().push(emitted.packet.clone());
        }
        explain(&mut log, &config, *start.get_or_insert(step.time), step)
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

fn open(path: &Path) -> Reader<BufReader<File>> {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Reader::new(BufReader::new(file)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nat")
}
