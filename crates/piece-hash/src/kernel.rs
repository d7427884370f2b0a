//! The ways to hash that this processor has.

use std::{fmt, sync::LazyLock};

#[macro_use]
mod wide;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod single;

/// The words a to e of FIPS 180-4.
pub(crate) type State = [u32; 5];

/// What SHA-1 takes at a time.
pub(crate) type Block = [u8; 64];

/// What the words of a message's state are before its first block.
pub(crate) const INITIAL: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The constants of rounds 0 to 19, 20 to 39, 40 to 59, 60 to 79.
const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// Continues each state with the blocks of its strip. All strips are of equal length.
type Compress = fn(&mut [State], &[&[Block]]);

/// One way to hash that the processor at hand has: which instructions, how many messages at once.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    name: &'static str,
    lane_count: usize,
    /// With fewer messages than this, narrower kernels are faster.
    least: usize,
    compress: Compress,
}

/// What this processor has, the fastest and widest first.
static AVAILABLE: LazyLock<Vec<Kernel>> = LazyLock::new(detect);

/// The order and the least numbers are by measurement on Zen 2, where AVX2 does 1.8 times what
/// one stream of SHA instructions does, and two streams 1.5 times; those of AVX-512 are by counting
/// instructions. `cargo run --release -p piece-hash --example speed` measures.
#[cfg(target_arch = "x86_64")]
fn detect() -> Vec<Kernel> {
    let pair = sha_ni::select();
    // Where hashing one message is done without SHA instructions, hardly anything is slower.
    let least_for_avx2 = if pair.is_some() { 8 } else { 2 };
    let kernels = [
        ("AVX-512, 16 lanes", 16, 7, avx512::select()),
        ("AVX2, 8 lanes", 8, least_for_avx2, avx2::select()),
        ("SHA-NI, 2 lanes", 2, 2, pair),
    ];
    let kernels = kernels.into_iter().filter_map(|(name, lane_count, least, compress)| {
        Some(Kernel { name, lane_count, least, compress: compress? })
    });
    kernels.chain([SINGLE]).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Vec<Kernel> {
    vec![SINGLE]
}

/// Always there, and for the last messages of the others.
const SINGLE: Kernel =
    Kernel { name: "one stream", lane_count: 1, least: 1, compress: single::compress };

impl Kernel {
    /// All that this processor has, the fastest first. There is always one.
    pub fn available() -> impl Iterator<Item = Self> {
        AVAILABLE.iter().copied()
    }

    /// The fastest that this processor has: what [`Lanes::new`](crate::Lanes::new) uses.
    pub fn best() -> Self {
        AVAILABLE[0]
    }

    /// How many messages it hashes at once, 1 to 16.
    pub fn lane_count(self) -> usize {
        self.lane_count
    }

    /// This kernel, or the widest below it that `count` messages are enough for.
    pub(crate) fn for_count(self, count: usize) -> Self {
        let narrower = Self::available().filter(|kernel| kernel.lane_count < self.lane_count);
        let mut candidates = std::iter::once(self).chain(narrower);
        candidates.find(|kernel| kernel.least <= count).unwrap_or(SINGLE)
    }

    /// Continues one state with one block.
    pub(crate) fn compress_one(state: &mut State, block: &Block) {
        single::compress(std::array::from_mut(state), &[std::array::from_ref(block)]);
    }

    /// Continues each state with the blocks of its strip. There are at most as many as it has lanes,
    /// and all strips are of equal length.
    pub(crate) fn compress(self, states: &mut [State], strips: &[&[Block]]) {
        (self.compress)(states, strips);
    }
}

/// A short name for people, such as "AVX-512, 16 lanes".
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// How many messages side by side this processor is best at, 1 to 16: that of [`Kernel::best`].
pub fn lane_count() -> usize {
    Kernel::best().lane_count()
}
