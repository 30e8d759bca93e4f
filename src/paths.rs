//! Where the daemon and its clients meet, and where the daemon keeps its state.
//!
//! One place decides both, so that `vswitch` and `vswitchd` started by the same user always agree.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{fs::FlockOperation, io::Errno};

/// The API socket that `vswitchd` listens on and `vswitch` calls when nobody names another one.
///
/// `/run/vswitch.sock` for root, `$XDG_RUNTIME_DIR/vswitch.sock` for an ordinary user, and
/// `/tmp/vswitch-<uid>/vswitch.sock` where no login session has made a runtime directory.
pub fn default_socket() -> PathBuf {
    User::current().socket()
}

/// The directory of the daemon's database when nobody names another one.
///
/// `/var/lib/vswitch` for root, else `$XDG_STATE_HOME/vswitch` or `~/.local/state/vswitch`; a user
/// without a home gets a directory beside the socket.
pub fn default_state_dir() -> PathBuf {
    User::current().state_dir()
}

/// The directory above the state directory that must be made and checked before it; `None` where it is
/// the user's or the system's own. In `/tmp` whoever comes first owns it.
pub fn shared_parent(state_dir: &Path) -> Option<PathBuf> {
    let fallback = User::current().fallback();
    state_dir.starts_with(&fallback).then_some(fallback)
}

/// Locks a file, which is made if it is missing; `None` if another process holds it. The kernel releases it when
/// the file is closed.
///
/// # Errors
///
/// Those of open(2) and flock(2).
pub fn lock_file(path: &Path) -> io::Result<Option<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Checks that nobody but this user and root decides what is in a directory: whoever owned it, or the
/// link that leads to it, could put a socket or a database of theirs in our place.
///
/// # Errors
///
/// It is somebody else's or everybody's (`PermissionDenied`, in words), or it cannot be looked at.
pub fn check_private(dir: &Path) -> io::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let refuse = |why: String| {
        let text = format!("{} {why}: choose another place", dir.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    let target = fs::metadata(dir)?;
    for owner in [fs::symlink_metadata(dir)?.uid(), target.uid()] {
        if owner != us && owner != 0 {
            return refuse(format!("belongs to uid {owner}"));
        }
    }
    // In a sticky directory, such as /tmp, nobody can replace what is another's.
    if target.mode() & (WRITABLE_BY_ALL | STICKY) == WRITABLE_BY_ALL {
        return refuse("can be written by everybody".to_owned());
    }
    Ok(())
}

/// `S_IWOTH` and `S_ISVTX` (inode(7)).
const WRITABLE_BY_ALL: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// What of a user's surroundings decides the paths.
struct User {
    uid: u32,
    home: Option<OsString>,
    runtime_dir: Option<OsString>,
    state_home: Option<OsString>,
}

impl User {
    fn current() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            home: env::var_os("HOME"),
            runtime_dir: env::var_os("XDG_RUNTIME_DIR"),
            state_home: env::var_os("XDG_STATE_HOME"),
        }
    }

    fn socket(&self) -> PathBuf {
        if self.uid == 0 {
            return PathBuf::from("/run/vswitch.sock");
        }
        absolute(&self.runtime_dir)
            .unwrap_or_else(|| self.fallback())
            .join("vswitch.sock")
    }

    fn state_dir(&self) -> PathBuf {
        if self.uid == 0 {
            return PathBuf::from("/var/lib/vswitch");
        }
        absolute(&self.state_home)
            .or_else(|| absolute(&self.home).map(|home| home.join(".local/state")))
            .map_or_else(|| self.fallback().join("state"), |base| base.join("vswitch"))
    }

    /// A directory that only this user should own; who creates it must check that.
    fn fallback(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/vswitch-{}", self.uid))
    }
}

/// The XDG base directory specification: a relative path is invalid and to be ignored.
fn absolute(value: &Option<OsString>) -> Option<PathBuf> {
    value
        .as_ref()
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn alice() -> User {
        User {
            uid: 1000,
            home: Some("/home/alice".into()),
            runtime_dir: Some("/run/user/1000".into()),
            state_home: None,
        }
    }

    #[test]
    fn a_place_that_others_decide_about_is_refused() {
        let base = tempfile::tempdir().expect("a directory");
        let dir = base.path().join("d");
        fs::create_dir(&dir).expect("it is ours");
        let link = base.path().join("l");
        symlink(&dir, &link).expect("it is ours");
        let mode = |mode| fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).expect("it is ours");
        for good in [0o700, 0o775, 0o1777] {
            mode(good);
            check_private(&dir).expect("it is private");
            check_private(&link).expect("the link is ours too");
        }
        mode(0o777);
        check_private(&dir).expect_err("everybody may replace what is in it");
        check_private(&base.path().join("missing")).expect_err("there is nothing");
        if !rustix::process::geteuid().is_root() {
            return;
        }
        mode(0o700);
        let stranger = Some(54_321);
        std::os::unix::fs::lchown(&link, stranger, stranger).expect("we are root");
        let error = check_private(&link)
            .expect_err("its owner can point it elsewhere")
            .to_string();
        assert!(error.contains("belongs to uid 54321"), "{error}");
        check_private(&dir).expect("the directory itself is ours");
        std::os::unix::fs::chown(&dir, stranger, stranger).expect("we are root");
        check_private(&dir).expect_err("it is a stranger's");
    }

    #[test]
    fn root_uses_the_system_directories_whatever_the_environment_says() {
        let root = User { uid: 0, ..alice() };
        assert_eq!(root.socket(), Path::new("/run/vswitch.sock"));
        assert_eq!(root.state_dir(), Path::new("/var/lib/vswitch"));
    }

    #[test]
    fn an_ordinary_user_uses_the_session_and_the_home() {
        assert_eq!(alice().socket(), Path::new("/run/user/1000/vswitch.sock"));
        assert_eq!(alice().state_dir(), Path::new("/home/alice/.local/state/vswitch"));
        let moved = User {
            state_home: Some("/data/alice".into()),
            ..alice()
        };
        assert_eq!(moved.state_dir(), Path::new("/data/alice/vswitch"));
    }

    #[test]
    fn a_state_directory_in_tmp_has_a_parent_to_check() {
        let bare = User {
            home: None,
            ..User::current()
        };
        let fallback = bare.fallback();
        assert_eq!(shared_parent(&fallback.join("state")), Some(fallback));
        assert_eq!(shared_parent(Path::new("/var/lib/vswitch")), None);
        assert_eq!(shared_parent(&alice().state_dir()), None);
    }

    #[test]
    fn without_a_session_the_uid_keeps_users_apart() {
        let bare = User {
            home: None,
            runtime_dir: None,
            ..alice()
        };
        assert_eq!(bare.socket(), Path::new("/tmp/vswitch-1000/vswitch.sock"));
        assert_eq!(bare.state_dir(), Path::new("/tmp/vswitch-1000/state"));
        let relative = User {
            runtime_dir: Some("run".into()),
            ..alice()
        };
        assert_eq!(relative.socket(), Path::new("/tmp/vswitch-1000/vswitch.sock"));
    }
}
