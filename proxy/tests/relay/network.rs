//! ECN and the container's link (R-ECN, R-PMTU).

use vswitch_wire::TcpFlags;

use crate::{
    scenario::{C, G, MSS, Scenario},
    segment::Segment,
};

const ECN: TcpFlags = TcpFlags::ECE.union(TcpFlags::CWR);

#[test]
fn r_ecn_1_ecn_is_not_negotiated() {
    let offer = Segment::syn(C, MSS).flags(TcpFlags::SYN | ECN);
    let mut s = Scenario::pending_with(offer);
    s.connected();
    assert_eq!(s.out(), ["SA 5000 ack 1001"]);
}

#[test]
fn r_ecn_1_no_mark_is_echoed() {
    let mut s = Scenario::established();
    let marked = Segment::ack(C + 1, G + 1).data(C + 1, 10);
    s.sends(marked.flags(TcpFlags::ACK | ECN));
    s.serves(10);
    let out = s.take();
    assert_eq!(s.host.outbound.len(), 10, "nor does a mark hold up data");
    for emitted in out {
        assert_eq!(emitted.segment.flags.0 & ECN.0, 0);
    }
}

#[test]
fn r_pmtu_1_the_containers_large_segments_are_the_hosts_business() {
    let mut s = Scenario::established();
    s.sends(Segment::ack(C + 1, G + 1).data(C + 1, 9000));
    assert_eq!(s.host.outbound.len(), 9000);
    assert_eq!(s.host.refused, []);
}
