//! The generator that all random choices come from: ChaCha8, 300 bytes of state while it is in use,
//! and a seed while it rests. Most torrents of a large session rest.

use std::convert::Infallible;

use rand::{Rng as _, SeedableRng as _, TryRng};
use rand_chacha::ChaCha8Rng;

/// The same draws and rests with the same seed give the same numbers.
#[derive(Debug)]
pub(crate) struct Dice {
    seed: u64,
    generator: Option<Box<ChaCha8Rng>>,
}

impl Dice {
    /// At rest.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, generator: None }
    }

    /// Gives the state up until the next draw, which begins with a seed drawn now.
    pub(crate) fn rest(&mut self) {
        if let Some(mut generator) = self.generator.take() {
            self.seed = generator.next_u64();
        }
    }

    fn generator(&mut self) -> &mut ChaCha8Rng {
        let seed = self.seed;
        self.generator.get_or_insert_with(|| Box::new(ChaCha8Rng::seed_from_u64(seed)))
    }
}

impl TryRng for Dice {
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
    fn draws_differ_and_repeat_with_the_seed() {
        let draws = |seed| {
            let mut dice = Dice::new(seed);
            let mut draws = [0; 6].map(|_: u64| dice.next_u64());
            dice.rest();
            dice.rest();
            draws[3..].fill_with(|| dice.next_u64());
            draws
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
        let mut sorted = draws(1);
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
