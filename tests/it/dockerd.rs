//! A real dockerd whose published ports our `docker-proxy` serves. It has no iptables: what arrives has come through
//! the proxy.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::support::{
    agent::Role,
    daemon::{Outcome, PATIENCE, split},
    ends_within, eventually,
    outside::{HOST4, HOST6, Outside, Place},
    program, skip, within,
};

#[test]
fn a_real_dockerd_serves_its_published_ports_through_our_proxy() {
    let Some(engine) = Engine::start() else { return };
    let page = "page httpd -f -p 80 -h /www";
    engine.ok(&format!(
        "run -d --name web -p 127.0.0.1:8080:80 -p 8081:80 {page}"
    ));
    // Docker 20.10 has one for each family of an unspecific address.
    assert_eq!(engine.proxies().len(), 3);
    let urls = [
        (Place::Host, "127.0.0.1:8080".to_owned()),
        (Place::Host, "127.0.0.1:8081".to_owned()),
        (Place::Host, "[::1]:8081".to_owned()),
        (Place::Outside, format!("{HOST4}:8081")),
        (Place::Outside, format!("[{HOST6}]:8081")),
    ];
    for (place, url) in urls {
        let fetch = format!(
            "busybox wget -q -O - http://{url}/busybox | cmp - {}/www/busybox",
            engine.root()
        );
        eventually(&format!("{url} is served"), || {
            engine.outside.sh(place, &fetch).code == 0
        });
    }
    let to = (HOST4, 8080).into();
    let outcome = engine
        .outside
        .agent(Place::Outside, &Role::Connect { to })
        .last_word();
    assert_eq!(outcome, "ConnectionRefused", "published on the loopback only");

    engine.run_role(
        "echo",
        "-p 5300:53/udp",
        &Role::UdpEcho {
            at: ([0, 0, 0, 0], 53).into(),
        },
    );
    for (place, address) in [(Place::Host, [127, 0, 0, 1].into()), (Place::Outside, HOST4)] {
        let (to, sizes) = ((address, 5300).into(), vec![1, 0, 1400, 60_000]);
        let exchange = engine.outside.agent(place, &Role::Datagrams { to, sizes });
        assert_eq!(exchange.last_word(), "4", "{address}");
    }

    // dockerd knows its own ports; that somebody else has one is for the proxy to say.
    let at = ([0, 0, 0, 0], 8083).into();
    let (_owner, _) = engine.outside.server(Place::Host, &Role::UdpEcho { at });
    let taken = engine.docker(&format!("run -d -p 8083:80/udp {page}"));
    let reason = "Error starting userland proxy: listen udp4 0.0.0.0:8083: bind: address already in use";
    assert!(taken.stderr.contains(reason), "{taken:?}");
    let sctp = engine.docker(&format!("run -d -p 8082:80/sctp {page}"));
    let reason = "Error starting userland proxy: sctp is not supported by vswitch's docker-proxy";
    assert!(sctp.stderr.contains(reason), "{sctp:?}");

    engine.ok("rm -f web echo");
    eventually("no proxy is left", || engine.proxies().is_empty());
    // The ports are free again.
    engine.ok(&format!("run -d --name web -p 8081:80 {page}"));
    engine.ok("rm -f web");
}

/// dockerd in the host of an outside world, with directories of its own.
struct Engine {
    dockerd: Child,
    proxy: PathBuf,
    // Goes after the namespace with the mounts in it.
    outside: Outside,
    directory: TempDir,
}

impl Engine {
    /// Starts it and gives it an image, `page`; `None` if skipped.
    #[must_use]
    fn start() -> Option<Self> {
        if !geteuid().is_root() {
            skip(format_args!("dockerd wants to be root"));
            return None;
        }
        for needed in ["dockerd", "containerd", "runc", "docker", "busybox"] {
            if found(needed).is_none() {
                skip(format_args!("there is no {needed} in PATH"));
                return None;
            }
        }
        let outside = Outside::new()?;
        let directory = TempDir::new().expect("a temporary directory");
        let proxy = proxy_program();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("config.json"), "{}").expect("own directory");
        let log = fs::File::create(path("log")).expect("own directory");
        let mut command = outside.command(Place::Host, "dockerd");
        for (flag, value) in [
            ("--config-file", path("config.json")),
            ("--data-root", path("data")),
            ("--exec-root", path("exec")),
            ("--pidfile", path("pid")),
            ("--userland-proxy-path", proxy.clone()),
        ] {
            command.arg(flag).arg(value);
        }
        command
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--storage-driver", "vfs", "--shutdown-timeout", "1"])
            .arg("--host")
            .arg(format!("unix://{}", path("sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("own file"))
            .stderr(log)
            // An interrupt of the tests is for us to pass on.
            .process_group(0);
        let mut engine = Self {
            dockerd: command.spawn().expect("dockerd starts"),
            proxy,
            outside,
            directory,
        };
        engine.wait_for_start().then_some(())?;
        engine.import();
        Some(engine)
    }

    /// Whether it has started; says visibly why not.
    fn wait_for_start(&mut self) -> bool {
        let mut ended = None;
        within(PATIENCE, "dockerd answers or ends", || {
            ended = self.dockerd.try_wait().expect("our child");
            ended.is_some() || self.docker("version").code == 0
        });
        if let Some(status) = ended {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let reason = log.lines().last().unwrap_or_default();
            skip(format_args!("dockerd does not start here: {status}: {reason}"));
        }
        ended.is_none()
    }

    /// Makes the image of a file tree with nothing but busybox.
    fn import(&self) {
        let script = format!(
            "mkdir -p {root}/bin {root}/www {root}/tmp; cp {busybox} {root}/bin/busybox; \
             ln {root}/bin/busybox {root}/www/busybox; ln -s busybox {root}/bin/httpd; \
             tar -C {root} -c . | docker import - page",
            root = self.root(),
            busybox = found("busybox").expect("it was there").display(),
        );
        let outcome = Outcome::of(self.with_socket(Command::new("sh").args(["-ec", &script])));
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }

    /// Runs this program in a container to play a role that says its port first.
    fn run_role(&self, name: &str, options: &str, role: &Role) {
        let (variable, words) = role.command();
        let mut command = Command::new("docker");
        command.args(["run", "-d", "--name", name, "--env", &variable]);
        command.args(split(options));
        let directory = Path::new(&words[0]).parent().expect("a file is in a directory");
        for shared in [
            Path::new("/usr"),
            Path::new("/lib"),
            Path::new("/lib64"),
            directory,
        ] {
            let shared = shared.display();
            command.args(["--volume", &format!("{shared}:{shared}:ro")]);
        }
        let outcome = Outcome::of(self.with_socket(command.arg("page").args(words)));
        assert_eq!(outcome.code, 0, "{outcome:?}");
        eventually("the role is played", || {
            self.docker(&format!("logs {name}"))
                .stdout
                .contains(crate::support::agent::MARK)
        });
    }

    fn docker(&self, words: &str) -> Outcome {
        Outcome::of(self.with_socket(Command::new("docker").args(split(words))))
    }

    #[track_caller]
    fn ok(&self, words: &str) {
        let outcome = self.docker(words);
        assert_eq!(outcome.code, 0, "docker {words}: {outcome:?}");
    }

    fn with_socket<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let socket = self.directory.path().join("sock");
        command
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .env("DOCKER_CONFIG", "/nonexistent")
            .env_remove("DOCKER_CONTEXT")
            .stdin(Stdio::null())
    }

    /// The file tree of the image.
    fn root(&self) -> String {
        self.directory.path().join("root").display().to_string()
    }

    /// dockerd's children that are our proxy.
    fn proxies(&self) -> Vec<u32> {
        let parent = format!("PPid:\t{}\n", self.dockerd.id());
        let processes = fs::read_dir("/proc").expect("proc is mounted");
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| {
            // Whatever has ended meanwhile is none.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            status.contains(&parent) && program == self.proxy
        })
        .collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It ends its containers and containerd first.
        let _ = kill_process(Pid::from_child(&self.dockerd), Signal::TERM);
        if ends_within(&mut self.dockerd, PATIENCE).is_none() {
            let _ = self.dockerd.kill();
            let _ = self.dockerd.wait();
        }
    }
}

/// Our proxy, built beside the daemon; cargo builds it for tests of its own package only.
fn proxy_program() -> PathBuf {
    let proxy = program().with_file_name("docker-proxy");
    let directory = proxy.parent().expect("a file is in a directory");
    if !proxy.is_file() {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args([
                "build",
                "--package",
                "vswitch-proxy",
                "--bin",
                "docker-proxy",
                "--target-dir",
            ])
            .arg(directory.parent().expect("target directories have profiles"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if directory.ends_with("release") {
            command.arg("--release");
        }
        let outcome = Outcome::of(&mut command);
        assert!(
            proxy.is_file(),
            "build it with `cargo build -p vswitch-proxy --bin docker-proxy`: {outcome:?}"
        );
    }
    // As /proc names it.
    proxy.canonicalize().expect("it exists")
}

fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
