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

/// Descriptors that one message carries at most (`SCM_MAX_FD`, include/net/scm.h).
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// Sends one message, with the descriptors that are to be handed over.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is longer than 64 KiB",
        ));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        let text = format!("a message has room for {DESCRIPTORS_MAX} descriptors");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message and the descriptors that came with it; `None` when the other end has closed.
pub(crate) fn receive<M: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
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
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    let message = serde_json::from_slice(&bytes[..received.bytes])?;
    Ok(Some((message, descriptors)))
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
    use std::{
        fs::File,
        io::{Read, Seek},
        time::Duration,
    };

    use super::*;

    #[test]
    fn a_message_carries_its_descriptors() {
        let (near, far) = pair().expect("a socket pair");
        let file = File::open("/proc/self/comm").expect("own comm is readable");
        for count in [0, 1, DESCRIPTORS_MAX] {
            send(&near, &"text", &vec![file.as_fd(); count]).expect("the other end is open");
            let (message, descriptors) = receive::<String>(&far)
                .expect("a valid message")
                .expect("the other end is open");
            assert_eq!((message.as_str(), descriptors.len()), ("text", count));
            if let Some(descriptor) = descriptors.into_iter().next() {
                let mut text = String::new();
                let mut file = File::from(descriptor);
                // The offset is shared by all of them.
                file.rewind().expect("it is a file");
                file.read_to_string(&mut text).expect("comm is text");
                assert!(!text.is_empty());
            }
        }
        let too_many = vec![file.as_fd(); DESCRIPTORS_MAX + 1];
        send(&near, &"text", &too_many).expect_err("the kernel takes no more");
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
