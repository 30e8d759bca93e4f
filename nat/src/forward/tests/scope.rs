use super::*;

fn check(bytes: &[u8]) -> Result<(), DropReason> {
    check_scope(bytes, &parse(bytes))
}

#[test]
fn n_fwd_10_martians_are_dropped_in_both_places() {
    let martian = Err(DropReason::Martian);
    for (text, outcome) in [
        ("10.0.0.2", Ok(())),
        ("1.0.0.1", Ok(())),
        ("126.255.255.255", Ok(())),
        ("128.0.0.1", Ok(())),
        ("169.253.255.255", Ok(())),
        ("169.255.0.0", Ok(())),
        ("192.0.2.9", Ok(())),
        ("223.255.255.255", Ok(())),
        ("0.0.0.0", martian),
        ("0.1.2.3", martian),
        ("127.0.0.1", martian),
        ("127.255.255.255", martian),
        ("169.254.0.1", martian),
        ("224.0.0.1", martian),
        ("239.255.255.250", martian),
        ("240.0.0.1", martian),
        ("255.255.255.255", martian),
    ] {
        let [src, dst] = BOTH[0];
        assert_eq!(
            check(&Recipe::udp(address(text), address(dst)).bytes()),
            outcome,
            "from {text}"
        );
        assert_eq!(
            check(&Recipe::udp(address(src), address(text)).bytes()),
            outcome,
            "to {text}"
        );
    }
}

#[test]
fn n_fwd_13_n_v6_3_what_has_a_smaller_scope_never_crosses() {
    let martian = Err(DropReason::Martian);
    for (text, outcome) in [
        ("2001:db8:a::2", Ok(())),
        ("fd00::1", Ok(())),
        ("64:ff9b::1", Ok(())),
        ("::2", Ok(())),
        ("fe7f::1", Ok(())),
        ("fec0::1", Ok(())),
        ("::", martian),
        ("::1", martian),
        ("::ffff:10.0.0.2", martian),
        ("fe80::1", martian),
        ("febf:ffff::1", martian),
        ("ff02::1", martian),
        ("ff0e::1", martian),
    ] {
        let [src, dst] = BOTH[1];
        assert_eq!(
            check(&Recipe::udp(address(text), address(dst)).bytes()),
            outcome,
            "from {text}"
        );
        assert_eq!(
            check(&Recipe::udp(address(src), address(text)).bytes()),
            outcome,
            "to {text}"
        );
    }
}

#[test]
fn n_fwd_8_source_routes_are_dropped_and_other_options_pass() {
    let plain = Recipe::udp(address(BOTH[0][0]), address(BOTH[0][1])).bytes();
    let source_route = Err(DropReason::SourceRoute);
    let malformed = Err(DropReason::Malformed);
    let options: [(&str, &[u8], Result<(), DropReason>); 9] = [
        ("record route", &[7, 7, 4, 0, 0, 0, 0, 0], Ok(())),
        ("timestamp", &[68, 8, 5, 0, 0, 0, 0, 0], Ok(())),
        ("router alert", &[148, 4, 0, 0], Ok(())),
        ("LSRR", &[131, 7, 4, 198, 51, 100, 3, 0], source_route),
        ("SSRR", &[137, 7, 4, 198, 51, 100, 3, 0], source_route),
        ("LSRR behind others", &[1, 148, 4, 0, 0, 131, 3, 4], source_route),
        ("behind the end", &[0, 131, 3, 4], Ok(())),
        ("no length", &[1, 1, 1, 7], malformed),
        ("a length of 1", &[7, 1, 131, 3], malformed),
    ];
    for (name, options, outcome) in options {
        assert_eq!(check(&with_options(&plain, options)), outcome, "{name}");
    }
    assert_eq!(check(&with_options(&plain, &[7, 9, 0, 0])), malformed, "too long");
}

#[test]
fn n_v6_1_a_routing_header_of_type_0_is_dropped() {
    let recipe = Recipe::udp(address(BOTH[1][0]), address(BOTH[1][1]));
    let source_route = Err(DropReason::SourceRoute);
    assert_eq!(check(&recipe.clone().extended(43, 1).bytes()), source_route);
    assert_eq!(
        check(&recipe.clone().extended(0, 1).extended(43, 3).bytes()),
        source_route
    );
    assert_eq!(
        check(&recipe.clone().extended(0, 2).extended(60, 1).bytes()),
        Ok(())
    );
    let mut type_4 = recipe.extended(43, 1).bytes();
    type_4[42] = 4;
    assert_eq!(check(&type_4), Ok(()), "segment routing is not ours to judge");
}

#[test]
fn n_v6_2_neighbour_discovery_is_never_routed() {
    let [src, dst] = BOTH[1];
    for kind in 0..=255 {
        let recipe = Recipe {
            ttl: 255,
            ..Recipe::new(address(src), address(dst), Upper::Icmp(kind, 0, vec![0; 20]))
        };
        let is_discovery = (133..=137).contains(&kind);
        for recipe in [recipe.clone(), recipe.extended(60, 1)] {
            assert_eq!(check(&recipe.bytes()).is_err(), is_discovery, "{kind}");
        }
    }
    // What begins like a type in a later fragment is none.
    let upper = Upper::Raw(58, vec![133; 24]);
    let later = Recipe::new(address(src), address(dst), upper).fragment(80, false);
    assert_eq!(check(&later.bytes()), Ok(()));
    let in_v4 = Recipe::new(
        address(BOTH[0][0]),
        address(BOTH[0][1]),
        Upper::Raw(58, vec![133; 24]),
    );
    assert_eq!(check(&in_v4.bytes()), Ok(()));
}

#[test]
fn every_sample_cut_at_every_length_is_survived() {
    let plain = Recipe::tcp(address(BOTH[0][0]), address(BOTH[0][1])).bytes();
    let v6 = Recipe::tcp(address(BOTH[1][0]), address(BOTH[1][1]))
        .extended(0, 2)
        .extended(43, 2)
        .bytes();
    for sample in [with_options(&plain, &[7, 7, 4, 0, 0, 0, 0, 0]), v6] {
        for len in 0..=sample.len() {
            let mut short = sample[..len].to_vec();
            match sample[0] >> 4 {
                4 if len >= 28 => {
                    short[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                    mend_header(&mut short);
                }
                6 if len >= 40 => short[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes()),
                _ => {}
            }
            if let Ok(packet) = Packet::parse(&short) {
                let _ = check_scope(&short, &packet);
                clamp_mss(&mut short, &packet, &Offload::NONE, 1000);
            }
            // And bytes that are fewer than the packet says: nobody gives those, and nothing is read beyond.
            let _ = check_scope(&sample[..len], &parse(&sample));
            clamp_mss(&mut sample[..len].to_vec(), &parse(&sample), &Offload::NONE, 1000);
        }
        for bit in 0..sample.len().min(64) * 8 {
            let mut flipped = sample.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if flipped[0] >> 4 == 4 && flipped[0] & 0x0f >= 5 {
                mend_header(&mut flipped);
            }
            if let Ok(packet) = Packet::parse(&flipped) {
                let _ = check_scope(&flipped, &packet);
                clamp_mss(&mut flipped, &packet, &Offload::NONE, 1000);
            }
        }
    }
}
