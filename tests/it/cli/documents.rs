//! Completions, man pages and versions.

use std::fs;

use super::{FakeDaemon, client_of, outcome, vswitch};

#[test]
fn completions_know_the_verbs_in_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, script, stderr) = outcome(vswitch().args(["completion", shell]));
        assert_eq!((code, stderr.as_str()), (0, ""), "{shell}");
        for word in [
            "vswitch",
            "network",
            "disconnect",
            "aux-address",
            "no-trunc",
            "unpublish",
        ] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}

#[test]
fn each_visible_command_has_a_man_page() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = directory.path().join("share/man1");
    let (code, stdout, stderr) = outcome(vswitch().arg("man").arg(&target));
    assert_eq!((code, stderr.as_str()), (0, ""));
    let mut pages: Vec<String> = fs::read_dir(&target)
        .expect("the directory was made")
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    pages.sort();
    let mut printed: Vec<&str> = stdout
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .collect();
    printed.sort_unstable();
    assert_eq!(pages, printed);
    for name in [
        "vswitch.1",
        "vswitch-run.1",
        "vswitch-publish.1",
        "vswitch-unpublish.1",
        "vswitch-port.1",
        "vswitch-network.1",
        "vswitch-network-create.1",
    ] {
        assert!(
            pages.iter().any(|page| page == name),
            "{name} is not in {pages:?}"
        );
    }
    assert!(
        !pages.iter().any(|page| page == "vswitch-man.1"),
        "the hidden command has a page"
    );
    let page = fs::read_to_string(target.join("vswitch-network-create.1")).expect("a page");
    assert!(page.contains(".TH VSWITCH-NETWORK-CREATE 1"), "{page}");
    assert!(page.contains(r"\fBvswitch network create\fR"), "{page}");
    assert!(page.contains(r"\-\-aux\-address"), "{page}");
    let main = fs::read_to_string(target.join("vswitch.1")).expect("a page");
    assert!(
        main.contains("125    vswitch could not prepare the sandbox"),
        "{main}"
    );
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let (code, _, stderr) = outcome(vswitch().args(["man", "/proc/nothing/here"]));
    assert_eq!(code, 1);
    assert!(
        stderr.starts_with("vswitch: create /proc/nothing/here: "),
        "{stderr}"
    );
}

#[test]
fn the_clients_version_is_told_without_a_daemon() {
    let version = env!("CARGO_PKG_VERSION");
    let (code, stdout, stderr) = outcome(vswitch().args(["-H", "unix:///nonexistent/v.sock", "version"]));
    assert_eq!((code, stdout), (1, format!("Client:  {version}\n")));
    assert!(stderr.contains("start it with: vswitchd"), "{stderr}");
    let (code, stdout, _) = outcome(vswitch().arg("--version"));
    assert_eq!((code, stdout), (0, format!("vswitch {version}\n")));
}

#[test]
fn both_versions_are_told_with_one() {
    let daemon = FakeDaemon::new(&[(
        "GET /version",
        200,
        r#"{"Platform":{"Name":"vswitchd"},"Components":[],"Version":"9.8.7","ApiVersion":"1.47",
            "MinAPIVersion":"1.24","GitCommit":"","GoVersion":"","Os":"linux","Arch":"amd64",
            "KernelVersion":"6.8.0"}"#,
    )]);
    let (code, stdout, _) = outcome(client_of(&daemon.socket()).arg("version"));
    assert_eq!(code, 0);
    assert_eq!(stdout.lines().nth(1), Some("Daemon:  9.8.7 (API 1.47)"));
    let (_, stdout, _) = outcome(client_of(&daemon.socket()).args(["version", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&stdout).expect("this is JSON");
    assert_eq!(json["Client"]["Version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["Daemon"]["MinAPIVersion"], "1.24");
}
