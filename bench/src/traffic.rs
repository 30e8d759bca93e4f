//! One measurement: agents at both ends, and what they saw.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Result, bail};

use crate::{
    agent::{Asked, Offered, Received, RoundTrips},
    topology::{Netns, Running},
};

/// Where a measurement's client and server run, and how the client reaches the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends<'a> {
    pub(crate) client: &'a Netns,
    pub(crate) server: &'a Netns,
    pub(crate) address: Ipv4Addr,
    /// Where servers listen; none lets the kernel choose.
    pub(crate) port: Option<u16>,
}

/// A bulk transfer: what the receiver saw, and what it cost the sender.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) received: Received,
    pub(crate) retransmits: u64,
}

impl Bulk {
    pub(crate) fn gbit(&self) -> f64 {
        self.received.bytes as f64 * 8.0 / 1e9
    }

    pub(crate) fn gbit_per_second(&self) -> f64 {
        self.gbit() / self.received.seconds
    }

    /// Thousands of datagrams per second.
    pub(crate) fn kpps(&self) -> f64 {
        self.received.datagrams as f64 / self.received.seconds / 1e3
    }
}

impl Ends<'_> {
    /// TCP from client to server.
    pub(crate) fn upload(self, streams: usize, seconds: f64) -> Result<Bulk> {
        let (streams, seconds) = (streams.to_string(), seconds.to_string());
        let (sink, address) = self.listen(None, &["tcp-sink", &streams])?;
        let source = ["tcp-source", &address, &streams, &seconds];
        let offered: Offered = self.client.agent(None, &source)?.result()?;
        Ok(bulk(sink.result()?, offered))
    }

    /// TCP from server to client, on connections that the client makes.
    pub(crate) fn download(self, streams: usize, seconds: f64) -> Result<Bulk> {
        let (streams, seconds) = (streams.to_string(), seconds.to_string());
        let (source, address) = self.listen(None, &["tcp-serve", &streams, &seconds])?;
        let fetch = ["tcp-fetch", &address, &streams];
        let received: Received = self.client.agent(None, &fetch)?.result()?;
        Ok(bulk(received, source.result()?))
    }

    /// Datagrams of `size` bytes from client to server.
    pub(crate) fn datagrams(self, size: usize, seconds: f64) -> Result<Bulk> {
        let (sink, address) = self.listen(None, &["udp-sink"])?;
        let source = ["udp-source", &address, &size.to_string(), &seconds.to_string()];
        let offered: Offered = self.client.agent(None, &source)?.result()?;
        Ok(bulk(sink.result()?, offered))
    }

    /// A byte there and back on one connection; client and server on the given cores if any are named.
    pub(crate) fn round_trip(self, cores: Option<(&str, &str)>, seconds: f64) -> Result<RoundTrips> {
        let (_server, address) = self.listen(cores.map(|(_, server)| server), &["rr-server"])?;
        let client = ["rr-client", &address, &seconds.to_string()];
        self.client
            .agent(cores.map(|(client, _)| client), &client)?
            .result()
    }

    /// A connection, a byte there and back.
    pub(crate) fn connect_request(self, seconds: f64) -> Result<RoundTrips> {
        let (_server, address) = self.listen(None, &["crr-server"])?;
        let client = ["crr-client", &address, &seconds.to_string()];
        self.client.agent(None, &client)?.result()
    }

    /// A datagram of one byte there and back.
    pub(crate) fn datagram_round_trip(self, seconds: f64) -> Result<RoundTrips> {
        let (_server, address) = self.listen(None, &["udp-echo"])?;
        let client = ["udp-rr-client", &address, &seconds.to_string()];
        self.client.agent(None, &client)?.result()
    }

    /// Connections of a byte each way, so many at once, for some time.
    pub(crate) fn short_connections(self, workers: usize, seconds: f64) -> Result<Asked> {
        let mut server = self.start_server(None, &["short-server", "1"])?;
        let [port]: [u16; 1] = server.report()?;
        let (workers, seconds) = (workers.to_string(), seconds.to_string());
        let address = SocketAddr::from((self.address, port)).to_string();
        let client = [
            "short-client",
            "--first=server",
            "--workers",
            &workers,
            "--seconds",
            &seconds,
            &address,
        ];
        self.client.agent(None, &client)?.result()
    }

    /// Waits until an answer comes; fails when none does for some seconds. Whose address the server saw.
    pub(crate) fn reach(self) -> Result<IpAddr> {
        let (mut server, address) = self.listen(None, &["witness"])?;
        let obstacle: Option<String> = self.client.agent(None, &["reach", &address])?.result()?;
        match obstacle {
            None => Ok(server.report::<SocketAddr>()?.ip()),
            Some(obstacle) => bail!(obstacle),
        }
    }

    /// Starts an agent that listens; it and the address that the client shall use.
    pub(crate) fn listen(self, cores: Option<&str>, args: &[&str]) -> Result<(Running, String)> {
        let mut server = self.start_server(cores, args)?;
        let address = SocketAddr::new(IpAddr::V4(self.address), server.port()?);
        Ok((server, address.to_string()))
    }

    fn start_server(self, cores: Option<&str>, args: &[&str]) -> Result<Running> {
        match self.port {
            Some(port) => {
                let port = format!("--port={port}");
                self.server.agent(cores, &[&[port.as_str()], args].concat())
            }
            None => self.server.agent(cores, args),
        }
    }
}

fn bulk(received: Received, offered: Offered) -> Bulk {
    Bulk {
        received,
        retransmits: offered.retransmits,
    }
}
