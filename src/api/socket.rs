//! Where the daemon listens: its address as text, and the listening socket.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::{fs::PermissionsExt, net::UnixStream as BlockingUnixStream},
    path::{Path, PathBuf},
    str::FromStr,
    thread,
    time::Duration,
};

use tokio::net::UnixListener;

/// The daemon's address: a unix socket's path, written `unix:///run/vswitch.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonSocket(PathBuf);

impl DaemonSocket {
    /// The socket at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Listens here, for the daemon's user only (mode 0600), as long as the second value lives. What a
    /// dead daemon left at the path is replaced.
    ///
    /// # Errors
    ///
    /// Somebody listens at the path already (`AddrInUse`), something else than a socket is there, or the
    /// directory does not let us create one.
    pub fn listen(&self) -> io::Result<(UnixListener, SocketFile)> {
        // One that was killed while it started a process lives on in that process until it has become its program, lock and
        // socket included.
        for _ in 0..ATTEMPTS {
            match self.try_listen() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => thread::sleep(BETWEEN_ATTEMPTS),
                outcome => return outcome,
            }
        }
        self.try_listen()
    }

    fn try_listen(&self) -> io::Result<(UnixListener, SocketFile)> {
        let path = self.path();
        // Two that find the same stale socket would each replace the other's without it.
        let lock = self.lock()?;
        match BlockingUnixStream::connect(path) {
            Ok(_) => return Err(self.taken()),
            // Only a socket that nobody listens on refuses; other files are not ours to delete.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {
                fs::remove_file(path).map_err(|error| self.explain("remove the stale socket", error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let text = format!("listen on {self}: something else than a socket is there");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Err(error) => return Err(self.explain("listen on", error)),
        }
        let listener = UnixListener::bind(path).map_err(|error| self.explain("listen on", error))?;
        // Between bind and chmod the umask alone decides; vswitchd's own lets nobody else in.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| self.explain("set the mode of", error))?;
        let file = SocketFile {
            path: path.to_owned(),
            _lock: lock,
        };
        Ok((listener, file))
    }

    /// Locks the file beside the socket. It stays for ever: one that is removed could be locked by two.
    fn lock(&self) -> io::Result<File> {
        let mut path = self.path().as_os_str().to_owned();
        path.push(".lock");
        crate::paths::lock_file(Path::new(&path))
            .map_err(|error| self.explain("lock", error))?
            .ok_or_else(|| self.taken())
    }

    fn taken(&self) -> io::Error {
        let text = format!("another vswitchd is serving {self}");
        io::Error::new(io::ErrorKind::AddrInUse, text)
    }

    fn explain(&self, operation: &str, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{operation} {self}: {error}"))
    }
}

/// The file of a socket that is listened on; removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Until it is closed nobody else can have put a socket at the path.
    _lock: File,
}

/// A process needs a few milliseconds between its fork and its program; more on a busy machine.
const ATTEMPTS: u32 = 12;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(25);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.path);
    }
}

impl fmt::Display for DaemonSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

impl FromStr for DaemonSocket {
    type Err = InvalidSocket;

    fn from_str(text: &str) -> Result<Self, InvalidSocket> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if !path.starts_with('/') {
            return Err(InvalidSocket(text.to_owned()));
        }
        Ok(Self::new(path))
    }
}

/// The text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a daemon's address; write unix:///path/of/vswitch.sock")]
pub struct InvalidSocket(String);

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_paths() {
        for text in ["unix:///run/v.sock", "/run/v.sock"] {
            assert_eq!(text.parse(), Ok(DaemonSocket::new("/run/v.sock")), "{text}");
        }
        for text in ["", "run/v.sock", "unix://run/v.sock", "tcp://127.0.0.1:2375"] {
            assert_eq!(text.parse::<DaemonSocket>(), Err(InvalidSocket(text.to_owned())));
        }
    }

    #[tokio::test]
    async fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = DaemonSocket::new(directory.path().join("s"));
        let (first, file) = socket.listen().expect("nothing is there yet");
        let mode = fs::metadata(socket.path())
            .expect("it was created")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = socket.listen().expect_err("somebody listens");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let error = socket
            .listen()
            .expect_err("whoever holds the lock may be about to listen");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(file);
        assert!(!socket.path().exists());

        drop(std::os::unix::net::UnixListener::bind(socket.path()).expect("the path is free"));
        assert!(socket.path().exists());
        socket.listen().expect("nobody listens, the file is stale");
    }

    #[tokio::test]
    async fn other_files_are_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = DaemonSocket::new(directory.path().join("precious"));
        fs::write(socket.path(), "text").expect("the directory is ours");
        let error = socket.listen().expect_err("a file is in the way");
        assert!(
            error
                .to_string()
                .ends_with("something else than a socket is there"),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(socket.path()).expect("it is still there"),
            "text"
        );
    }
}
