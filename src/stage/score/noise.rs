//! The ε of the (t, ε) pairs: standard normal numbers by a counter, so that every element is known from the seed, the
//! number of the pair and its own place alone. `schemas/denoiser.md` gives the same in numpy.
//!
//! A SplitMix64 stream a pair, two numbers of it a Box–Muller transform, two elements a transform.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ndarray::{Array1, Array5};
use ndarray_npy::{WriteNpyError, WriteNpyExt, write_npy};

use super::config::ScoreConfig;
use super::pairs::pairs;
use crate::error::{Error, Result};

const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The ε of pair number `k`, `length` elements; a longer one begins with a shorter one of even length.
pub fn epsilon(seed: u64, k: u64, length: usize) -> Vec<f32> {
    let stream = mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add((k + 1).wrapping_mul(GOLDEN)));
    let draw = |counter: u64| mix(stream.wrapping_add(counter.wrapping_mul(GOLDEN))) >> 11;
    let unit = (0.5f64).powi(53);
    let mut numbers = Vec::with_capacity(length + 1);
    for pair in 0..length.div_ceil(2) as u64 {
        let (a, b) = (draw(2 * pair + 1), draw(2 * pair + 2));
        // The first is never 0, of which there is no logarithm.
        let radius = (-2.0 * ((a + 1) as f64 * unit).ln()).sqrt();
        let (sine, cosine) = (std::f64::consts::TAU * (b as f64 * unit)).sin_cos();
        numbers.push((radius * cosine) as f32);
        numbers.push((radius * sine) as f32);
    }
    numbers.truncate(length);
    numbers
}

/// The output function of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

type Cache = BTreeMap<(u64, u64, usize), Weak<[f32]>>;

/// All partitions use the same ε; they are kept for as long as somebody does.
static CACHE: Mutex<Cache> = Mutex::new(Cache::new());

/// [`epsilon`], computed once a process.
pub(super) fn shared_epsilon(seed: u64, k: u64, length: usize) -> Arc<[f32]> {
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache.get(&(seed, k, length)).and_then(Weak::upgrade) {
        return known;
    }
    cache.retain(|_, values| values.strong_count() > 0);
    let made: Arc<[f32]> = epsilon(seed, k, length).into();
    cache.insert((seed, k, length), Arc::downgrade(&made));
    made
}

/// Writes the pairs of every score for clips of `shape` (frames, height, width): `<dir>/<score>/epsilon.npy`, f32
/// [K, frames, height, width, 3], and `<dir>/<score>/t.npy`, f32 [K].
pub fn export_noise(config: &ScoreConfig, shape: [usize; 3], dir: &Path) -> Result<()> {
    let [frames, height, width] = shape;
    for (name, score) in &config.scores {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let pairs = pairs(score);
        let length = frames * height * width * 3;
        let epsilons = pairs.iter().flat_map(|pair| epsilon(config.seed, pair.k, length)).collect();
        let epsilons = Array5::from_shape_vec((pairs.len(), frames, height, width, 3), epsilons);
        write(&folder.join("epsilon.npy"), &epsilons.map_err(Error::internal)?)?;
        write(&folder.join("t.npy"), &pairs.iter().map(|pair| pair.t).collect::<Array1<f32>>())?;
    }
    Ok(())
}

fn write(path: &Path, array: &impl WriteNpyExt) -> Result<()> {
    write_npy(path, array).map_err(|error| match error {
        WriteNpyError::Io(error) => Error::io("write", path)(error),
        other => Error::internal(format!("write {}: {other}", path.display())),
    })
}
