//! The ways to hash that this processor has.

use std::fmt;

/// One way to hash that the processor at hand has: which instructions, how many messages at once.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    name: &'static str,
    lane_count: usize,
}

/// One message after another, by the `sha1` crate.
const SINGLE: Kernel = Kernel { name: "one stream", lane_count: 1 };

impl Kernel {
    /// All that this processor has, the fastest first. There is always one.
    pub fn available() -> impl Iterator<Item = Self> {
        [SINGLE].into_iter()
    }

    /// The fastest that this processor has: what [`Lanes::new`](crate::Lanes::new) uses.
    pub fn best() -> Self {
        SINGLE
    }

    /// How many messages it hashes at once, 1 to 16.
    pub fn lane_count(self) -> usize {
        self.lane_count
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
