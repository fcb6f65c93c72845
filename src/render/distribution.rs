//! Distributions, and the draws from them.
//!
//! A draw depends on the seed, the number of the scene and the name of what is drawn, and on nothing else: no machine, no
//! order, no other element. Only integers, sums, products and roundings are used, which are the same everywhere.

use std::collections::BTreeMap;
use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number: itself, one of several, or any in a range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Number {
    /// Always this one.
    Constant(f64),
    /// One of these, all as likely.
    OneOf(Vec<f64>),
    /// Any number in a range, all as likely.
    Range(Range),
}

/// A range of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Number {
    /// Any number from `min` to `max`.
    pub const fn range(min: f64, max: f64) -> Self {
        Self::Range(Range { min, max })
    }

    /// What is wrong with it, for numbers between `least` and `most`.
    pub fn problem(&self, least: f64, most: f64) -> Option<String> {
        let numbers = match self {
            Self::Constant(number) => vec![*number],
            Self::OneOf(numbers) => numbers.clone(),
            Self::Range(Range { min, max }) => vec![*min, *max],
        };
        if numbers.is_empty() {
            return Some("is an empty list".to_owned());
        }
        if let Self::Range(Range { min, max }) = self
            && min > max
        {
            return Some(format!("goes from {min} to {max}: min is above max"));
        }
        let outside = numbers.iter().find(|number| !(least..=most).contains(*number))?;
        Some(format!("may be {outside}, it has to lie between {least} and {most}"))
    }
}

/// One of several words: a word, a list of them, or a map of words to weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Choice<T: Ord> {
    /// One of these, all as likely.
    OneOf(Vec<T>),
    /// One of these, as likely as their weights say.
    Weighted(BTreeMap<T, f64>),
    /// Always this one.
    Constant(T),
}

impl<T: Ord + Clone> Choice<T> {
    /// The words with their weights.
    pub fn weights(&self) -> Vec<(T, f64)> {
        match self {
            Self::OneOf(words) => words.iter().map(|word| (word.clone(), 1.0)).collect(),
            Self::Weighted(weights) => weights.iter().map(|(word, weight)| (word.clone(), *weight)).collect(),
            Self::Constant(word) => vec![(word.clone(), 1.0)],
        }
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Option<String> {
        let weights = self.weights();
        if weights.iter().any(|(_, weight)| !weight.is_finite() || *weight < 0.0) {
            return Some("has a weight that is no number from 0 on".to_owned());
        }
        (weights.iter().map(|(_, weight)| weight).sum::<f64>() <= 0.0).then(|| "has nothing to choose from".to_owned())
    }
}

/// Draws for one element of one scene.
#[derive(Debug)]
pub struct Draws(blake3::OutputReader);

impl Draws {
    /// The draws of the element `name` of scene number `number`.
    pub fn new(seed: u64, number: u64, name: &str) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(b"simdrop scene 1");
        hash.update(&seed.to_le_bytes());
        hash.update(&number.to_le_bytes());
        hash.update(name.as_bytes());
        Self(hash.finalize_xof())
    }

    /// The next 53 bits.
    pub fn bits(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) >> 11
    }

    /// A number from 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        self.bits() as f64 / (1_u64 << 53) as f64
    }

    /// A number from `min` to `max`, to four places.
    pub fn between(&mut self, min: f64, max: f64) -> f64 {
        rounded(min + (max - min) * self.unit())
    }

    /// A whole number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Yes in this share of all draws.
    pub fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// One of several things.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }

    /// A number of a distribution, to four places.
    pub fn number(&mut self, number: &Number) -> f64 {
        match number {
            Number::Constant(number) => rounded(*number),
            Number::OneOf(numbers) => rounded(*self.pick(numbers)),
            Number::Range(Range { min, max }) => self.between(*min, *max),
        }
    }

    /// A whole number of a distribution; the borders of a range count in full.
    pub fn count(&mut self, number: &Number) -> usize {
        match number {
            Number::Range(Range { min, max }) => {
                let (min, max) = (min.ceil() as usize, max.floor() as usize);
                min + self.below((max + 1).saturating_sub(min).max(1))
            }
            other => self.number(other).round() as usize,
        }
    }

    /// A word of a choice.
    pub fn choice<T: Ord + Clone + Debug>(&mut self, choice: &Choice<T>) -> T {
        let weights = choice.weights();
        let at = self.unit() * weights.iter().map(|(_, weight)| weight).sum::<f64>();
        let mut reached = 0.0;
        for (word, weight) in &weights {
            reached += weight;
            if at < reached {
                return word.clone();
            }
        }
        // Rounding may leave the last border just below the sum.
        let last = weights.into_iter().rev().find(|(_, weight)| *weight > 0.0);
        last.map(|(word, _)| word).expect("a choice that was checked has something to choose from")
    }
}

/// To four places: what a configuration stores.
pub fn rounded(number: f64) -> f64 {
    let rounded = (number * 1e4).round() / 1e4;
    // No minus zero.
    rounded + 0.0
}
