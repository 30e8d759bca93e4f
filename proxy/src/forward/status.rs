//! Telling dockerd how the start went.

use std::os::fd::OwnedFd;

/// dockerd waits for a line on this pipe: `0` once clients can come, or `1` with the reason behind it (moby,
/// `cmd/docker-proxy`).
#[derive(Debug)]
pub struct Status {
    pipe: Option<OwnedFd>,
}

impl Status {
    /// Without a pipe nobody is told.
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        Self { pipe }
    }

    /// Clients can come.
    pub fn succeed(self) {
        self.tell("0\n");
    }

    /// They cannot, because of `reason`.
    pub fn fail(self, reason: &str) {
        self.tell(&format!("1\n{reason}"));
    }

    fn tell(self, text: &str) {
        let Some(pipe) = self.pipe else { return };
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match rustix::io::write(&pipe, rest) {
                Ok(count) => rest = &rest[count..],
                Err(rustix::io::Errno::INTR) => {}
                // Whoever asked has gone.
                Err(_) => return,
            }
        }
    }
}
