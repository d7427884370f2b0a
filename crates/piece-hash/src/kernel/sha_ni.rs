//! Two messages with their SHA instructions interleaved: one proceeds while the other waits.

use std::arch::x86_64::*;

use super::{Block, Compress, State};

/// The same four words of both messages.
type Pair = [__m128i; 2];

select!("x86_64+sha+sse4.1");

/// Continues two states with their strips, which are of equal length.
#[target_feature(enable = "sha,sse4.1")]
fn compress(states: &mut [State], strips: &[&[Block]]) {
    let ([first, second], [first_strip, second_strip]) = (states, strips) else {
        unreachable!("two messages")
    };
    let mut state = gather(first, second);
    for (first_block, second_block) in first_strip.iter().zip(*second_strip) {
        state = block(state, load(first_block, second_block));
    }
    [*first, *second] = scatter(state);
}

with_instructions! {
    "sha,sse4.1":

    /// Returns the words a to d of both states and the words e, in the layout of the instructions.
    fn gather(first: &State, second: &State) -> [Pair; 2] {
        let [a, b, c, d, e] = first.map(u32::cast_signed);
        let [v, w, x, y, z] = second.map(u32::cast_signed);
        [
            [_mm_set_epi32(a, b, c, d), _mm_set_epi32(v, w, x, y)],
            [_mm_set_epi32(e, 0, 0, 0), _mm_set_epi32(z, 0, 0, 0)],
        ]
    }

    fn scatter([abcd, e]: [Pair; 2]) -> [State; 2] {
        [scatter_one(abcd[0], e[0]), scatter_one(abcd[1], e[1])]
    }

    fn scatter_one(abcd: __m128i, e: __m128i) -> State {
        let words = [
            _mm_extract_epi32::<3>(abcd),
            _mm_extract_epi32::<2>(abcd),
            _mm_extract_epi32::<1>(abcd),
            _mm_extract_epi32::<0>(abcd),
            _mm_extract_epi32::<3>(e),
        ];
        words.map(i32::cast_unsigned)
    }

    /// Loads the 16 words of each block, four per vector.
    fn load(first: &Block, second: &Block) -> [Pair; 4] {
        let mut words = [[_mm_setzero_si128(); 2]; 4];
        let first = first.as_chunks().0;
        let second = second.as_chunks().0;
        for (words, (first, second)) in words.iter_mut().zip(first.iter().zip(second)) {
            *words = [load_four(first), load_four(second)];
        }
        words
    }

    /// Loads four words, the first into the highest lane.
    fn load_four(bytes: &[u8; 16]) -> __m128i {
        // Numbers in memory order compile to one load.
        let both = u128::from_le_bytes(*bytes);
        let words = _mm_set_epi64x((both >> 64) as i64, both as i64);
        _mm_shuffle_epi8(words, _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f))
    }

    /// Performs the 80 rounds of one block of each message, four at a time.
    fn block([abcd, e]: [Pair; 2], mut w: [Pair; 4]) -> [Pair; 2] {
        let mut s = [four_rounds::<0>(abcd, add(e, w[0])), abcd];
        rounds!(four_more(&mut s, &mut w): 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
        let [now, before] = s;
        [add(abcd, now), next_e(before, e)]
    }

    /// Performs rounds `4 * T` to `4 * T + 3`. `state` has the words a to d before these rounds,
    /// and those four rounds earlier, which become e. `w` is a ring of the last 16 words of the
    /// message schedule.
    fn four_more<const T: usize>(state: &mut [Pair; 2], w: &mut [Pair; 4]) {
        let [now, before] = *state;
        if T >= 4 {
            let old = w[T % 4];
            w[T % 4] = schedule(old, w[(T + 1) % 4], w[(T + 2) % 4], w[(T + 3) % 4]);
        }
        let e = next_e(before, w[T % 4]);
        let next = match T / 5 {
            0 => four_rounds::<0>(now, e),
            1 => four_rounds::<1>(now, e),
            2 => four_rounds::<2>(now, e),
            _ => four_rounds::<3>(now, e),
        };
        *state = [next, now];
    }

    fn four_rounds<const F: i32>(abcd: Pair, e: Pair) -> Pair {
        [_mm_sha1rnds4_epu32::<F>(abcd[0], e[0]), _mm_sha1rnds4_epu32::<F>(abcd[1], e[1])]
    }

    fn next_e(before: Pair, words: Pair) -> Pair {
        [_mm_sha1nexte_epu32(before[0], words[0]), _mm_sha1nexte_epu32(before[1], words[1])]
    }

    /// Computes the next four words of the message schedule from the last 16.
    fn schedule(w0: Pair, w1: Pair, w2: Pair, w3: Pair) -> Pair {
        let a = [_mm_sha1msg1_epu32(w0[0], w1[0]), _mm_sha1msg1_epu32(w0[1], w1[1])];
        let b = [_mm_xor_si128(a[0], w2[0]), _mm_xor_si128(a[1], w2[1])];
        [_mm_sha1msg2_epu32(b[0], w3[0]), _mm_sha1msg2_epu32(b[1], w3[1])]
    }

    fn add(a: Pair, b: Pair) -> Pair {
        [_mm_add_epi32(a[0], b[0]), _mm_add_epi32(a[1], b[1])]
    }
}
