//! What a flow's seed decides: both ends know it all.

use crate::random::Random;

/// What both ends of a flow send, and when.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) to_server: Stream,
    pub(super) to_client: Stream,
    pub(super) order: Order,
    /// `SO_RCVBUF` of both ends, where small windows are to be seen.
    pub(super) receive_buffer: Option<usize>,
}

/// One direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// Of [`crate::random::stream`].
    pub(super) key: u64,
    pub(super) len: u64,
}

/// Who begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Both,
    /// The server, once the client has said that it sends no more.
    ClientFirst,
    /// The client, once the server has.
    ServerFirst,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut stream = || Stream {
            key: random.number(),
            len: match random.below(100) {
                ..2 => LONG,
                2..7 => 0,
                7..12 => random.below(10),
                _ => random.below(MOST),
            },
        };
        Self {
            to_server: stream(),
            to_client: stream(),
            order: match random.below(8) {
                0 => Order::ClientFirst,
                1 => Order::ServerFirst,
                _ => Order::Both,
            },
            receive_buffer: (random.below(4) == 0).then(|| 2048 << random.below(5)),
        }
    }
}

const MOST: u64 = 200 << 10;
const LONG: u64 = 2 << 20;
