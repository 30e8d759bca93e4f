//! Measures vswitchd beside its peers on this machine.
//!
//! Every figure is a ratio of interleaved rounds of one run: both sides see the same noise. Each round
//! runs the same traffic through each topology, in an order that alternates; the report gives medians.

mod agent;
mod c2c;
mod compare;
mod cpu;
mod daemon;
mod flows;
mod fuzz;
mod outbound;
mod packet;
mod plot;
mod ports;
mod program;
mod publish;
mod random;
mod report;
mod scale;
mod soak;
mod stage;
mod stats;
mod topology;
mod traffic;
mod uplink;

use std::process::ExitCode;

use clap::Parser;

/// Measures vswitchd beside its peers on this machine.
#[derive(Debug, Parser)]
enum Command {
    /// Container to container: our switch beside the kernel's bridge with veth pairs.
    C2c(c2c::Options),
    /// Many idle flows to the outside: rate kept beside them, memory of the daemon.
    Flows(flows::Options),
    /// The NAT engine on damaged and hostile packets: nothing panics, leaks or is wrong.
    Fuzz(fuzz::Options),
    /// From a container to the outside: our relay beside slirp4netns, pasta and the kernel's masquerade.
    Outbound(outbound::Options),
    /// Packet sockets on a veth: a frame per call, several per call, and a ring in memory.
    Packet(packet::Options),
    /// Ten thousand published ports: how soon they answer, memory of the daemon.
    Ports(ports::Options),
    /// From a client to a published port: ours beside docker-proxy, RootlessKit, pasta, slirp4netns and DNAT.
    Publish(compare::Options<publish::Peer>),
    /// Many endpoints on one network, and many networks: attach time, memory, throughput kept.
    Scale(scale::Options),
    /// Many flows over a link that loses frames, then many short ones: every byte right, nothing left over.
    Soak(soak::Options),
    /// From a container to the outside by a device uplink, and back: ours beside the kernel's masquerade and DNAT.
    Uplink(compare::Options<uplink::Peer>),
    /// Makes or takes traffic; what the other commands run inside namespaces.
    #[command(hide = true)]
    Agent(agent::Agent),
}

fn main() -> ExitCode {
    let outcome = match Command::parse() {
        Command::C2c(options) => c2c::run(&options),
        Command::Flows(options) => flows::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Outbound(options) => outbound::run(&options),
        Command::Packet(options) => packet::run(&options),
        Command::Ports(options) => ports::run(&options),
        Command::Publish(options) => publish::run(&options),
        Command::Scale(options) => scale::run(&options),
        Command::Soak(options) => soak::run(&options),
        Command::Uplink(options) => uplink::run(&options),
        Command::Agent(agent) => agent.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
