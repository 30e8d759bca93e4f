//! Lines, beside what conntrack 1.4.7 prints of the kernel's entries, and the words that filters become.

use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::types::ConnectionEntry,
    cli::args::{Cli, Command},
};

#[test]
fn a_connection_is_printed_as_conntrack_prints_it() {
    assert_eq!(
        line(&masqueraded()),
        "tcp      6 431999 ESTABLISHED src=10.0.0.2 dst=198.51.100.2 sport=5000 dport=80 zone-orig=1 packets=3 bytes=180 \
         src=198.51.100.2 dst=198.51.100.1 sport=80 dport=5000 packets=2 bytes=120 [ASSURED] mark=0 use=1 \
         network-orig=lan sandbox-orig=web\n"
    );
}

#[test]
fn what_was_not_answered_says_so() {
    let mut connection = masqueraded();
    connection["Protocol"] = json!("udp");
    connection["ProtocolNumber"] = json!(17);
    connection["State"] = Value::Null;
    connection["TimeoutSeconds"] = json!(29.9);
    connection["Replied"] = json!(false);
    connection["Assured"] = json!(false);
    connection["Original"]["Sandbox"] = json!("");
    assert_eq!(
        line(&connection),
        "udp      17 29 src=10.0.0.2 dst=198.51.100.2 sport=5000 dport=80 zone-orig=1 packets=3 bytes=180 [UNREPLIED] \
         src=198.51.100.2 dst=198.51.100.1 sport=80 dport=5000 packets=2 bytes=120 mark=0 use=1 network-orig=lan\n"
    );
}

#[test]
fn queries_have_type_code_and_identifier() {
    let mut connection = masqueraded();
    connection["Protocol"] = json!("icmpv6");
    connection["ProtocolNumber"] = json!(58);
    connection["State"] = Value::Null;
    connection["Assured"] = json!(false);
    for (side, source, destination, kind) in [
        ("Original", "fd00::2", "2001:db8::2", 128),
        ("Reply", "2001:db8::2", "2001:db8::1", 129),
    ] {
        let side = &mut connection[side];
        side["Source"] = json!(source);
        side["Destination"] = json!(destination);
        side["SourcePort"] = Value::Null;
        side["DestinationPort"] = Value::Null;
        side["Icmp"] = json!({"Type": kind, "Code": 0, "ID": 77});
    }
    let expected = "icmpv6   58 431999 src=fd00::2 dst=2001:db8::2 type=128 code=0 id=77 zone-orig=1 packets=3 bytes=180 \
                    src=2001:db8::2 dst=2001:db8::1 type=129 code=0 id=77 packets=2 bytes=120 mark=0 use=1 \
                    network-orig=lan sandbox-orig=web\n";
    assert_eq!(line(&connection), expected);
    let extended = Style {
        is_extended: true,
        ..Style::default()
    };
    let printed = printed(|out| print_connection(out, &read(&connection), extended));
    assert_eq!(printed, format!("ipv6     10 {expected}"));
}

#[test]
fn protocols_without_ports_have_addresses_only() {
    let mut connection = masqueraded();
    connection["Protocol"] = json!("unknown");
    connection["ProtocolNumber"] = json!(89);
    connection["State"] = Value::Null;
    for side in ["Original", "Reply"] {
        connection[side]["SourcePort"] = Value::Null;
    }
    let text = line(&connection);
    assert!(
        text.starts_with("unknown  89 431999 src=10.0.0.2 dst=198.51.100.2 zone-orig=1 packets=3"),
        "{text}"
    );
}

#[test]
fn both_sides_of_a_connection_inside_have_a_place() {
    let mut connection = masqueraded();
    connection["Reply"]["Zone"] = json!(2);
    connection["Reply"]["Network"] = json!("dmz");
    connection["Reply"]["Sandbox"] = json!("db");
    let text = line(&connection);
    assert!(text.contains(" zone-reply=2 "), "{text}");
    assert!(
        text.ends_with(" network-orig=lan sandbox-orig=web network-reply=dmz sandbox-reply=db\n"),
        "{text}"
    );
}

#[test]
fn names_cannot_steer_the_terminal() {
    let mut connection = masqueraded();
    connection["Original"]["Sandbox"] = json!("a\u{1b}[2J\nb");
    connection["State"] = json!("X\nY");
    assert_eq!(line(&connection).lines().count(), 1);
    assert!(!line(&connection).contains('\u{1b}'));
}

#[test]
fn a_number_that_is_no_time_is_none_left() {
    let mut connection = masqueraded();
    connection["TimeoutSeconds"] = json!(-1.0);
    assert!(line(&connection).starts_with("tcp      6 0 ESTABLISHED "));
}

#[test]
fn events_are_printed_as_conntrack_prints_them() {
    let common = "src=10.0.0.2 dst=198.51.100.2 sport=5000 dport=80 zone-orig=1 packets=3 bytes=180 \
                  src=198.51.100.2 dst=198.51.100.1 sport=80 dport=5000 packets=2 bytes=120 [ASSURED] network-orig=lan \
                  sandbox-orig=web\n";
    for (kind, begin) in [
        ("new", "    [NEW] tcp      6 431999 ESTABLISHED "),
        ("update", " [UPDATE] tcp      6 431999 ESTABLISHED "),
        ("destroy", "[DESTROY] tcp      6 431999 ESTABLISHED "),
    ] {
        assert_eq!(event(kind, masqueraded()), format!("{begin}{common}"));
    }
    let mut expired = masqueraded();
    expired["TimeoutSeconds"] = json!(0.0);
    assert_eq!(
        event("destroy", expired),
        format!("[DESTROY] tcp      6 ESTABLISHED {common}")
    );
    assert_eq!(event("lost", json!({"Count": 3})), "   [LOST] 3 events\n");
}

#[test]
fn events_can_have_their_time() {
    let mut value = masqueraded();
    value["Type"] = json!("new");
    let event: ConnectionEvent = serde_json::from_value(value).expect("an event");
    let style = Style {
        is_timed: true,
        ..Style::default()
    };
    let now = Moment(Duration::new(1_700_000_000, 1_234_000));
    let text = printed(|out| print_event(out, &event, style, now));
    assert!(text.starts_with("[1700000000.001234]\t    [NEW] tcp "), "{text}");
}

#[test]
fn filters_go_to_the_daemon_in_its_words() {
    for (flags, expected) in [
        ("-L", ""),
        ("-L conntrack -f ipv6", "family=ipv6"),
        (
            "-D -p tcp --sport 5000 --dport 80",
            "protocol=tcp orig_sport=5000 orig_dport=80",
        ),
        (
            "-L --orig-port-src 1 --reply-port-src 2 --reply-port-dst 3",
            "orig_sport=1 reply_sport=2 reply_dport=3",
        ),
        (
            "-L -s 10.0.0.0/8 -d 192.0.2.1",
            "orig_src=10.0.0.0/8 orig_dst=192.0.2.1",
        ),
        (
            "-E -r 192.0.2.1 -q 192.0.2.2",
            "reply_src=192.0.2.1 reply_dst=192.0.2.2",
        ),
        (
            "--delete --src 10.0.0.2 --state TIME_WAIT",
            "orig_src=10.0.0.2 state=TIME_WAIT",
        ),
        (
            "--dump --network lan --container web -u ASSURED",
            "status=assured network=lan sandbox=web",
        ),
        ("-L -u SEEN_REPLY", "status=seen_reply"),
    ] {
        let args = parse(flags).expect(flags);
        let pairs = conditions(&args.filter).into_iter();
        let pairs: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(pairs.join(" "), expected, "{flags}");
    }
}

#[test]
fn commands_contradict_each_other_and_most_flags_belong_to_some() {
    for wrong in [
        "",
        "-L -D",
        "-F -p tcp",
        "-C -s 10.0.0.2",
        "-F -o json",
        "-L -e NEW",
        "-L --sport 65536",
        "-L other",
    ] {
        parse(wrong).expect_err(wrong);
    }
    let args = parse("-E -e NEW,DESTROY -o timestamp,extended").expect("conntrack takes it");
    assert_eq!(kinds(&args.event_mask).as_deref(), Some("new,destroy"));
    let both = Style {
        is_extended: true,
        is_timed: true,
    };
    assert_eq!((Style::of(&args.output), args.is_json()), (both, false));
    assert_eq!(kinds(&parse("-E -e ALL").expect("all").event_mask), None);
    assert_eq!(kinds(&parse("-E").expect("no mask").event_mask), None);
    for json in ["-L -o json", "-E --format json", "-D -p udp --output=json"] {
        assert!(parse(json).expect(json).is_json(), "{json}");
    }
}

fn parse(flags: &str) -> Result<ConntrackArgs, clap::Error> {
    let words = ["vswitch", "conntrack"]
        .into_iter()
        .chain(flags.split_whitespace());
    match Cli::try_parse_from(words)?.command {
        Command::Conntrack(args) => Ok(*args),
        other => panic!("another verb: {other:?}"),
    }
}

fn line(connection: &Value) -> String {
    printed(|out| print_connection(out, &read(connection), Style::default()))
}

fn event(kind: &str, mut connection: Value) -> String {
    connection["Type"] = json!(kind);
    let event = serde_json::from_value(connection).expect("an event");
    printed(|out| print_event(out, &event, Style::default(), Moment(Duration::ZERO)))
}

fn read(connection: &Value) -> ConnectionEntry {
    serde_json::from_value(connection.clone()).expect("a connection")
}

fn printed(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("a vector takes everything");
    String::from_utf8(out).expect("printers write UTF-8")
}

fn masqueraded() -> Value {
    json!({
        "Protocol": "tcp", "ProtocolNumber": 6, "State": "ESTABLISHED", "TimeoutSeconds": 431_999.9,
        "Replied": true, "Assured": true,
        "Original": {
            "Source": "10.0.0.2", "Destination": "198.51.100.2", "SourcePort": 5000, "DestinationPort": 80,
            "Zone": 1, "Network": "lan", "NetworkID": "a".repeat(64), "Sandbox": "web", "Packets": 3, "Bytes": 180
        },
        "Reply": {
            "Source": "198.51.100.2", "Destination": "198.51.100.1", "SourcePort": 80, "DestinationPort": 5000,
            "Zone": 0, "Network": "", "NetworkID": "", "Sandbox": "", "Packets": 2, "Bytes": 120
        }
    })
}
