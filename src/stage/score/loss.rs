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

/// Of each of `frames` equal parts the [`loss`].
pub fn frame_losses(x: &[f32], epsilon: &[f32], output: &[f32], frames: usize) -> Vec<f64> {
    let length = (x.len() / frames.max(1)).max(1);
    let parts = x.chunks_exact(length).zip(epsilon.chunks_exact(length)).zip(output.chunks_exact(length));
    parts.map(|((x, epsilon), output)| loss(x, epsilon, output)).collect()
}

/// By how much one frame's relative gain of the reference, 1 − L_reference / L_base, exceeds that of the clip's median
/// frame; `losses` has both of each frame.
pub fn peak(losses: &[[f64; 2]]) -> f64 {
    let mut gains: Vec<f64> =
        losses.iter().map(|[base, reference]| 1.0 - reference / base.max(f64::MIN_POSITIVE)).collect();
    gains.sort_by(f64::total_cmp);
    let middle = gains.len() / 2;
    match gains.last() {
        None => 0.0,
        Some(largest) if gains.len() % 2 == 1 => largest - gains[middle],
        Some(largest) => largest - (gains[middle - 1] + gains[middle]) / 2.0,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_of_frames_are_those_of_their_elements() {
        let x: Vec<f32> = (0..4 * 9).map(|at| at as f32 * 0.25).collect();
        let (epsilon, output) = (vec![0f32; x.len()], vec![1f32; x.len()]);
        let losses = frame_losses(&x, &epsilon, &output, 4);
        assert_eq!(losses.len(), 4);
        for (frame, loss) in losses.iter().enumerate() {
            let errors = x[frame * 9..(frame + 1) * 9].iter().map(|&x| f64::from(x + 1.0).powi(2));
            assert!((loss - errors.sum::<f64>() / 9.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_peak_is_one_frame_above_the_others() {
        // Of what a scene has in every frame there is no peak.
        assert!(peak(&[[0.4, 0.3]; 8]).abs() < 1e-12);
        let mut losses = [[0.4, 0.4]; 5];
        losses[2] = [0.8, 0.6];
        assert!((peak(&losses) - 0.25).abs() < 1e-12);
        // The median of an even number is between two.
        assert!((peak(&[[1.0, 1.0], [1.0, 0.5]]) - 0.25).abs() < 1e-12);
    }
}
