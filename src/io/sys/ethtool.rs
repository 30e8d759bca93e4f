//! Offloads of an interface (`SIOCETHTOOL`, linux/ethtool.h).

use std::{io, os::fd::AsRawFd};

use libc::c_char;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::{check, interface_request};

/// Switches those of these features off that the driver of an interface of the calling thread's namespace has; `names`
/// are the kernel's (net/ethtool/common.c: `netdev_features_strings`).
///
/// # Errors
///
/// `ENODEV` when there is no such interface; `EPERM` without `CAP_NET_ADMIN` there.
pub fn switch_off(interface: &str, names: &[&str]) -> io::Result<()> {
    let known = features(interface)?;
    let positions = known
        .iter()
        .enumerate()
        .filter(|(_, name)| names.contains(&name.as_str()))
        .map(|(position, _)| position);
    let blocks = known.len().div_ceil(32);
    // struct ethtool_sfeatures: command, number of blocks, and for each a mask of what is meant and a mask of what is wanted.
    let mut request = vec![0_u32; 2 + 2 * blocks];
    request[0] = ETHTOOL_SFEATURES;
    request[1] = blocks as u32;
    for position in positions {
        request[2 + 2 * (position / 32)] |= 1 << (position % 32);
    }
    call(interface, &mut request)
}

/// The names of all features, by position.
fn features(interface: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: command, reserved, mask of 64 bits, and one number for each bit of the mask.
    let mut request = [ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0, 0];
    call(interface, &mut request)?;
    let count = request[4] as usize;
    if count > FEATURES_MAX {
        return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
    }
    // struct ethtool_gstrings: command, set, number of strings, and 32 bytes for each.
    let mut request = vec![0_u32; 3 + count * (NAME_LEN / 4)];
    request[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
    call(interface, &mut request)?;
    let bytes: Vec<u8> = request[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = bytes.chunks_exact(NAME_LEN).map(|name| {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Ok(names.collect())
}

/// `request` must be as long as its command and counts say.
fn call(interface: &str, request: &mut [u32]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut carrier = interface_request(interface)?;
    carrier.ifr_ifru.ifru_data = request.as_mut_ptr().cast::<c_char>();
    // SAFETY: SIOCETHTOOL reads and writes the structure that `ifr_data` points to. Its length follows from its first
    // words, and the two callers have made `request` that long; it lives, unshared, for the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut carrier) })?;
    Ok(())
}

/// linux/ethtool.h.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;

/// `ETH_GSTRING_LEN`.
const NAME_LEN: usize = 32;

/// More than the 64 that fit `netdev_features_t`.
const FEATURES_MAX: usize = 1024;
