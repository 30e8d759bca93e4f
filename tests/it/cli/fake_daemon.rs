//! A daemon that answers from a table and remembers what it was asked.
//!
//! It stands in for `vswitchd` where a test is about what the client sends and prints; it shares no
//! code with either side of the API.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

/// A listening socket with canned answers; the thread ends with the test process.
pub(crate) struct FakeDaemon {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Request>>>,
}

/// What the client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// Method and target, for example `GET /networks/lan`.
    pub(crate) line: String,
    /// The body's text.
    pub(crate) body: String,
}

impl FakeDaemon {
    /// Answers each `METHOD /target` with this status and body, everything else with Docker's 404.
    pub(crate) fn new(answers: &[(&str, u16, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("api.sock")).expect("a free path");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: HashMap<String, (u16, String)> = answers
            .iter()
            .map(|&(line, status, body)| (line.to_owned(), (status, body.to_owned())))
            .collect();
        let (log, answers) = (asked.clone(), Arc::new(answers));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (log, answers) = (log.clone(), answers.clone());
                thread::spawn(move || serve(client, &answers, &log));
            }
        });
        Self { directory, asked }
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    /// A directory that goes away with the daemon.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All requests so far, in order.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().expect("no thread died").clone()
    }

    /// Only the request lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|request| request.line).collect()
    }
}

fn serve(client: UnixStream, answers: &HashMap<String, (u16, String)>, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(client.try_clone().expect("a second handle"));
    let mut writer = client;
    while let Some(request) = read(&mut reader) {
        let missing = (404, r#"{"message":"page not found"}"#.to_owned());
        let (status, body) = answers.get(&request.line).unwrap_or(&missing).clone();
        log.lock().expect("no thread died").push(request);
        let answer = format!(
            "HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// One request, or nothing when the client has hung up.
fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let line = first.strip_suffix(" HTTP/1.1\r\n")?.to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        line,
        body: String::from_utf8(body).ok()?,
    })
}
