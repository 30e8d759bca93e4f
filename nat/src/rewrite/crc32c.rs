//! The checksum of SCTP (RFC 9260 §6.8, appendix A).

/// Writes the checksum of a packet, from its common header on; nothing where it is too short to have one.
pub(crate) fn fill(packet: &mut [u8]) {
    if let Some(checksum) = of(packet) {
        packet[FIELD..FIELD + 4].copy_from_slice(&checksum);
    }
}

/// The checksum field that the packet should have; `None` where it is too short to have one.
pub(crate) fn of(packet: &[u8]) -> Option<[u8; 4]> {
    let (head, rest) = packet.split_at_checked(FIELD + 4)?;
    let register = update(!0, &head[..FIELD]);
    let register = update(register, &[0; 4]);
    // Appendix A: the bits are reflected, and so the bytes go out with the lowest first.
    Some((!update(register, rest)).to_le_bytes())
}

/// The checksum of any bytes.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    !update(!0, bytes)
}

/// The register after `bytes`, eight at a time ("slicing": Kounavis and Berry, 2005).
fn update(register: u32, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<8>();
    let register = blocks.iter().fold(register, |register, block| {
        let [r0, r1, r2, r3] = register.to_le_bytes();
        let [b0, b1, b2, b3, b4, b5, b6, b7] = *block;
        let low = [b0 ^ r0, b1 ^ r1, b2 ^ r2, b3 ^ r3];
        let look = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
        look(7, low[0])
            ^ look(6, low[1])
            ^ look(5, low[2])
            ^ look(4, low[3])
            ^ look(3, b4)
            ^ look(2, b5)
            ^ look(1, b6)
            ^ look(0, b7)
    });
    rest.iter().fold(register, |register, &byte| {
        TABLES[0][usize::from(register as u8 ^ byte)] ^ (register >> 8)
    })
}

/// `TABLES[n][b]` is the register after byte `b` and `n` zero bytes, from 0.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let feedback = if register & 1 == 1 { POLYNOMIAL } else { 0 };
            register = (register >> 1) ^ feedback;
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = tables[0][(before & 0xff) as usize] ^ (before >> 8);
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// Castagnoli's 0x1EDC6F41 (RFC 9260, appendix A), reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Where the field is in the common header (RFC 9260 §3.1).
const FIELD: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4: the same CRC, as iSCSI has it.
    #[test]
    fn n_op_1_the_crc_is_castagnoli_s() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        for (bytes, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
        ] {
            assert_eq!(!update(!0, bytes), crc);
        }
    }

    #[test]
    fn n_op_1_the_crc_does_not_depend_on_how_bytes_are_sliced() {
        let bytes: Vec<u8> = (0..200u32).map(|n| ((n * 151) >> 3) as u8).collect();
        let bit_by_bit = |bytes: &[u8]| {
            bytes.iter().fold(!0u32, |register, &byte| {
                (0..8).fold(register ^ u32::from(byte), |register, _| {
                    (register >> 1) ^ (POLYNOMIAL * (register & 1))
                })
            })
        };
        for len in 0..bytes.len() {
            assert_eq!(update(!0, &bytes[..len]), bit_by_bit(&bytes[..len]), "{len}");
        }
    }

    #[test]
    fn a_packet_too_short_for_a_checksum_has_none() {
        assert_eq!(of(&[0; 11]), None);
        fill(&mut [0; 11]);
        assert!(of(&[0; 12]).is_some());
    }
}
