//! Cuts a TCP super-frame into its segments, as a device without offloads would: a loss takes one of them.

use vswitch_wire::{EthernetHeader, GsoKind, Offload, TcpHeader, VnetHeader, checksum};
use zerocopy::IntoBytes;

/// Calls `pass` with each segment behind its vnet header; with the whole frame if it is not TCP.
pub(super) fn cut(frame: &[u8], offload: Offload, segment: &mut Vec<u8>, pass: &mut impl FnMut(&[u8])) {
    let (Some(gso), Some(partial)) = (offload.gso, offload.checksum) else {
        return;
    };
    let is_v4 = match gso.kind {
        GsoKind::TcpV4 => true,
        GsoKind::TcpV6 => false,
        GsoKind::Udp => {
            segment.clear();
            segment.extend_from_slice(offload.header().as_bytes());
            segment.extend_from_slice(frame);
            return pass(segment);
        }
    };
    // Both lie in the frame: the vnet header was held against it.
    let (l3, l4) = (EthernetHeader::LEN, usize::from(partial.start));
    let (headers, payload) = frame.split_at(usize::from(gso.header_len));
    let all = payload.len();
    let last = payload.chunks(gso.size.into()).count() - 1;
    let plain = Offload { gso: None, ..offload };
    for (index, chunk) in payload.chunks(gso.size.into()).enumerate() {
        segment.clear();
        segment.extend_from_slice(plain.header().as_bytes());
        segment.extend_from_slice(headers);
        segment.extend_from_slice(chunk);
        let bytes = &mut segment[VnetHeader::LEN..];
        let less = (all - chunk.len()) as u16;
        if is_v4 {
            subtract(bytes, l3 + 2, less);
            add(bytes, l3 + 4, index as u32);
            bytes[l3 + 10..l3 + 12].fill(0);
            let sum = checksum::finish(checksum::sum(&bytes[l3..l4]));
            bytes[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
        } else {
            subtract(bytes, l3 + 4, less);
        }
        let seq = u32::from_be_bytes([bytes[l4 + 4], bytes[l4 + 5], bytes[l4 + 6], bytes[l4 + 7]])
            .wrapping_add(index as u32 * u32::from(gso.size));
        bytes[l4 + 4..l4 + 8].copy_from_slice(&seq.to_be_bytes());
        if index < last {
            bytes[l4 + 13] &= !(FIN | PSH);
        }
        // The sum of the pseudo-header holds the length.
        let place = l4 + TcpHeader::CHECKSUM_OFFSET as usize;
        let sum = u16::from_be_bytes([bytes[place], bytes[place + 1]]);
        let (old, new) = ((all as u32).to_be_bytes(), (chunk.len() as u32).to_be_bytes());
        let sum = checksum::update_partial(sum, &old, &new);
        bytes[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        pass(segment);
    }
}

fn subtract(bytes: &mut [u8], at: usize, less: u16) {
    let value = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_sub(less);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn add(bytes: &mut [u8], at: usize, more: u32) {
    let value = u16::from_be_bytes([bytes[at], bytes[at + 1]]).wrapping_add(more as u16);
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// RFC 9293 §3.1.
const FIN: u8 = 1;
const PSH: u8 = 8;
