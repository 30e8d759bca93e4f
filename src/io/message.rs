//! JSON messages with descriptors between us and the processes that we start.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
        socketpair,
    },
};
use serde::{Serialize, de::DeserializeOwned};

/// Longest message in bytes; requests and replies are a few hundred bytes.
const MESSAGE_MAX: usize = 64 * 1024;

/// A connected pair of sockets that keep message boundaries; both are close-on-exec.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends one message, with a descriptor if there is one to hand over.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is longer than 64 KiB",
        ));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("no room for the descriptor"));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and the descriptor that came with it; `None` when the other end has closed.
pub(crate) fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = match recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    ) {
        Ok(received) => received,
        // The other end died with our message unread.
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    if received
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message was cut"));
    }
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.last();
        }
    }
    let message = serde_json::from_slice(&bytes[..received.bytes])?;
    Ok(Some((message, descriptor)))
}

/// Waits until the socket has something to receive; `false` when the deadline passes first.
pub(crate) fn wait_readable(socket: impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut polled = [PollFd::new(&socket, PollFlags::IN)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// An `io::Error` in a message: the system's number survives, other causes become text.
pub(crate) mod error {
    use std::io;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Cause {
        Os(i32),
        Text(String),
    }

    pub(crate) fn serialize<S: Serializer>(error: &io::Error, serializer: S) -> Result<S::Ok, S::Error> {
        let cause = match error.raw_os_error() {
            Some(number) => Cause::Os(number),
            None => Cause::Text(error.to_string()),
        };
        cause.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<io::Error, D::Error> {
        Ok(match Cause::deserialize(deserializer)? {
            Cause::Os(number) => io::Error::from_raw_os_error(number),
            Cause::Text(text) => io::Error::other(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, time::Duration};

    use super::*;

    #[test]
    fn a_message_carries_its_descriptor() {
        let (near, far) = pair().expect("a socket pair");
        let file = File::open("/proc/self/comm").expect("own comm is readable");
        send(&near, &"text", Some(file.as_fd())).expect("the other end is open");
        let (message, descriptor) = receive::<String>(&far)
            .expect("a valid message")
            .expect("the other end is open");
        assert_eq!(message, "text");
        let mut text = String::new();
        File::from(descriptor.expect("a descriptor"))
            .read_to_string(&mut text)
            .expect("comm is text");
        assert!(!text.is_empty());
    }

    #[test]
    fn a_closed_end_is_not_an_error() {
        let (near, far) = pair().expect("a socket pair");
        drop(near);
        assert!(receive::<String>(&far).expect("end of stream").is_none());
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let (near, far) = pair().expect("a socket pair");
        let soon = Instant::now() + Duration::from_millis(5);
        assert!(!wait_readable(&far, soon).expect("poll works"));
        drop(near);
        assert!(wait_readable(&far, Instant::now()).expect("poll works"));
    }
}
