//! The arithmetic of a score: x from bytes, x_t from x and ε, and the loss. `schemas/denoiser.md` has the same in numpy.

use super::config::Normalize;

/// Least standard deviation that x is divided by: a clip of one colour stays one.
const LEAST_DEVIATION: f64 = 0.06;

/// x: the bytes of a clip, normalised.
///
/// x depends on a byte and the clip's mean and deviation only. Both come from exact sums of integers, so that their
/// order does not matter; the 256 values are made in f64 and rounded once.
pub fn normalized(bytes: &[u8], normalize: Normalize) -> Vec<f32> {
    let table = table(bytes, normalize);
    bytes.iter().map(|&byte| table[usize::from(byte)]).collect()
}

fn table(bytes: &[u8], normalize: Normalize) -> [f32; 256] {
    let plain = |byte: usize| byte as f64 / 127.5 - 1.0;
    match normalize {
        Normalize::None => std::array::from_fn(|byte| plain(byte) as f32),
        Normalize::PerClip => {
            let (mean, deviation) = moments(bytes);
            let scale = 0.5 / deviation.max(LEAST_DEVIATION);
            std::array::from_fn(|byte| ((plain(byte) - mean) * scale) as f32)
        }
    }
}

/// Mean and population standard deviation of b/127.5 − 1 over all bytes b.
fn moments(bytes: &[u8]) -> (f64, f64) {
    let (mut sum, mut squares) = (0u64, 0u64);
    // Of 65,536 bytes the squares still fit 32 bits, which is twice as fast.
    for part in bytes.chunks(1 << 16) {
        let (some, some_squares) =
            part.iter().fold((0u32, 0u32), |(a, b), &byte| (a + u32::from(byte), b + u32::from(byte).pow(2)));
        sum += u64::from(some);
        squares += u64::from(some_squares);
    }
    let count = bytes.len().max(1) as f64;
    let mean = sum as f64 / count;
    let variance = (squares as f64 / count - mean * mean).max(0.0);
    (mean / 127.5 - 1.0, variance.sqrt() / 127.5)
}

/// Writes x_t = (1 − t)·x + t·ε.
pub fn noised(x: &[f32], epsilon: &[f32], t: f32, into: &mut [f32]) {
    let keep = 1.0 - t;
    for ((to, x), epsilon) in into.iter_mut().zip(x).zip(epsilon) {
        *to = keep * x + t * epsilon;
    }
}

/// Mean over the elements of (v − V)², with v = ε − x and the model's output V. The sum is made in f64, in eight lanes,
/// always in the same order.
pub fn loss(x: &[f32], epsilon: &[f32], output: &[f32]) -> f64 {
    const LANES: usize = 8;
    let ((x, x_rest), (epsilon, epsilon_rest)) = (x.as_chunks::<LANES>(), epsilon.as_chunks::<LANES>());
    let (output, output_rest) = output.as_chunks::<LANES>();
    let mut sums = [0f64; LANES];
    for ((x, epsilon), output) in x.iter().zip(epsilon).zip(output) {
        for lane in 0..LANES {
            let error = f64::from(epsilon[lane] - x[lane] - output[lane]);
            sums[lane] += error * error;
        }
    }
    for ((sum, (x, epsilon)), output) in sums.iter_mut().zip(x_rest.iter().zip(epsilon_rest)).zip(output_rest) {
        let error = f64::from(epsilon - x - output);
        *sum += error * error;
    }
    sums.iter().sum::<f64>() / (x.len() * LANES + x_rest.len()).max(1) as f64
}
