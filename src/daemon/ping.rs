//! Whether the host lets us ping for containers.

use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, SocketType, ipproto, socket},
};

/// What the host's administrator can do so that containers can ping the outside; `None` if they can (R-ICMP-1).
pub(super) fn hint() -> Option<String> {
    let sockets = [
        (AddressFamily::INET, ipproto::ICMP),
        (AddressFamily::INET6, ipproto::ICMPV6),
    ];
    hint_of(sockets.map(|(family, protocol)| try_socket(family, protocol)))
}

fn try_socket(family: AddressFamily, protocol: Protocol) -> Result<(), Errno> {
    socket(family, SocketType::DGRAM, Some(protocol)).map(drop)
}

fn hint_of(outcomes: [Result<(), Errno>; 2]) -> Option<String> {
    // Only this error is about permission (kernel: net/ipv4/ping.c, `ping_init_sock`); a host without IPv6 has
    // another. One setting rules both families.
    outcomes.contains(&Err(Errno::ACCESS)).then(|| {
        format!(
            "containers cannot ping the outside: group {} is not in net.ipv4.ping_group_range; to allow it: {REMEDY}",
            rustix::process::getegid().as_raw()
        )
    })
}

const REMEDY: &str = "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_icmp_1_a_host_that_forbids_ping_sockets_is_told_the_remedy() {
        let forbidden = hint_of([Err(Errno::ACCESS), Err(Errno::ACCESS)]).expect("there is a remedy");
        assert!(forbidden.ends_with(REMEDY), "{forbidden}");
        assert!(hint_of([Ok(()), Err(Errno::ACCESS)]).is_some());
        assert_eq!(hint_of([Ok(()), Err(Errno::AFNOSUPPORT)]), None, "no IPv6");
        assert_eq!(hint_of([Ok(()), Ok(())]), None);
    }
}
