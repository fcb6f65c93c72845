//! Which frames of a clip are taken.

use super::VideoError;
use crate::stage::decode::config::ShortClip;

/// Which frames of a clip are taken; see [`crate::stage::decode::config::DecodeConfig`] for what the numbers mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Number of frames.
    pub frames: Option<u32>,
    /// Frames a second.
    pub fps: Option<f64>,
    /// What happens to a clip with too few.
    pub short: ShortClip,
}

impl Sampling {
    /// Every frame.
    pub const ALL: Self = Self { frames: None, fps: None, short: ShortClip::Fail };

    /// The frames to take, ascending: numbers into `times`, the times of the clip's frames in seconds from the clip's
    /// start. `duration_s` is the length of the clip.
    pub(super) fn choose(&self, times: &[f64], duration_s: f64) -> Result<Vec<u32>, VideoError> {
        let have = times.len();
        let repeat = self.short == ShortClip::Repeat;
        match (self.frames.map(|frames| frames as usize), self.fps) {
            (None, None) => Ok((0..have as u32).collect()),
            (Some(wanted), None) if have < wanted && !repeat => Err(VideoError::TooShort { have, wanted }),
            (Some(wanted), None) => Ok(spread(have, wanted)),
            (wanted, Some(fps)) => {
                let mut picks = on_show(times, duration_s, fps, wanted.unwrap_or(usize::MAX));
                if let Some(wanted) = wanted.filter(|wanted| picks.len() < *wanted) {
                    if !repeat {
                        return Err(VideoError::TooShort { have: picks.len(), wanted });
                    }
                    let last = picks.last().copied().unwrap_or(0);
                    picks.resize(wanted, last);
                }
                Ok(picks)
            }
        }
    }
}

/// `wanted` of `have` frames, as `numpy.linspace(0, have - 1, wanted, dtype=int)` gives them: in its floating point,
/// which once in a few hundred cases lands just under a whole number.
fn spread(have: usize, wanted: usize) -> Vec<u32> {
    let last = have.saturating_sub(1);
    if wanted == 1 {
        return vec![0];
    }
    let step = last as f64 / (wanted - 1) as f64;
    (0..wanted).map(|at| if at + 1 == wanted { last as u32 } else { (at as f64 * step).floor() as u32 }).collect()
}

/// The frame on show at every i / fps within the clip, at most `most` of them.
fn on_show(times: &[f64], duration_s: f64, fps: f64, most: usize) -> Vec<u32> {
    // Times that are a fraction of a tick apart are the same.
    const SAME: f64 = 1e-6;
    let mut picks = Vec::new();
    let mut showing = 0;
    while picks.len() < most {
        let time = picks.len() as f64 / fps;
        if time >= duration_s - SAME && !picks.is_empty() {
            break;
        }
        while showing + 1 < times.len() && times[showing + 1] <= time + SAME {
            showing += 1;
        }
        picks.push(showing as u32);
    }
    picks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(count: usize, fps: f64) -> Vec<f64> {
        (0..count).map(|at| at as f64 / fps).collect()
    }

    fn choose(frames: Option<u32>, fps: Option<f64>, short: ShortClip, count: usize) -> Result<Vec<u32>, VideoError> {
        Sampling { frames, fps, short }.choose(&times(count, 25.0), count as f64 / 25.0)
    }

    #[test]
    fn spread_takes_both_ends() {
        assert_eq!(choose(Some(4), None, ShortClip::Fail, 100).unwrap(), [0, 33, 66, 99]);
        assert_eq!(choose(Some(8), None, ShortClip::Fail, 230).unwrap(), [0, 32, 65, 98, 130, 163, 196, 229]);
        assert_eq!(choose(Some(1), None, ShortClip::Fail, 100).unwrap(), [0]);
    }

    #[test]
    fn short_clips_fail_or_repeat() {
        let error = choose(Some(4), None, ShortClip::Fail, 3).unwrap_err();
        assert!(error.to_string().contains("3 frames, 4"), "{error}");
        assert_eq!(choose(Some(4), None, ShortClip::Repeat, 2).unwrap(), [0, 0, 0, 1]);
        assert_eq!(choose(Some(4), Some(1.0), ShortClip::Repeat, 50).unwrap(), [0, 25, 25, 25]);
        assert!(choose(Some(4), Some(1.0), ShortClip::Fail, 50).is_err());
    }

    #[test]
    fn a_rate_takes_the_frame_on_show() {
        assert_eq!(choose(None, Some(10.0), ShortClip::Fail, 10).unwrap(), [0, 2, 5, 7]);
        assert_eq!(choose(Some(2), Some(5.0), ShortClip::Fail, 25).unwrap(), [0, 5]);
        assert_eq!(choose(None, Some(50.0), ShortClip::Fail, 2).unwrap(), [0, 0, 1, 1]);
        let uneven = Sampling { frames: None, fps: Some(2.0), short: ShortClip::Fail };
        assert_eq!(uneven.choose(&[0.0, 0.1, 0.9, 1.0], 1.6).unwrap(), [0, 1, 3, 3]);
    }

    #[test]
    fn neither_takes_all() {
        assert_eq!(choose(None, None, ShortClip::Fail, 3).unwrap(), [0, 1, 2]);
    }
}
