use super::*;
use crate::{control::fixtures, model::Driver};

fn state() -> State {
    let (mut network, sandbox, endpoint) = fixtures::objects();
    let mut state = State::default();
    state.sandboxes.insert(sandbox.id, sandbox);
    network.name = "bar".into();
    network.labels.insert("a".into(), "b".into());
    network.labels.insert("solo".into(), String::new());
    state.networks.insert(network.id, network.clone());
    state.endpoints.insert(endpoint.id, endpoint);
    for (number, name, driver) in [
        (2, "bridge", Driver::Bridge),
        (3, "bad name!", Driver::Bridge),
        (4, "none", Driver::Null),
    ] {
        let mut other = network.clone();
        (other.id, other.name, other.driver) = (fixtures::id(number), name.into(), driver);
        other.labels.clear();
        state.networks.insert(other.id, other);
    }
    state
}

fn names(filters: &str) -> Result<Vec<String>, FilterError> {
    let state = state();
    let networks = Filters::parse(filters)?.networks(&state)?;
    let mut names: Vec<String> = networks.into_iter().map(|network| network.name.clone()).collect();
    names.sort();
    Ok(names)
}

#[test]
fn networks_match_as_docker_matches_them() {
    for (filters, expected) in [
        ("", &["bad name!", "bar", "bridge", "none"][..]),
        ("{}", &["bad name!", "bar", "bridge", "none"]),
        (r#"{"name":{"ba":true}}"#, &["bad name!", "bar"]),
        (r#"{"name":["^bar$","none"]}"#, &["bar", "none"]),
        (r#"{"name":{"(":true}}"#, &[]),
        (r#"{"id":{"^0202":true}}"#, &["bridge"]),
        (r#"{"driver":{"null":true}}"#, &["none"]),
        (
            r#"{"driver":{"bridge":true},"type":{"builtin":true}}"#,
            &["bridge"],
        ),
        (r#"{"type":{"custom":true}}"#, &["bad name!", "bar"]),
        (r#"{"scope":{"swarm":true}}"#, &[]),
        (r#"{"label":{"a":true,"solo":true}}"#, &["bar"]),
        (r#"{"label":["a=b"]}"#, &["bar"]),
        (r#"{"label":["a=c"]}"#, &[]),
        (r#"{"dangling":["true"]}"#, &["bad name!"]),
        (r#"{"dangling":["0"]}"#, &["bar", "bridge", "none"]),
    ] {
        assert_eq!(
            names(filters).as_deref(),
            Ok(expected
                .iter()
                .map(|n| n.to_string())
                .collect::<Vec<_>>()
                .as_slice()),
            "{filters}"
        );
    }
}

#[test]
fn bad_filters_get_dockers_words() {
    for (filters, text) in [
        ("zzz", "invalid filter"),
        ("[]", "invalid filter"),
        (r#"{"name":"x"}"#, "invalid filter"),
        (r#"{"bogus":{"x":true}}"#, "invalid filter 'bogus'"),
        (r#"{"type":{"bad":true}}"#, "invalid filter: 'type'='bad'"),
        (
            r#"{"dangling":["a"]}"#,
            "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
        ),
        (
            r#"{"dangling":["1","0"]}"#,
            "got more than one value for filter key \"dangling\"",
        ),
    ] {
        assert_eq!(names(filters).expect_err(filters).to_string(), text);
    }
}

#[test]
fn prune_spares_predefined_used_and_young_networks() {
    let state = state();
    let prunable = |filters: &str| -> Vec<String> {
        let filters = Filters::parse(filters).expect("it parses");
        let networks = filters.prunable(&state, Timestamp::now()).expect("known keys");
        networks.into_iter().map(|network| network.name.clone()).collect()
    };
    assert_eq!(prunable(""), ["bad name!"]);
    assert_eq!(prunable(r#"{"label":["a"]}"#), [""; 0]);
    assert_eq!(prunable(r#"{"label!":["a"]}"#), ["bad name!"]);
    assert_eq!(prunable(r#"{"until":["1970-01-02"]}"#), [""; 0]);
    assert_eq!(prunable(r#"{"until":["1h"]}"#), [""; 0], "it is younger");
    assert_eq!(prunable(r#"{"until":["2262-01-01"]}"#), ["bad name!"]);
    let unknown = Filters::parse(r#"{"name":["x"]}"#)
        .expect("it parses")
        .prunable(&state, Timestamp::now());
    assert_eq!(unknown.map(|_| ()), Err(FilterError::Key("name".into())));
}

#[test]
fn sandboxes_match_by_name_network_and_status() {
    let mut state = state();
    let matches = |state: &State, filters: &str, all| {
        Filters::parse(filters)
            .expect("it parses")
            .sandboxes(state, all)
            .map(|found| found.len())
    };
    assert_eq!(
        matches(&state, r#"{"name":["^/?web$"],"network":["bar"]}"#, false),
        Ok(1)
    );
    assert_eq!(matches(&state, r#"{"network":["0101"]}"#, false), Ok(1));
    assert_eq!(matches(&state, r#"{"network":["none"]}"#, false), Ok(0));
    assert_eq!(matches(&state, r#"{"status":["exited"]}"#, false), Ok(0));
    for sandbox in state.sandboxes.values_mut() {
        sandbox.finished = Some(Timestamp::now());
    }
    assert_eq!(matches(&state, "", false), Ok(0));
    assert_eq!(matches(&state, "", true), Ok(1));
    assert_eq!(matches(&state, r#"{"status":["exited"]}"#, false), Ok(1));
    assert_eq!(
        matches(&state, r#"{"status":["odd"]}"#, false),
        Err(FilterError::Value("status", "odd".into()))
    );
}

#[test]
fn sandboxes_match_by_their_published_ports() {
    let mut state = state();
    let mapping = |host_port, container_port, protocol| PortMapping {
        host_ip: None,
        host_port,
        container_port,
        count: 3,
        protocol,
        rules: crate::model::PortRules::default(),
    };
    for sandbox in state.sandboxes.values_mut() {
        sandbox.ports = vec![
            mapping(8080, 80, Transport::Tcp),
            mapping(5353, 53, Transport::Udp),
        ];
    }
    let matches = |key: &str, value: &str| {
        let filters = format!(r#"{{"{key}":["{value}"]}}"#);
        let filters = Filters::parse(&filters).expect("it parses");
        filters.sandboxes(&state, false).map(|found| found.len() == 1)
    };
    for (key, value, expected) in [
        ("publish", "8080", true),
        ("publish", "8082/tcp", true),
        ("publish", "8083", false),
        ("publish", "8080/udp", false),
        ("publish", "5000-6000/udp", true),
        ("publish", "80", false),
        ("expose", "80", true),
        ("expose", "82-90/TCP", true),
        ("expose", "53", false),
        ("expose", "53/udp", true),
    ] {
        assert_eq!(matches(key, value), Ok(expected), "{key}={value}");
    }
    for wrong in ["", "0", "x", "9-8", "80/sctp"] {
        let error = Err(FilterError::Value("publish", wrong.into()));
        assert_eq!(matches("publish", wrong), error);
    }
}
