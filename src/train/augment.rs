//! From bytes to x: enters a clip's frames, leaves normalised numbers, mirrored or blurred by chance.

use rand_pcg::Pcg64;

use super::clip::Shape;
use super::order::unit;
use super::spec::ClipsSpec;
use crate::stage::score::loss::normalized;

/// x of a clip, frames × height × width × 3.
pub(super) fn x(bytes: &[u8], shape: Shape, clips: &ClipsSpec, generator: &mut Pcg64) -> Vec<f32> {
    // All draws are made whether they are used or not: one setting does not move the chances of another.
    let [flip, blur, sigma] = [(); 3].map(|()| unit(generator));
    let mut bytes = std::borrow::Cow::Borrowed(bytes);
    if flip < clips.flip {
        mirror(bytes.to_mut(), shape);
    }
    if blur < clips.blur.share {
        blurred(bytes.to_mut(), shape, sigma * clips.blur.sigma);
    }
    normalized(&bytes, clips.normalize)
}

fn mirror(bytes: &mut [u8], [_, _, width]: Shape) {
    for line in bytes.chunks_exact_mut(width * 3) {
        let (pixels, _) = line.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

/// A Gaussian over the pixels of each frame, rounded to bytes as a blurred video has them.
fn blurred(bytes: &mut [u8], [_, height, width]: Shape, sigma: f64) {
    let kernel = kernel(sigma);
    if kernel.len() == 1 {
        return;
    }
    let mut lines = vec![0f32; height * width * 3];
    for frame in bytes.chunks_exact_mut(height * width * 3) {
        let at = |y: usize, x: usize, part: usize| (y * width + x) * 3 + part;
        for y in 0..height {
            for x in 0..width {
                for part in 0..3 {
                    let sum = weighted(&kernel, x, width, |x| f32::from(frame[at(y, x, part)]));
                    lines[at(y, x, part)] = sum;
                }
            }
        }
        for y in 0..height {
            for x in 0..width {
                for part in 0..3 {
                    let sum = weighted(&kernel, y, height, |y| lines[at(y, x, part)]);
                    frame[at(y, x, part)] = (sum + 0.5) as u8;
                }
            }
        }
    }
}

/// Sum over the neighbours of `centre`; beyond the edge the last one is taken again.
fn weighted(kernel: &[f32], centre: usize, length: usize, value: impl Fn(usize) -> f32) -> f32 {
    let reach = kernel.len() / 2;
    kernel
        .iter()
        .enumerate()
        .map(|(tap, weight)| weight * value((centre + tap).saturating_sub(reach).min(length - 1)))
        .sum()
}

fn kernel(sigma: f64) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as i32;
    let taps: Vec<f64> =
        (-reach..=reach).map(|tap| (-0.5 * (f64::from(tap) / sigma.max(1e-9)).powi(2)).exp()).collect();
    let sum: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| (tap / sum) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::super::order::generator;
    use super::*;
    use crate::stage::score::config::Normalize;
    use crate::train::spec::BlurSpec;

    #[test]
    fn mirrors_turn_lines_around() {
        let mut bytes: Vec<u8> = (0..2 * 3 * 3).collect();
        mirror(&mut bytes, [1, 2, 3]);
        assert_eq!(bytes[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        mirror(&mut bytes, [1, 2, 3]);
        assert_eq!(bytes, (0..18).collect::<Vec<u8>>());
    }

    #[test]
    fn blur_keeps_the_mean_and_lowers_the_contrast() {
        let shape = [2, 8, 8];
        let sharp: Vec<u8> = (0..2 * 8 * 8 * 3).map(|at| if (at / 3) % 2 == 0 { 40 } else { 200 }).collect();
        let mut soft = sharp.clone();
        blurred(&mut soft, shape, 1.0);
        let mean = |bytes: &[u8]| bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / bytes.len() as f64;
        assert!((mean(&soft) - mean(&sharp)).abs() < 1.0);
        let spread = |bytes: &[u8]| bytes.iter().max().unwrap() - bytes.iter().min().unwrap();
        assert!(spread(&soft) < spread(&sharp) / 3 * 2, "{}", spread(&soft));
        blurred(&mut soft, shape, 0.0);
        let mut flat = vec![77; sharp.len()];
        blurred(&mut flat, shape, 2.0);
        assert!(flat.iter().all(|byte| *byte == 77));
    }

    #[test]
    fn the_same_draws_give_the_same_x() {
        let clips = ClipsSpec {
            normalize: Normalize::PerClip,
            blur: BlurSpec { share: 0.5, sigma: 1.0 },
            ..ClipsSpec::default()
        };
        let bytes: Vec<u8> = (0..4 * 4 * 4 * 3).map(|at| (at * 7 % 251) as u8).collect();
        let make = |number| x(&bytes, [4, 4, 4], &clips, &mut generator(3, "x", number));
        assert_eq!(make(5), make(5));
        assert!((0..20).any(|number| make(number) != make(5)));
    }
}
