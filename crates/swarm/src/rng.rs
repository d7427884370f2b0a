//! The generator that all random choices of a swarm come from.

use std::convert::Infallible;

use rand::{Rng as _, SeedableRng as _, TryRng};
use rand_chacha::ChaCha8Rng;

/// A ChaCha8 generator that can give its 300 bytes of state up while nothing is drawn. Most
/// torrents of a large session are idle.
///
/// The same draws and hibernations with the same seed give the same numbers.
#[derive(Debug)]
pub(crate) struct IdleRng {
    seed: u64,
    generator: Option<Box<ChaCha8Rng>>,
}

impl IdleRng {
    /// Returns a hibernating generator.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, generator: None }
    }

    /// Frees the state until the next draw, which starts from a seed drawn now.
    pub(crate) fn hibernate(&mut self) {
        if let Some(mut generator) = self.generator.take() {
            self.seed = generator.next_u64();
        }
    }

    fn generator(&mut self) -> &mut ChaCha8Rng {
        let seed = self.seed;
        self.generator.get_or_insert_with(|| Box::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl TryRng for IdleRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.generator().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.generator().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.generator().fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_with_the_seed() {
        let draws = |seed| {
            let mut rng = IdleRng::new(seed);
            let mut draws = [0; 6].map(|_: u64| rng.next_u64());
            rng.hibernate();
            rng.hibernate();
            draws[3..].fill_with(|| rng.next_u64());
            draws
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let mut sorted = draws(1);
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
