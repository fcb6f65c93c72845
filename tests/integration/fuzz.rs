//! The fuzz targets on inputs that are drawn here, for a few seconds; `make fuzz` runs them for long.

#[path = "../../fuzz/harness.rs"]
mod harness;

use std::time::{Duration, Instant};

use super::program::root;

/// Most time for all inputs.
const MOST: Duration = Duration::from_secs(8);

/// Numbers that follow from a seed, so that a failure can be repeated.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }

    /// The bytes of a clip after a few mutations.
    fn mutant(&mut self, clips: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = clips[self.below(clips.len())].clone();
        for _ in 0..=self.below(4) {
            let (at, length) = (self.below(bytes.len()), 1 + self.below(64));
            let end = (at + length).min(bytes.len());
            match self.below(6) {
                0 => bytes[at..end].fill(0),
                1 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << self.below(8)),
                2 => bytes[at..end].fill(0xff),
                3 => bytes.truncate(at.max(1)),
                4 => drop(bytes.drain(at..end)),
                _ => {
                    let other = &clips[self.below(clips.len())];
                    bytes.truncate(at.max(1));
                    bytes.extend_from_slice(&other[self.below(other.len())..]);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }
}

#[test]
fn what_fuzzing_has_found_ends_no_process() {
    let mut inputs = 0;
    for entry in std::fs::read_dir(root().join("fuzz/found")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension != "md") {
            let bytes = std::fs::read(entry.path()).unwrap();
            harness::probe(&bytes);
            harness::decode(&bytes);
            inputs += 1;
        }
    }
    assert!(inputs > 0);
}

#[test]
fn targets_survive_damaged_clips() {
    let mut clips: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(root().join("data/clips/synthetic")).unwrap().flatten() {
        let is_small = entry.metadata().unwrap().len() < 16 << 10;
        if is_small && entry.path().extension().is_some_and(|extension| extension == "mp4") {
            clips.push(std::fs::read(entry.path()).unwrap());
        }
    }
    clips.sort();
    assert!(clips.len() > 20, "{} small clips", clips.len());
    let start = Instant::now();
    for clip in &clips {
        harness::probe(clip);
        harness::decode(clip);
        assert!(start.elapsed() < 4 * MOST, "a good clip takes too long");
    }
    let (mut draws, mut inputs, start) = (Draws(1), 0, Instant::now());
    while start.elapsed() < MOST && inputs < 2000 {
        let bytes = draws.mutant(&clips);
        let begin = Instant::now();
        harness::probe(&bytes);
        harness::decode(&bytes);
        inputs += 1;
        assert!(begin.elapsed() < Duration::from_secs(30), "input {inputs} takes {:?}", begin.elapsed());
    }
    println!("{inputs} inputs");
    assert!(inputs > 20, "{inputs} inputs in {MOST:?}");
}
