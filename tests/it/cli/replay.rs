//! `vswitch replay`: a capture through the NAT engine, without a daemon.

use std::{fs, path::PathBuf, process::Command as Program};

use tempfile::TempDir;

use super::{outcome, vswitch};
use crate::support::skip;

/// Query and answer, as raw IP on `inside` and `outside` (nat-conformance §16, G1).
const CAPTURE: &[u8] = include_bytes!("../../data/nat/g01-udp/in.pcap");
const CONFIG: &str = include_str!("../../data/nat/g01-udp/config.toml");

/// A directory with a configuration and a capture, and the arguments that play it.
struct Stage {
    directory: TempDir,
}

impl Stage {
    fn new(config: &str, capture: &[u8]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stage = Self { directory };
        fs::write(stage.path("config.toml"), config).expect("it is ours");
        fs::write(stage.path("in.pcap"), capture).expect("it is ours");
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Exit code, standard output and standard error; the directory is `DIR` in them.
    fn replay(&self, more: &[&str]) -> (i32, String, String) {
        let mut command = vswitch();
        command
            .arg("replay")
            .arg("--config")
            .arg(self.path("config.toml"));
        command.arg("--in").arg(self.path("in.pcap")).args(more);
        command.current_dir(self.directory.path());
        let (code, stdout, stderr) = outcome(&mut command);
        let directory = self.directory.path().display().to_string();
        (code, stdout, stderr.replace(&directory, "DIR"))
    }
}

#[test]
fn what_leaves_is_written_and_each_packet_explained() {
    let stage = Stage::new(CONFIG, CAPTURE);
    let (code, stdout, stderr) = stage.replay(&["--out", "out.pcap", "-v", "--stats"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (lines, counters) = stdout.split_once("COUNTER").expect("counters follow");
    assert_eq!(
        lines,
        "\
1 0.000000 inside udp 10.0.0.2:5000>198.51.100.2:53 ttl 64 len 29 => outside udp 198.51.100.1:5000>198.51.100.2:53 ttl 63 len 29
2 0.100000 outside udp 198.51.100.2:53>198.51.100.1:5000 ttl 64 len 29 => inside udp 198.51.100.2:53>10.0.0.2:5000 ttl 63 len 29
"
    );
    let counter = |name: &str| {
        let line = counters.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned())
    };
    for (name, value) in [
        ("packets ", "2"),
        ("emitted ", "2"),
        ("forwarded ", "2"),
        ("created ", "1"),
    ] {
        assert_eq!(counter(name).as_deref(), Some(value), "{name}in\n{counters}");
    }
    assert_eq!(counter("invalid "), None, "zeros are not printed");

    // What was written can be played again: interfaces are named for their sides.
    fs::copy(stage.path("out.pcap"), stage.path("in.pcap")).expect("it is there");
    let (_, stdout, _) = stage.replay(&["-v"]);
    let starts: Vec<_> = stdout
        .lines()
        .filter_map(|line| line.split(" udp ").next())
        .collect();
    assert_eq!(starts, ["1 0.000000 outside", "2 0.100000 inside"]);

    // Others can read it, too.
    let Ok(tcpdump) = Program::new("tcpdump")
        .args(["-nr"])
        .arg(stage.path("out.pcap"))
        .output()
    else {
        return skip(format_args!("there is no tcpdump to read the capture"));
    };
    let text = String::from_utf8_lossy(&tcpdump.stdout);
    assert!(text.contains("198.51.100.1.5000 > 198.51.100.2.53:"), "{text}");
    assert!(text.contains("198.51.100.2.53 > 10.0.0.2.5000:"), "{text}");
}

#[test]
fn counters_are_json_for_scripts() {
    let (code, stdout, stderr) = Stage::new(CONFIG, CAPTURE).replay(&["--stats", "--format", "json"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let counters: serde_json::Value = serde_json::from_str(&stdout).expect("this is JSON");
    assert_eq!(
        (&counters["packets"], &counters["forwarded"]),
        (&2.into(), &2.into())
    );
    assert_eq!(
        (&counters["skipped_cut"], &counters["table_full"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn a_drop_says_why() {
    let config = CONFIG.replace("10.0.0.", "10.9.9.");
    let (code, stdout, stderr) = Stage::new(&config, CAPTURE).replay(&["-v"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let ends: Vec<_> = stdout
        .lines()
        .filter_map(|line| line.split(" => ").nth(1))
        .collect();
    assert_eq!(ends, ["drop spoofed", "drop unsolicited"], "{stdout}");
}

#[test]
fn all_that_is_wrong_with_a_configuration_is_told() {
    let config =
        "mapping = \"any\"\nports = \"9-8\"\n[[network]]\nname = \"lan\"\nprefixes = [\"10.0.0.1/24\"]";
    let (code, stdout, stderr) = Stage::new(config, CAPTURE).replay(&["--out", "out.pcap"]);
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "\
vswitch: DIR/config.toml is not valid:
mapping: \"any\" is none of endpoint-independent, overlapping
ports: \"9-8\" is neither a port nor a range first-last, from 1 to 65535
network[0].prefixes: 10.0.0.1/24 has host bits set: it should be 10.0.0.0/24
"
    );
    let (code, _, stderr) = Stage::new("maping = 1", CAPTURE).replay(&[]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("DIR/config.toml: ") && stderr.contains("maping"),
        "{stderr}"
    );
}

#[test]
fn a_capture_that_is_cut_is_played_as_far_as_it_goes() {
    let stage = Stage::new(CONFIG, &CAPTURE[..CAPTURE.len() - 5]);
    let (code, stdout, stderr) = stage.replay(&["--out", "out.pcap", "-v"]);
    assert_eq!((code, stdout.lines().count()), (1, 1), "{stdout}");
    assert_eq!(
        stderr,
        "vswitch: DIR/in.pcap: packet 2: the file ends in the middle of it; packets before it are whole\n"
    );
    let written = fs::read(stage.path("out.pcap")).expect("what came before was written");
    assert!(written.ends_with(b"x\0\x4c\0\0\0"), "{written:02x?}");
}

#[test]
fn files_that_are_something_else_are_refused_by_name() {
    let stage = Stage::new(CONFIG, b"no capture at all");
    let (code, _, stderr) = stage.replay(&[]);
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "vswitch: DIR/in.pcap: its beginning: this is no capture; give a file in pcap or pcapng format\n"
    );
    stage.replay(&["--out", "out.pcap"]);
    assert!(!stage.path("out.pcap").exists(), "there is nothing to write");
    let (code, _, stderr) = Stage::new(CONFIG, CAPTURE).replay(&["--out", "/proc/nothing/out.pcap"]);
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("vswitch: create /proc/nothing/out.pcap: "),
        "{stderr}"
    );
    fs::remove_file(stage.path("in.pcap")).expect("it is ours");
    let (code, _, stderr) = stage.replay(&[]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("vswitch: open DIR/in.pcap: "), "{stderr}");
}

#[test]
fn the_capture_is_not_overwritten_by_its_replay() {
    let stage = Stage::new(CONFIG, CAPTURE);
    let (code, _, stderr) = stage.replay(&["--out", "./in.pcap"]);
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "vswitch: ./in.pcap is the capture to play; give --out another name\n"
    );
    assert_eq!(fs::read(stage.path("in.pcap")).expect("it is there"), CAPTURE);
}

#[test]
fn what_makes_a_replay_incomplete_is_warned_of() {
    // Classic, Ethernet: a packet of 100 bytes of which 14 were captured.
    let word = |value: u32| value.to_le_bytes();
    let header = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1].map(word).concat();
    let record = [1, 0, 14, 100].map(word).concat();
    let frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let (code, _, stderr) = Stage::new(CONFIG, &[&header[..], &record, &frame].concat()).replay(&[]);
    assert_eq!(code, 0);
    assert_eq!(
        stderr,
        "vswitch: warning: 1 of 1 packets were skipped: the capture has only its beginning (capture with -s 0)\n"
    );
}
