//! Which clip comes when: a function of the seed and of how many samples there were before, of nothing else.
//!
//! Enters: for each dataset, its clips shard by shard, and its weight. Leaves: an endless sequence of (dataset, clip).
//! Shards come in a fresh order every epoch, their clips pass a buffer from which the next is drawn by chance; every
//! clip comes once an epoch.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// A generator for one purpose: independent of all others, the same on every machine.
pub(super) fn generator(seed: u64, purpose: &str, number: u64) -> Pcg64 {
    let mut hash = blake3::Hasher::new_derive_key("simdrop train 2026-11 random numbers");
    hash.update(&seed.to_le_bytes()).update(&number.to_le_bytes()).update(purpose.as_bytes());
    Pcg64::from_seed(*hash.finalize().as_bytes())
}

/// A number from 0 to below 1.
pub(super) fn unit(generator: &mut Pcg64) -> f64 {
    (generator.next_u64() >> 11) as f64 * 0.5f64.powi(53)
}

/// A whole number below `most`.
fn below(generator: &mut Pcg64, most: usize) -> usize {
    ((u128::from(generator.next_u64()) * most as u128) >> 64) as usize
}

/// The clips of one dataset, epoch after epoch.
#[derive(Debug)]
pub(super) struct Epochs {
    /// Clips of each shard.
    shards: Vec<Vec<u32>>,
    name: String,
    seed: u64,
    room: usize,
    epoch: u64,
    generator: Pcg64,
    /// Clips of this epoch that are not in the buffer yet, the next one last.
    rest: Vec<u32>,
    buffer: Vec<u32>,
}

impl Epochs {
    /// The clips of `shards`, drawn out of a buffer of `room`; there is at least one clip.
    pub(super) fn new(shards: Vec<Vec<u32>>, name: &str, seed: u64, room: usize) -> Self {
        let generator = generator(seed, name, 0);
        Self {
            shards,
            name: name.to_owned(),
            seed,
            room: room.max(1),
            epoch: 0,
            generator,
            rest: vec![],
            buffer: vec![],
        }
    }

    fn begin_epoch(&mut self) {
        self.generator = generator(self.seed, &self.name, self.epoch);
        self.epoch += 1;
        let mut order: Vec<usize> = (0..self.shards.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, below(&mut self.generator, last + 1));
        }
        self.rest = order.into_iter().rev().flat_map(|shard| self.shards[shard].iter().rev().copied()).collect();
    }

    /// The next clip.
    pub(super) fn next(&mut self) -> u32 {
        if self.buffer.is_empty() && self.rest.is_empty() {
            self.begin_epoch();
        }
        while self.buffer.len() < self.room
            && let Some(clip) = self.rest.pop()
        {
            self.buffer.push(clip);
        }
        let drawn = below(&mut self.generator, self.buffer.len());
        self.buffer.swap_remove(drawn)
    }
}

/// The samples of a training: datasets in the shares of their weights.
#[derive(Debug)]
pub(super) struct Order {
    sources: Vec<(f64, Epochs)>,
    seed: u64,
    samples: u64,
}

impl Order {
    /// Samples of `sources`, each with its weight; one at least has one.
    pub(super) fn new(sources: Vec<(f64, Epochs)>, seed: u64) -> Self {
        Self { sources, seed, samples: 0 }
    }

    /// Goes on behind the first `samples`.
    pub(super) fn skip(&mut self, samples: u64) {
        for _ in 0..samples {
            self.next();
        }
    }

    /// The next sample: its number, its dataset and its clip there.
    pub(super) fn next(&mut self) -> (u64, usize, u32) {
        let number = self.samples;
        self.samples += 1;
        let total: f64 = self.sources.iter().map(|(weight, _)| weight).sum();
        let mut chance = unit(&mut generator(self.seed, "mix", number)) * total;
        let last = self.sources.iter().rposition(|(weight, _)| *weight > 0.0).unwrap_or_default();
        let chosen = self.sources[..last].iter().position(|(weight, _)| {
            chance -= weight;
            chance < 0.0
        });
        let source = chosen.unwrap_or(last);
        (number, source, self.sources[source].1.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(room: usize) -> Order {
        let sources = vec![
            (3.0, Epochs::new(vec![(0..7).collect(), (7..10).collect()], "a", 1, room)),
            (0.0, Epochs::new(vec![vec![0]], "never", 1, room)),
            (1.0, Epochs::new(vec![(0..4).collect()], "b", 1, room)),
        ];
        Order::new(sources, 1)
    }

    #[test]
    fn every_clip_comes_once_an_epoch() {
        for room in [1, 3, 100] {
            let mut epochs = Epochs::new(vec![(0..7).collect(), (7..10).collect(), vec![]], "a", 5, room);
            let mut orders = Vec::new();
            for _ in 0..4 {
                let order: Vec<u32> = (0..10).map(|_| epochs.next()).collect();
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..10).collect::<Vec<u32>>());
                orders.push(order);
            }
            assert!(orders.windows(2).any(|pair| pair[0] != pair[1]));
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let mut order = order(8);
        let counts = (0..4000).fold([0; 3], |mut counts, _| {
            counts[order.next().1] += 1;
            counts
        });
        assert_eq!(counts[1], 0);
        assert!((2900..3100).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_later_start_gives_the_same_samples() {
        let mut whole = order(3);
        let all: Vec<_> = (0..200).map(|_| whole.next()).collect();
        let mut later = order(3);
        later.skip(77);
        assert_eq!((0..123).map(|_| later.next()).collect::<Vec<_>>(), all[77..]);
    }
}
