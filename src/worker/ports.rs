//! The devices behind the ports of one switch.

use std::io::{self, IoSlice};

use mio::Token;
use vswitch_switch::{DropReason, EgressOutcome, PortId};
use zerocopy::IntoBytes;

use crate::{
    engine::{OutFrame, Transmit},
    io::device::Device,
    model::EndpointId,
};

/// A device that serves a switch port.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) device: Device,
    pub(super) token: Token,
    pub(super) endpoint: EndpointId,
    /// The kernel has said, by a read or a write, that the device is gone.
    pub(super) lost: bool,
}

impl Attached {
    fn lose(&mut self, newly_lost: &mut Vec<EndpointId>) {
        // The control plane needs a while to take the device away; frames for it keep coming.
        if !std::mem::replace(&mut self.lost, true) {
            newly_lost.push(self.endpoint);
        }
    }
}

/// The devices of one switch by port number; the gateway's port has none.
#[derive(Debug, Default)]
pub(super) struct Devices {
    by_port: Vec<Option<Attached>>,
    /// What the devices served that were found lost since this was last taken, each one once.
    pub(super) newly_lost: Vec<EndpointId>,
}

impl Devices {
    pub(super) fn insert(&mut self, port: PortId, attached: Attached) {
        let index = port.index();
        if self.by_port.len() <= index {
            self.by_port.resize_with(index + 1, || None);
        }
        self.by_port[index] = Some(attached);
    }

    pub(super) fn remove(&mut self, port: PortId) -> Option<Attached> {
        self.by_port.get_mut(port.index())?.take()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PortId, &Attached)> {
        self.by_port
            .iter()
            .enumerate()
            .filter_map(|(index, device)| Some((PortId(u32::try_from(index).ok()?), device.as_ref()?)))
    }

    /// What the device behind `port` serves.
    pub(super) fn endpoint(&self, port: PortId) -> Option<EndpointId> {
        let device = self.by_port.get(port.index())?.as_ref()?;
        Some(device.endpoint)
    }

    /// Reads one frame, with its vnet header in front, from the device behind `port`.
    pub(super) fn receive(&mut self, port: PortId, buffer: &mut [u8]) -> Received {
        let Some(attached) = self.by_port.get_mut(port.index()).and_then(Option::as_mut) else {
            return Received::Lost;
        };
        match attached.device.read(buffer) {
            Ok(len) => Received::Frame(len),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Empty,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Received::Unreadable,
            Err(error) if attached.device.is_lost(&error) => {
                attached.lose(&mut self.newly_lost);
                Received::Lost
            }
            Err(error) => Received::Failed(error),
        }
    }
}

/// What a read from a device brought.
#[derive(Debug)]
pub(super) enum Received {
    Empty,
    Failed(io::Error),
    Frame(usize),
    Lost,
    /// Something was there that cannot be read; more may be behind it, for which no edge comes.
    Unreadable,
}

impl Transmit for Devices {
    fn transmit(&mut self, port: PortId, frame: &OutFrame<'_>) -> EgressOutcome {
        let Some(attached) = self.by_port.get_mut(port.index()).and_then(Option::as_mut) else {
            return EgressOutcome::Dropped(DropReason::Device);
        };
        let [a, b, c, d] = frame.parts;
        let slices = [frame.vnet.as_bytes(), a, b, c, d].map(IoSlice::new);
        // Most frames leave as they came, in one piece; the kernel looks at each piece, empty or not.
        let used = slices
            .iter()
            .rposition(|slice| !slice.is_empty())
            .map_or(0, |last| last + 1);
        match attached.device.write(&slices[..used]) {
            Ok(_) => EgressOutcome::Sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                EgressOutcome::Dropped(DropReason::QueueFull)
            }
            // EIO is a TAP whose interface is down (B-PORT-2), EMSGSIZE a veth whose MTU was made smaller.
            Err(error) => {
                if attached.device.is_lost(&error) {
                    attached.lose(&mut self.newly_lost);
                }
                EgressOutcome::Dropped(DropReason::Device)
            }
        }
    }
}
