//! The measures, over luma. Their definitions are the doc comments of [`Measure`].

use super::config::Measure;
use crate::stage::frames::FramesView;

/// One step of 8 bits.
const STEP: f32 = 1.0 / 255.0;

/// The luma of a clip, and what several measures share.
pub(super) struct Luma {
    values: Vec<f32>,
    frames: usize,
    height: usize,
    width: usize,
    /// Mean |ΔY| between each frame and the next.
    changes: Vec<f64>,
}

impl Luma {
    pub(super) fn of(view: &FramesView<'_>) -> Self {
        let (pixels, _) = view.data.as_chunks::<3>();
        let luma = |[red, green, blue]: &[u8; 3]| {
            (0.299 * f32::from(*red) + 0.587 * f32::from(*green) + 0.114 * f32::from(*blue)) / 255.0
        };
        let values: Vec<f32> = pixels.iter().map(luma).collect();
        let mut luma =
            Self { values, frames: view.frames, height: view.height, width: view.width, changes: Vec::new() };
        luma.changes = (1..luma.frames).map(|t| difference(luma.frame(t - 1), luma.frame(t))).collect();
        luma
    }

    fn frame(&self, t: usize) -> &[f32] {
        let size = self.height * self.width;
        &self.values[t * size..(t + 1) * size]
    }

    /// A measure; none where the clip has too few frames or pixels for it.
    pub(super) fn measure(&self, measure: Measure) -> Option<f64> {
        match measure {
            Measure::Contrast => self.contrast(),
            Measure::Sharpness => self.sharpness(),
            Measure::Noise => self.noise(),
            Measure::Motion => mean(&self.changes),
            Measure::Flicker => self.flicker(),
            Measure::Jump => self.jump(),
            Measure::Blink => self.blink(),
            Measure::Duplicates => self.duplicates(),
            Measure::Flatness => self.flatness(),
        }
    }

    fn contrast(&self) -> Option<f64> {
        let average = average(&self.values)?;
        let squares = self.values.iter().map(|value| (f64::from(*value) - average).powi(2)).sum::<f64>();
        Some((squares / self.values.len() as f64).sqrt())
    }

    /// Sum and number of `value` over the pixels that have all their neighbours: (left, right, up, down) and the corners.
    fn inner(&self, frame: &[f32], mut value: impl FnMut(&dyn Fn(i32, i32) -> f32) -> f32) -> Option<f64> {
        if self.height < 3 || self.width < 3 {
            return None;
        }
        let mut sum = 0.0;
        for y in 1..self.height - 1 {
            for x in 1..self.width - 1 {
                let at = |down: i32, right: i32| {
                    let (y, x) = ((y as i32 + down) as usize, (x as i32 + right) as usize);
                    frame[y * self.width + x]
                };
                sum += f64::from(value(&at));
            }
        }
        Some(sum / ((self.height - 2) * (self.width - 2)) as f64)
    }

    fn sharpness(&self) -> Option<f64> {
        let edges = |t: usize| {
            self.inner(self.frame(t), |at| (at(0, 0) - 0.25 * (at(-1, 0) + at(1, 0) + at(0, -1) + at(0, 1))).abs())
        };
        let edges: Vec<f64> = (0..self.frames).map(edges).collect::<Option<_>>()?;
        Some(mean(&edges)? / self.contrast()?.max(f64::from(STEP)))
    }

    /// Immerkær 1996: the mean of |N * Y| over a frame, times √(π/2)/6.
    fn noise(&self) -> Option<f64> {
        let of_frame = |t: usize| {
            let response = self.inner(self.frame(t), |at| {
                let corners = at(-1, -1) + at(-1, 1) + at(1, -1) + at(1, 1);
                let sides = at(-1, 0) + at(1, 0) + at(0, -1) + at(0, 1);
                (corners - 2.0 * sides + 4.0 * at(0, 0)).abs()
            })?;
            Some(response * (std::f64::consts::PI / 2.0).sqrt() / 6.0)
        };
        median((0..self.frames).map(of_frame).collect::<Option<_>>()?)
    }

    fn flicker(&self) -> Option<f64> {
        let means: Vec<f64> = (0..self.frames).map(|t| average(self.frame(t))).collect::<Option<_>>()?;
        mean(&means.windows(3).map(|m| (m[2] - 2.0 * m[1] + m[0]).abs()).collect::<Vec<_>>())
    }

    fn jump(&self) -> Option<f64> {
        let out_of_step = |beside: &[f64]| beside[1] / beside[0].max(beside[2]).max(f64::from(STEP));
        self.changes.windows(3).map(out_of_step).reduce(f64::max)
    }

    fn blink(&self) -> Option<f64> {
        let out_of_line = |t: usize| {
            let around = difference(self.frame(t - 1), self.frame(t + 1));
            (self.changes[t - 1] + self.changes[t]) / 2.0 - around
        };
        (1..self.frames.saturating_sub(1)).map(out_of_line).reduce(f64::max).map(|most| most.max(0.0))
    }

    fn duplicates(&self) -> Option<f64> {
        let limit = (median(self.changes.clone())? * 0.1).max(f64::from(STEP) * 0.5);
        // Of a clip in which nothing moves, nobody can say which frames are repeated.
        if median(self.changes.clone())? < f64::from(STEP) * 0.5 {
            return Some(0.0);
        }
        let repeated = self.changes.iter().filter(|change| **change < limit).count();
        Some(repeated as f64 / self.changes.len() as f64)
    }

    fn flatness(&self) -> Option<f64> {
        if self.height < 2 || self.width < 2 || self.frames == 0 {
            return None;
        }
        let mut flat = 0usize;
        for frame in 0..self.frames {
            let frame = self.frame(frame);
            for y in 0..self.height - 1 {
                for x in 0..self.width - 1 {
                    let at = y * self.width + x;
                    let near = |other: usize| (frame[at] - frame[other]).abs() < STEP;
                    flat += usize::from(near(at + 1) && near(at + self.width));
                }
            }
        }
        Some(flat as f64 / (self.frames * (self.height - 1) * (self.width - 1)) as f64)
    }
}

fn difference(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>() / a.len().max(1) as f64
}

fn average(values: &[f32]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 16;

    /// Frames in which a bright square moves by one pixel a frame.
    fn moving(frames: usize) -> Vec<Vec<u8>> {
        let frame = |t: usize| {
            let bright = |at: usize| (at % SIDE).abs_diff(t) < 3 && at / SIDE > 4;
            (0..SIDE * SIDE).map(|at| if bright(at) { 200 } else { 50 }).collect()
        };
        (0..frames).map(frame).collect()
    }

    fn measured(frames: &[Vec<u8>], measure: Measure) -> f64 {
        let data: Vec<u8> = frames.iter().flatten().flat_map(|value| [*value; 3]).collect();
        let view = FramesView { data: &data, frames: frames.len(), height: SIDE, width: SIDE };
        Luma::of(&view).measure(measure).unwrap()
    }

    fn noisy(frames: &[Vec<u8>], strength: i32) -> Vec<Vec<u8>> {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i32 % (2 * strength + 1) - strength
        };
        frames
            .iter()
            .map(|frame| frame.iter().map(|value| (i32::from(*value) + draw()).clamp(0, 255) as u8).collect())
            .collect()
    }

    #[test]
    fn each_defect_moves_its_measure() {
        let clean = moving(8);
        let mut flickering = clean.clone();
        for frame in flickering.iter_mut().step_by(2) {
            frame.iter_mut().for_each(|value| *value += 20);
        }
        assert!(measured(&flickering, Measure::Flicker) > 10.0 * measured(&clean, Measure::Flicker).max(0.001));
        let mut blinking = clean.clone();
        blinking[4] = vec![50; SIDE * SIDE];
        assert!(measured(&blinking, Measure::Blink) > 3.0 * measured(&clean, Measure::Blink));
        let mut jumping = clean.clone();
        jumping[4..].iter_mut().for_each(|frame| frame.rotate_right(8));
        assert!(measured(&jumping, Measure::Jump) > 2.0 * measured(&clean, Measure::Jump));
        let mut stuttering = clean.clone();
        stuttering[3] = stuttering[2].clone();
        stuttering[5] = stuttering[4].clone();
        assert_eq!(measured(&clean, Measure::Duplicates), 0.0);
        assert!((measured(&stuttering, Measure::Duplicates) - 2.0 / 7.0).abs() < 1e-9);
        let still = vec![clean[0].clone(); 8];
        assert_eq!(measured(&still, Measure::Duplicates), 0.0);
        let grainy = noisy(&clean, 12);
        assert!(measured(&grainy, Measure::Flatness) < 0.5 * measured(&clean, Measure::Flatness));
    }

    #[test]
    fn the_deviation_of_noise_is_found() {
        // Even noise of ±12 steps has a deviation of 25/√12 steps.
        let flat = vec![vec![120u8; SIDE * SIDE]; 8];
        let found = measured(&noisy(&flat, 12), Measure::Noise) * 255.0;
        let wanted = (625.0f64 - 1.0).sqrt() / 12f64.sqrt();
        assert!((found / wanted - 1.0).abs() < 0.15, "{found} {wanted}");
        assert!(measured(&flat, Measure::Noise) < 1e-6);
    }

    #[test]
    fn a_single_frame_has_no_time() {
        let data = vec![9u8; SIDE * SIDE * 3];
        let luma = Luma::of(&FramesView { data: &data, frames: 1, height: SIDE, width: SIDE });
        for measure in [Measure::Motion, Measure::Flicker, Measure::Jump, Measure::Blink, Measure::Duplicates] {
            assert_eq!(luma.measure(measure), None, "{measure:?}");
        }
        assert_eq!(luma.measure(Measure::Flatness), Some(1.0));
    }
}
