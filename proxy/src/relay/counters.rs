//! What a relay counts of its flows.

use crate::counters::counters;

counters! {
    /// What a relay has counted since it began.
    Counters {
    /// Segments and datagrams with a wrong checksum.
        bad_checksum,
        /// Packets that no parser takes, addresses or ports that nobody can have.
        bad_packet,
        /// Flows refused because the address policy forbids their destination.
        denied,
        /// Idle flows ended to make room for new ones.
        evicted,
        /// Flows that were begun.
        flows,
        /// New flows refused because their container has, or all containers have, as many as allowed.
        limit_flows,
        /// New flows refused because their container begins too many without an answer.
        limit_rate,
        /// New connections refused because too many wait for the host's connect.
        limit_pending,
        /// New flows refused for want of descriptors or memory.
        no_descriptor,
        /// New connections refused for want of a free port towards their destination.
        no_port,
        /// Packets of a protocol that is not relayed.
        protocol,
        /// Resets sent for segments of no connection.
        stray,
        /// DNS queries refused because too many of their container wait for an answer.
        limit_queries,
    }
}
