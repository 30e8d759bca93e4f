//! One UDP client of a published port.

use std::time::{Duration, Instant};

use super::Client;
use crate::{
    Link, Scratch,
    activity::Activity,
    config::Timeouts,
    datagram::{Counters, HEADROOM, Inbound},
    datagram_socket::version_of,
    errors,
    payload::Headers,
    pktinfo::{Ends, SharedSocket},
    report::{Quote, QuotedProtocol},
    sys::QueuedError,
    udp::{Outlet, Segmentation, Sending, Step},
};

/// What is known of one client.
///
/// As in other flows of datagrams, nothing is kept, and no failure ends it: not even a container that does not listen
/// yet (P9 of the engine's peers).
///
/// # States
/// `UNREPLIED` until the container's first datagram, then `ASSURED`. Both end at [`UdpSession::deadline`].
#[derive(Debug)]
pub(in crate::relay) struct UdpSession {
    client: Client,
    segmentation: Segmentation,
    /// What the container's last packet had.
    headers: Headers,
    activity: Activity,
}

impl UdpSession {
    pub(super) fn new(now: Instant, client: Client) -> Self {
        Self {
            client,
            segmentation: Segmentation::Kernel,
            headers: Headers::DEFAULT,
            activity: Activity::new(now),
        }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The client has sent what is in `slot` behind [`HEADROOM`] bytes: with `segment`, several datagrams.
    pub(super) fn handle_client<L: Link>(
        &mut self,
        now: Instant,
        slot: &mut [u8],
        segment: Option<u16>,
        inbound: &mut Inbound<'_, L>,
    ) {
        self.activity.last = now;
        let payload = HEADROOM..slot.len();
        self.activity.received += inbound.send_udp(slot, payload, segment) as u64;
    }

    /// The container answers.
    pub(super) fn note_answer(&mut self, now: Instant, headers: Headers) {
        self.activity.note_answer(now);
        self.headers = headers;
    }

    /// Sends what the container has sent, as far as that goes.
    pub(super) fn send<'a>(
        &mut self,
        sending: &mut Sending<'a>,
        socket: SharedSocket<'_>,
        counters: &mut Counters,
    ) -> Step<'a> {
        let outlet = ToClient {
            socket,
            ends: &self.client.ends,
        };
        sending.advance(&outlet, &mut self.segmentation, &mut self.activity, counters)
    }

    /// Tells the container what became of a datagram to this client; its payload is at the start of the datagrams of
    /// `scratch`.
    pub(super) fn handle_error<L: Link>(
        &self,
        error: &QueuedError,
        inbound: &mut Inbound<'_, L>,
        scratch: &mut Scratch,
    ) {
        let Some(explained) = errors::explain(error, version_of(inbound.path.remote)) else {
            inbound.counters.errors_ignored += 1;
            return;
        };
        let from = errors::reporter(error, self.client.ends.peer, inbound.path, inbound.gateway);
        let quote = Quote {
            protocol: QuotedProtocol::Udp,
            headers: self.headers,
            payload: &scratch.datagrams[..error.len],
        };
        inbound.report(explained, from, &quote, &mut scratch.frame);
    }

    /// When the session ends, unless something moves before.
    pub(in crate::relay) fn deadline(&self, timeouts: &Timeouts) -> Instant {
        let timeout = match self.activity.is_one_way {
            true => UNANSWERED,
            false => timeouts.udp_stream,
        };
        self.activity.last + timeout
    }

    /// What has moved so far.
    pub(in crate::relay) fn activity(&self) -> &Activity {
        &self.activity
    }
}

/// The way to one client.
#[derive(Debug, Clone, Copy)]
struct ToClient<'a> {
    socket: SharedSocket<'a>,
    ends: &'a Ends,
}

impl Outlet for ToClient<'_> {
    fn send(&self, payload: &[u8]) -> std::io::Result<usize> {
        self.socket.send(payload, self.ends)
    }

    fn send_segments(&self, payload: &[u8], size: u16) -> std::io::Result<usize> {
        self.socket.send_segments(payload, size, self.ends)
    }

    fn send_many(&self, payload: &[u8], size: usize) -> std::io::Result<usize> {
        self.socket.send_many(payload, size, self.ends)
    }
}

/// docker-proxy's for all its clients (`UDPConnTrackTimeout`).
const UNANSWERED: Duration = Duration::from_secs(90);
