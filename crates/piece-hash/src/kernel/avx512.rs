//! 16 messages in the lanes of AVX-512's vectors.

use std::arch::x86_64::*;

use super::{Block, Compress, K, State};

const WIDTH: usize = 16;
type Vector = __m512i;

select!("x86_64+avx512f+avx512bw");

wide_kernel!(#[target_feature(enable = "avx512f,avx512bw")]);

with_instructions! {
    "avx512f,avx512bw":

    fn splat(word: u32) -> Vector {
        _mm512_set1_epi32(word.cast_signed())
    }

    fn from_lanes(lanes: [u32; WIDTH]) -> Vector {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = lanes.map(u32::cast_signed);
        _mm512_setr_epi32(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
    }

    fn to_lanes(vector: Vector) -> [u32; WIDTH] {
        let mut lanes = [0; WIDTH];
        let low = _mm512_extracti64x4_epi64::<0>(vector);
        let high = _mm512_extracti64x4_epi64::<1>(vector);
        for (half, part) in [(0, low), (8, high)] {
            lanes[half] = _mm256_extract_epi32::<0>(part);
            lanes[half + 1] = _mm256_extract_epi32::<1>(part);
            lanes[half + 2] = _mm256_extract_epi32::<2>(part);
            lanes[half + 3] = _mm256_extract_epi32::<3>(part);
            lanes[half + 4] = _mm256_extract_epi32::<4>(part);
            lanes[half + 5] = _mm256_extract_epi32::<5>(part);
            lanes[half + 6] = _mm256_extract_epi32::<6>(part);
            lanes[half + 7] = _mm256_extract_epi32::<7>(part);
        }
        lanes.map(i32::cast_unsigned)
    }

    /// Puts word `i` of each block into vector `i`: 16 x 16 words.
    fn transpose(b: [&Block; WIDTH]) -> [Vector; 16] {
        // Written out, because the compiler would keep arrays in loops in memory.
        let p = transpose_words([load(b[0]), load(b[1]), load(b[2]), load(b[3])]);
        let q = transpose_words([load(b[4]), load(b[5]), load(b[6]), load(b[7])]);
        let r = transpose_words([load(b[8]), load(b[9]), load(b[10]), load(b[11])]);
        let s = transpose_words([load(b[12]), load(b[13]), load(b[14]), load(b[15])]);
        let [w0, w4, w8, w12] = transpose_quarters([p[0], q[0], r[0], s[0]]);
        let [w1, w5, w9, w13] = transpose_quarters([p[1], q[1], r[1], s[1]]);
        let [w2, w6, w10, w14] = transpose_quarters([p[2], q[2], r[2], s[2]]);
        let [w3, w7, w11, w15] = transpose_quarters([p[3], q[3], r[3], s[3]]);
        [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
    }

    /// Puts word `i` of the four vectors into vector `i`, separately in each quarter.
    fn transpose_words([a, b, c, d]: [Vector; 4]) -> [Vector; 4] {
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab_low, cd_low),
            _mm512_unpackhi_epi64(ab_low, cd_low),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }

    /// Puts quarter `i` of the four vectors into vector `i`.
    fn transpose_quarters([a, b, c, d]: [Vector; 4]) -> [Vector; 4] {
        let (ab_even, ab_odd) = (even_quarters(a, b), odd_quarters(a, b));
        let (cd_even, cd_odd) = (even_quarters(c, d), odd_quarters(c, d));
        [
            even_quarters(ab_even, cd_even),
            even_quarters(ab_odd, cd_odd),
            odd_quarters(ab_even, cd_even),
            odd_quarters(ab_odd, cd_odd),
        ]
    }

    /// Returns quarters 0 and 2 of both vectors.
    fn even_quarters(a: Vector, b: Vector) -> Vector {
        _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b)
    }

    /// Returns quarters 1 and 3 of both vectors.
    fn odd_quarters(a: Vector, b: Vector) -> Vector {
        _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)
    }

    /// Loads the words of a block, in the processor's byte order.
    fn load(block: &Block) -> Vector {
        let [a, b, c, d, e, f, g, h] = eighths(block);
        let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
        _mm512_shuffle_epi8(_mm512_setr_epi64(a, b, c, d, e, f, g, h), swap)
    }

    fn add(a: Vector, b: Vector) -> Vector {
        _mm512_add_epi32(a, b)
    }

    fn xor(a: Vector, b: Vector) -> Vector {
        _mm512_xor_si512(a, b)
    }

    /// Rotates each lane left. `RIGHT`, 32 - `LEFT`, is for vectors without a rotate instruction.
    fn rotate<const LEFT: i32, const RIGHT: i32>(a: Vector) -> Vector {
        _mm512_rol_epi32::<LEFT>(a)
    }

    // In the tables of ternary logic, bit 4a + 2b + c is the result for the bits a, b and c.

    fn parity(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b1001_0110>(a, b, c)
    }

    fn choose(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b1100_1010>(a, b, c)
    }

    fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm512_ternarylogic_epi32::<0b1110_1000>(a, b, c)
    }
}

/// Returns the 64 bytes as numbers in memory order, which compiles to one load.
fn eighths(block: &Block) -> [i64; 8] {
    let bytes = block.as_chunks::<8>().0;
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]]
        .map(i64::from_le_bytes)
}
