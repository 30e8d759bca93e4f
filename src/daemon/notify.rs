//! The readiness protocol of sd_notify(3).

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Tells the service manager that started us, if one did, `state` (for example `READY=1`). A service
/// manager that does not listen is logged.
pub(super) fn send(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send_to(&path, state) {
        tracing::warn!(%error, state, "cannot notify the service manager");
    }
}

fn send_to(path: &OsStr, state: &str) -> io::Result<()> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_arrives_as_one_datagram() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("a socket");
        send_to(path.as_os_str(), "READY=1").expect("somebody listens");
        let mut buffer = [0; 16];
        let len = manager.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..len], b"READY=1");
    }

    #[test]
    fn a_missing_service_manager_is_an_error() {
        assert!(send_to(OsStr::new("/nonexistent/notify"), "READY=1").is_err());
    }
}
