//! Tables of bytes on every instruction set that this CPU has, against the table itself.

use sandglass_ops::int8::look_up;
use sandglass_ops::{Isa, OpError, Runtime};

/// SplitMix64.
fn mixed(at: u64) -> u64 {
    let z = at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 27)
}

/// All codes by any table, at every length around a vector's and at lengths that are cut into parts, and nothing beside them.
#[test]
fn each_byte_becomes_what_the_table_has() {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    let runtimes: Vec<Runtime> = isas.map(|isa| Runtime::with_isa(2, isa).unwrap()).collect();
    for len in (0..400).chain([4099, 33_001, 200_003]) {
        let table: [u8; 256] = std::array::from_fn(|at| mixed(256 * len as u64 + at as u64) as u8);
        // 167 is odd: 256 bytes in a row are all codes.
        let x: Vec<u8> = (0..len).map(|at| (167 * at + len) as u8).collect();
        let expected: Vec<u8> = x.iter().map(|&x| table[usize::from(x)]).collect();
        for runtime in &runtimes {
            // Another alignment for each length.
            let start = len % 67;
            let mut out = vec![7; start + len + 64];
            look_up(runtime, &x, &table, &mut out[start..start + len]).unwrap();
            assert_eq!(out[start..start + len], expected, "{:?}, {len} bytes", runtime.isa());
            let mut beside = out[..start].iter().chain(&out[start + len..]);
            assert!(beside.all(|&byte| byte == 7), "{:?}, {len} bytes", runtime.isa());
        }
    }
    let mut out = [0; 3];
    assert!(matches!(look_up(&runtimes[0], &[0; 4], &[0; 256], &mut out), Err(OpError::Length { .. })));
}
