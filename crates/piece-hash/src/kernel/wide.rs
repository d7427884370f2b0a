//! SHA-1 of many messages in the lanes of vectors: the code shared by all widths.
//!
//! A vector has the same word of every message, so each operation of FIPS 180-4 works on all of
//! them at once. In memory, the words of a block are adjacent, so blocks are transposed first.

/// Defines `compress` in the module of a vector type.
///
/// The module defines the type `Vector` of `WIDTH` lanes and, for it, `splat`, `from_lanes`,
/// `to_lanes`, `transpose` (the 16 words of a block of every message), `add`, `rotate`, `xor` and
/// the functions of three words `choose`, `parity` and `majority`. The attribute permits their
/// instructions. This is not a trait, because methods of a trait can't have the attribute.
macro_rules! wide_kernel {
    (#[$features:meta]) => {
        /// Continues each of 1 to `WIDTH` states with its strip. All strips are of equal length.
        #[$features]
        pub(super) fn compress(states: &mut [State], strips: &[&[Block]]) {
            // Lanes without a message repeat the first one. Their results are dropped.
            let mut lanes = [strips[0]; WIDTH];
            lanes[..strips.len()].copy_from_slice(strips);
            let mut state = gather(states);
            // If the compiler knew the constants, it would add them last, and the next round would
            // have to wait for that.
            let [k0, k1, k2, k3] = std::hint::black_box(K);
            let k = [splat(k0), splat(k1), splat(k2), splat(k3)];
            for index in 0..strips[0].len() {
                let mut blocks = [&strips[0][index]; WIDTH];
                for (block, strip) in blocks.iter_mut().zip(lanes) {
                    *block = &strip[index];
                }
                state = block(state, transpose(blocks), k);
            }
            scatter(state, states);
        }

        #[$features]
        #[inline]
        fn gather(states: &[State]) -> [Vector; 5] {
            let mut vectors = [splat(0); 5];
            for (word, vector) in vectors.iter_mut().enumerate() {
                let mut lanes = [0; WIDTH];
                for (lane, state) in lanes.iter_mut().zip(states) {
                    *lane = state[word];
                }
                *vector = from_lanes(lanes);
            }
            vectors
        }

        #[$features]
        #[inline]
        fn scatter(vectors: [Vector; 5], states: &mut [State]) {
            for (word, vector) in vectors.into_iter().enumerate() {
                for (lane, state) in to_lanes(vector).into_iter().zip(&mut *states) {
                    state[word] = lane;
                }
            }
        }

        /// Performs the 80 rounds of one block of each message.
        #[$features]
        #[inline]
        fn block(before: [Vector; 5], mut w: [Vector; 16], k: [Vector; 4]) -> [Vector; 5] {
            let mut s = before;
            rounds!(round(&mut s, &mut w, k): 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19);
            rounds!(round(&mut s, &mut w, k): 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39);
            rounds!(round(&mut s, &mut w, k): 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59);
            rounds!(round(&mut s, &mut w, k): 60 61 62 63 64 65 66 67 68 69 70 71 72 73 74 75 76 77 78 79);
            for (word, before) in s.iter_mut().zip(before) {
                *word = add(*word, before);
            }
            s
        }

        /// Performs round `T` on the words a to e. `w` is a ring of the last 16 words of the
        /// message schedule.
        #[$features]
        #[inline]
        fn round<const T: usize>(
            state: &mut [Vector; 5],
            w: &mut [Vector; 16],
            k: [Vector; 4],
        ) {
            if T >= 16 {
                let old = parity(w[T % 16], w[(T + 2) % 16], w[(T + 8) % 16]);
                w[T % 16] = rotate::<1, 31>(xor(old, w[(T + 13) % 16]));
            }
            let [a, b, c, d, e] = *state;
            let mixed = match T / 20 {
                0 => choose(b, c, d),
                2 => majority(b, c, d),
                _ => parity(b, c, d),
            };
            // Adds the words that are known early first. The next round waits for a, the last one.
            let early = add(add(add(w[T % 16], k[T / 20]), e), mixed);
            *state = [add(early, rotate::<5, 27>(a)), a, rotate::<30, 2>(b), c, d];
        }
    };
}

/// Calls the function for each of the numbers, in this order.
macro_rules! rounds {
    ($round:ident $arguments:tt: $($t:literal)*) => {
        $( $round::<$t> $arguments; )*
    };
}

/// Defines functions that use these instructions, to be inlined in others that do.
macro_rules! with_instructions {
    ($instructions:literal: $($function:item)*) => {
        $( #[target_feature(enable = $instructions)] #[inline] $function )*
    };
}

/// Defines `select` in the module of a kernel.
macro_rules! select {
    ($instructions:tt) => {
        /// Returns the kernel, if the processor has the instructions.
        #[multiversion::multiversion(targets($instructions))]
        pub(super) fn select() -> Option<Compress> {
            multiversion::target::match_target! {
                $instructions => Some(compress),
                _ => None,
            }
        }
    };
}
