//! Requests on connections that are kept: wrk and nginx.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    program::Program,
    topology::{Netns, output},
    traffic::Ends,
};

/// Requests per second for a small page, on [`CONNECTIONS`] kept connections.
pub(super) fn requests_per_second(ends: Ends<'_>, seconds: f64) -> Result<f64> {
    let port = ends.port.context("nginx listens on a published port")?;
    let _nginx = Nginx::start(ends.server, port)?;
    let mut wrk = ends.client.command("wrk");
    wrk.args(["-t2", "-c", CONNECTIONS, "-d", &format!("{seconds:.0}s")]);
    wrk.arg(format!("http://{}:{port}/", ends.address));
    let text = String::from_utf8_lossy(&output(&mut wrk)?).into_owned();
    rate(&text)
}

fn rate(text: &str) -> Result<f64> {
    // Both lines are there only if there is something to tell.
    let trouble = text
        .lines()
        .find(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    ensure!(trouble.is_none(), "wrk: {}", trouble.unwrap_or_default().trim());
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.and_then(|rate| rate.trim().parse().ok())
        .with_context(|| format!("wrk tells no rate: {text}"))
}

/// A usual number of keep-alive clients (rootless-containers' and passt's own figures use it too).
const CONNECTIONS: &str = "32";

/// nginx with one small page; ended when dropped.
#[derive(Debug)]
struct Nginx {
    _program: Program,
    _dir: TempDir,
}

impl Nginx {
    /// Starts it inside, and waits until it listens.
    fn start(container: &Netns, port: u16) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let at = dir.path().display();
        // Debian's own configuration without logs; it writes its PID once it listens.
        let configuration = format!(
            "daemon off;
user root;
worker_processes auto;
pid {at}/pid;
error_log stderr;
events {{ worker_connections 768; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    client_body_temp_path {at}/body;
    proxy_temp_path {at}/proxy;
    fastcgi_temp_path {at}/fastcgi;
    uwsgi_temp_path {at}/uwsgi;
    scgi_temp_path {at}/scgi;
    server {{ listen {port}; root {at}; }}
}}
"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, configuration)?;
        fs::write(dir.path().join("index.html"), [b'.'; PAGE])?;
        let mut command = container.command("nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(&file);
        let program = Program::start(command)?;
        let deadline = Instant::now() + Duration::from_secs(5);
        while !dir.path().join("pid").exists() {
            ensure!(
                Instant::now() < deadline,
                "nginx does not start{}",
                program.complaint()
            );
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self {
            _program: program,
            _dir: dir,
        })
    }
}

/// As long as nginx's own page of welcome.
const PAGE: usize = 612;

#[cfg(test)]
mod tests {
    use super::rate;

    /// What wrk 4.1.0 prints.
    const ANSWER: &str = "Running 1s test @ http://192.0.2.1:7001/
  2 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.30ms    1.02ms  13.67ms   83.04%
    Req/Sec    13.14k     1.44k   16.10k    60.00%
  26200 requests in 1.00s, 21.11MB read
Requests/sec:  26161.64
Transfer/sec:     21.08MB
";

    #[test]
    fn a_rate_is_read() {
        assert_eq!(rate(ANSWER).unwrap(), 26161.64);
        assert!(rate("").is_err());
    }

    #[test]
    fn a_rate_with_errors_does_not_count() {
        let errors = "  Socket errors: connect 0, read 3, write 0, timeout 0\nRequests/sec:";
        assert!(rate(&ANSWER.replace("Requests/sec:", errors)).is_err());
        let refused = "  Non-2xx or 3xx responses: 7\nRequests/sec:";
        assert!(rate(&ANSWER.replace("Requests/sec:", refused)).is_err());
    }
}
