use super::*;
use crate::{api::types::SandboxEndpoint, model::LinkKind};

fn refused(status: u16, message: &str) -> ClientError {
    ClientError::Refused {
        status,
        message: message.to_owned(),
    }
}

fn endpoint(ipv4: &str, ipv6: &str) -> SandboxEndpoint {
    SandboxEndpoint {
        endpoint_id: "e".repeat(64),
        network: "lan".into(),
        interface: "eth0".into(),
        kind: LinkKind::Tap,
        mac_address: "02:42:0a:00:00:09".into(),
        ipv4_address: ipv4.into(),
        ipv6_address: ipv6.into(),
    }
}

fn created(endpoints: &[SandboxEndpoint], name_servers: &[&str]) -> SandboxCreated {
    SandboxCreated {
        id: "c".repeat(64),
        warnings: Vec::new(),
        endpoints: endpoints.to_vec(),
        name_servers: name_servers
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect(),
    }
}

#[test]
fn the_hosts_file_has_a_line_for_each_own_address() {
    let host = ResolvConf::default;
    let two = [endpoint("10.0.0.9/24", "fd00::9/64"), endpoint("10.1.0.2/16", "")];
    let files = name_files("web.example", &created(&two, &[]), host());
    let addresses: Vec<String> = files
        .hosts
        .iter()
        .map(|entry| entry.address.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.9", "fd00::9", "10.1.0.2"]);
    assert!(
        files
            .hosts
            .iter()
            .all(|entry| entry.names == ["web.example", "web"]),
        "{files:?}"
    );
    let one = created(&[endpoint("10.0.0.9/24", "")], &[]);
    assert_eq!(name_files("web", &one, host()).hosts[0].names, ["web"]);
}

#[test]
fn r_dns_1_the_gateways_are_the_resolvers_and_the_hosts_search_list_stays() {
    let host = ResolvConf::parse(
        "nameserver 127.0.0.53\nsearch a.example b\noptions edns0\n",
        |_| None,
    );
    let files = name_files("web", &created(&[], &["10.0.0.1", "fd00::1"]), host.clone());
    assert_eq!(
        files.resolv_conf().as_deref(),
        Some("nameserver 10.0.0.1\nnameserver fd00::1\nsearch a.example b\noptions edns0\n")
    );
    let files = name_files("web", &created(&[], &[]), host);
    assert_eq!(files.resolv_conf(), None, "without a way out it keeps the host's");
}

#[test]
fn only_made_up_names_are_made_up_anew() {
    let taken = "Conflict. The container name \"/web\" is already in use by container \"abc\"";
    assert!(is_taken(&refused(409, taken)));
    assert!(!is_taken(&refused(403, "Address already in use")));
    assert!(!is_taken(&refused(404, "network name not found")));
    let mut given = Attempts::new(Some("web".into()));
    assert!(!given.again());
    assert_eq!(given.name(), "web");
    let mut made_up = Attempts::new(None);
    assert_eq!((0..100).filter(|_| made_up.again()).count(), 8);
}

#[test]
fn a_bare_variable_is_inherited_and_an_empty_one_is_set() {
    let read = |variables: &[&str]| {
        environment(
            &variables
                .iter()
                .map(|&variable| variable.to_owned())
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        read(&["A=1", "B", "C=", "D=x=y"]),
        Ok(vec![
            ("A".into(), "1".into()),
            ("C".into(), String::new()),
            ("D".into(), "x=y".into())
        ])
    );
    assert_eq!(
        read(&["=x"]),
        Err(Failure::usage("invalid environment variable: =x"))
    );
}

#[test]
fn host_names_are_cut_where_docker_cuts_them() {
    assert_eq!(hostname("web"), "web");
    assert_eq!(hostname(&"a".repeat(100)).len(), 63);
}

#[test]
fn the_daemon_gets_paths_that_do_not_depend_on_our_directory() {
    assert_eq!(absolute(Path::new("/run/netns/a")), Ok("/run/netns/a".to_owned()));
    let here = std::env::current_dir().expect("tests have a directory").join("a");
    assert_eq!(absolute(Path::new("a")).map(PathBuf::from), Ok(here));
}

#[test]
fn a_wrong_request_takes_one_line_and_a_wrong_system_what_it_needs() {
    let text = "invalid endpoint settings:\n* a\n* b";
    assert_eq!(
        refusal(refused(400, text)).message(),
        Some("invalid endpoint settings: a; b")
    );
    assert_eq!(refusal(refused(500, text)).message(), Some(text));
}
