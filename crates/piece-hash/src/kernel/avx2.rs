//! 8 messages in the lanes of AVX2's vectors.

use std::arch::x86_64::*;

use super::{Block, Compress, K, State};

const WIDTH: usize = 8;
type Vector = __m256i;

select!("x86_64+avx2");

wide_kernel!(#[target_feature(enable = "avx2")]);

with_instructions! {
    "avx2":

    fn splat(word: u32) -> Vector {
        _mm256_set1_epi32(word.cast_signed())
    }

    fn from_lanes(lanes: [u32; WIDTH]) -> Vector {
        let [a, b, c, d, e, f, g, h] = lanes.map(u32::cast_signed);
        _mm256_setr_epi32(a, b, c, d, e, f, g, h)
    }

    fn to_lanes(vector: Vector) -> [u32; WIDTH] {
        let lanes = [
            _mm256_extract_epi32::<0>(vector),
            _mm256_extract_epi32::<1>(vector),
            _mm256_extract_epi32::<2>(vector),
            _mm256_extract_epi32::<3>(vector),
            _mm256_extract_epi32::<4>(vector),
            _mm256_extract_epi32::<5>(vector),
            _mm256_extract_epi32::<6>(vector),
            _mm256_extract_epi32::<7>(vector),
        ];
        lanes.map(i32::cast_unsigned)
    }

    /// Puts word `i` of each block into vector `i`: twice 8 x 8 words.
    fn transpose(b: [&Block; WIDTH]) -> [Vector; 16] {
        let [w0, w1, w2, w3, w4, w5, w6, w7] = transpose_half(b, 0);
        let [w8, w9, w10, w11, w12, w13, w14, w15] = transpose_half(b, 1);
        [w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11, w12, w13, w14, w15]
    }

    fn transpose_half(b: [&Block; WIDTH], half: usize) -> [Vector; 8] {
        // Written out, because the compiler would keep arrays in loops in memory.
        let p = [load(b[0], half), load(b[1], half), load(b[2], half), load(b[3], half)];
        let q = [load(b[4], half), load(b[5], half), load(b[6], half), load(b[7], half)];
        let (p, q) = (transpose_words(p), transpose_words(q));
        [
            _mm256_permute2x128_si256::<0x20>(p[0], q[0]),
            _mm256_permute2x128_si256::<0x20>(p[1], q[1]),
            _mm256_permute2x128_si256::<0x20>(p[2], q[2]),
            _mm256_permute2x128_si256::<0x20>(p[3], q[3]),
            _mm256_permute2x128_si256::<0x31>(p[0], q[0]),
            _mm256_permute2x128_si256::<0x31>(p[1], q[1]),
            _mm256_permute2x128_si256::<0x31>(p[2], q[2]),
            _mm256_permute2x128_si256::<0x31>(p[3], q[3]),
        ]
    }

    /// Puts word `i` of the four vectors into vector `i`, separately in the lower and the upper
    /// four lanes.
    fn transpose_words([a, b, c, d]: [Vector; 4]) -> [Vector; 4] {
        let (ab_low, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab_low, cd_low),
            _mm256_unpackhi_epi64(ab_low, cd_low),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    }

    /// Loads the words of half a block, in the processor's byte order.
    fn load(block: &Block, half: usize) -> Vector {
        let [a, b, c, d] = quarters(block, half);
        let swap = _mm256_set_epi64x(
            0x0c0d_0e0f_0809_0a0b,
            0x0405_0607_0001_0203,
            0x0c0d_0e0f_0809_0a0b,
            0x0405_0607_0001_0203,
        );
        _mm256_shuffle_epi8(_mm256_setr_epi64x(a, b, c, d), swap)
    }

    fn add(a: Vector, b: Vector) -> Vector {
        _mm256_add_epi32(a, b)
    }

    fn xor(a: Vector, b: Vector) -> Vector {
        _mm256_xor_si256(a, b)
    }

    /// Rotates each lane left. `RIGHT` is 32 - `LEFT`.
    fn rotate<const LEFT: i32, const RIGHT: i32>(a: Vector) -> Vector {
        _mm256_or_si256(_mm256_slli_epi32::<LEFT>(a), _mm256_srli_epi32::<RIGHT>(a))
    }

    fn parity(a: Vector, b: Vector, c: Vector) -> Vector {
        xor(xor(a, b), c)
    }

    fn choose(a: Vector, b: Vector, c: Vector) -> Vector {
        xor(c, _mm256_and_si256(a, xor(b, c)))
    }

    fn majority(a: Vector, b: Vector, c: Vector) -> Vector {
        _mm256_xor_si256(b, _mm256_and_si256(xor(a, b), xor(b, c)))
    }
}

/// Returns the 32 bytes as numbers in memory order, which compiles to one load.
fn quarters(block: &Block, half: usize) -> [i64; 4] {
    let bytes = &block.as_chunks::<8>().0[4 * half..4 * half + 4];
    [bytes[0], bytes[1], bytes[2], bytes[3]].map(i64::from_le_bytes)
}
