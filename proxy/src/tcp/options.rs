//! What the container's SYN offers.

use vswitch_wire::{TcpOption, TcpSegment};

use super::Settings;

/// The options of a SYN that matter to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer {
    /// Most payload of a segment to the container: what it takes and what its link carries (R-OPT-3).
    pub(super) mss: u16,
    /// Its window scale, 0 to 14 (R-OPT-4).
    pub(super) window_scale: Option<u8>,
}

impl Offer {
    /// Options behind a malformed one are not read.
    pub(super) fn read(syn: &TcpSegment<'_>, settings: &Settings) -> Self {
        let mut offer = Self {
            mss: settings.default_mss,
            window_scale: None,
        };
        for option in syn.options().map_while(Result::ok) {
            match option {
                TcpOption::MaximumSegmentSize(mss) => offer.mss = mss.max(SMALLEST_MSS),
                TcpOption::WindowScale(scale) => offer.window_scale = Some(scale.min(LARGEST_SCALE)),
                _ => {}
            }
        }
        offer.mss = offer.mss.min(settings.mss);
        offer
    }
}

/// Smallest MSS that is honoured: Linux's `tcp_min_snd_mss` (R-OPT-1).
const SMALLEST_MSS: u16 = 48;

/// RFC 7323 §2.3: "the shift.cnt MUST be limited to 14".
const LARGEST_SCALE: u8 = 14;
