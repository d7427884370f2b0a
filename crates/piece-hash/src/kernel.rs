//! The implementations of SHA-1 that this processor supports.

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

/// The unit of SHA-1.
pub(crate) type Block = [u8; 64];

/// The state of a message before its first block.
pub(crate) const INITIAL: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];

/// The constants of rounds 0 to 19, 20 to 39, 40 to 59, 60 to 79.
const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

/// Continues each state with the blocks of its strip. All strips are of equal length.
type Compress = fn(&mut [State], &[&[Block]]);

/// An implementation of SHA-1 that this processor supports: its instructions, and how many messages
/// it hashes at once.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    name: &'static str,
    lane_count: usize,
    /// The number of messages from which this kernel is faster than narrower ones.
    min_count: usize,
    compress: Compress,
}

/// The kernels that this processor supports, the fastest and widest first.
static AVAILABLE: LazyLock<Vec<Kernel>> = LazyLock::new(detect);

/// Finds the kernels that this processor supports.
///
/// Their order and minimum counts were measured on Zen 2. There AVX2 is 1.8 times as fast as one
/// stream of SHA instructions, and two streams 1.5 times. The numbers of AVX-512 come from counting
/// instructions. `cargo run --release -p piece-hash --example speed` measures all kernels.
#[cfg(target_arch = "x86_64")]
fn detect() -> Vec<Kernel> {
    let pair = sha_ni::select();
    // One stream without SHA instructions is slower than AVX2 with two messages.
    let min_for_avx2 = if pair.is_some() { 8 } else { 2 };
    let kernels = [
        ("AVX-512, 16 lanes", 16, 7, avx512::select()),
        ("AVX2, 8 lanes", 8, min_for_avx2, avx2::select()),
        ("SHA-NI, 2 lanes", 2, 2, pair),
    ];
    let kernels = kernels.into_iter().filter_map(|(name, lane_count, min_count, compress)| {
        Some(Kernel { name, lane_count, min_count, compress: compress? })
    });
    kernels.chain([SINGLE]).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Vec<Kernel> {
    vec![SINGLE]
}

/// Always available, and used for the remaining messages of wider kernels.
const SINGLE: Kernel =
    Kernel { name: "one stream", lane_count: 1, min_count: 1, compress: single::compress };

impl Kernel {
    /// Returns the kernels that this processor supports, the fastest first. There is at least one.
    pub fn available() -> impl Iterator<Item = Self> {
        AVAILABLE.iter().copied()
    }

    /// Returns the fastest kernel, which [`Lanes::new`](crate::Lanes::new) uses.
    pub fn best() -> Self {
        AVAILABLE[0]
    }

    /// Returns how many messages the kernel hashes at once, 1 to 16.
    pub fn lane_count(self) -> usize {
        self.lane_count
    }

    /// Returns this kernel, or the widest narrower one for which `count` messages are enough.
    pub(crate) fn for_count(self, count: usize) -> Self {
        let narrower = Self::available().filter(|kernel| kernel.lane_count < self.lane_count);
        let mut candidates = std::iter::once(self).chain(narrower);
        candidates.find(|kernel| kernel.min_count <= count).unwrap_or(SINGLE)
    }

    /// Continues one state with one block.
    pub(crate) fn compress_one(state: &mut State, block: &Block) {
        single::compress(std::array::from_mut(state), &[std::array::from_ref(block)]);
    }

    /// Continues each state with the blocks of its strip. There are at most [`Self::lane_count`]
    /// states, and all strips are of equal length.
    pub(crate) fn compress(self, states: &mut [State], strips: &[&[Block]]) {
        (self.compress)(states, strips);
    }
}

/// Shows a short name, such as "AVX-512, 16 lanes".
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Returns how many messages this processor hashes best in parallel, 1 to 16: the lane count of
/// [`Kernel::best`].
pub fn lane_count() -> usize {
    Kernel::best().lane_count()
}
