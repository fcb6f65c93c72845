//! How well numbers rank: area under the curve, with an interval, and pairs.

use std::collections::BTreeMap;

use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::Serialize;

/// One clip: a number that should be larger for what is looked for, whether it is that, and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked<'a> {
    pub(super) value: f64,
    pub(super) positive: bool,
    /// Scene or source video: clips of one are not independent.
    pub(super) group: &'a str,
}

/// An area under the ROC curve, and the middle 95 % of what resampled groups give.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Area {
    /// The chance that a clip that is looked for has the larger number, ties counted half.
    pub auroc: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Resamples of the groups.
const RESAMPLES: usize = 1000;

/// Area under the ROC curve (Mann–Whitney); none without clips of both kinds.
#[cfg(test)]
pub(super) fn auroc(clips: &[Ranked<'_>]) -> Option<f64> {
    weighted_auroc(&sorted(clips), &|_| 1)
}

/// The same with an interval: groups are drawn with replacement.
pub(super) fn area(clips: &[Ranked<'_>], seed: u64) -> Option<Area> {
    let clips = sorted(clips);
    let auroc = weighted_auroc(&clips, &|_| 1)?;
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for clip in &clips {
        let next = numbers.len();
        numbers.entry(clip.group).or_insert(next);
    }
    let groups: Vec<usize> = clips.iter().map(|clip| numbers[clip.group]).collect();
    let mut draws = Pcg64::seed_from_u64(seed);
    let mut areas: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let mut times = vec![0u64; numbers.len()];
            for _ in 0..numbers.len() {
                times[(draws.next_u64() % numbers.len() as u64) as usize] += 1;
            }
            weighted_auroc(&clips, &|index| times[groups[index]])
        })
        .collect();
    areas.sort_by(f64::total_cmp);
    let at = |share: f64| areas.get((share * (areas.len().max(1) - 1) as f64).round() as usize).copied();
    Some(Area { auroc, low: at(0.025).unwrap_or(auroc), high: at(0.975).unwrap_or(auroc) })
}

fn sorted<'a>(clips: &[Ranked<'a>]) -> Vec<Ranked<'a>> {
    let mut clips: Vec<Ranked<'a>> = clips.iter().filter(|clip| clip.value.is_finite()).copied().collect();
    clips.sort_by(|a, b| a.value.total_cmp(&b.value));
    clips
}

/// Clips in the order of their values, each counted `times` times.
fn weighted_auroc(clips: &[Ranked<'_>], times: &dyn Fn(usize) -> u64) -> Option<f64> {
    let (mut below, mut wins, mut positives) = (0u64, 0.0, 0u64);
    let mut start = 0;
    while start < clips.len() {
        let mut end = start;
        let (mut tied, mut tied_positive) = (0, 0);
        while end < clips.len() && clips[end].value == clips[start].value {
            if clips[end].positive {
                tied_positive += times(end)
            } else {
                tied += times(end)
            }
            end += 1;
        }
        wins += tied_positive as f64 * (below as f64 + tied as f64 / 2.0);
        below += tied;
        positives += tied_positive;
        start = end;
    }
    (positives > 0 && below > 0).then(|| wins / (positives as f64 * below as f64))
}

/// Share of the pairs of a clip that is looked for and one that is not, both of one group, in which the former has the
/// larger number, and how many pairs there are.
pub(super) fn pairs(clips: &[Ranked<'_>]) -> Option<(f64, u64)> {
    let (mut right, mut all) = (0.0, 0u64);
    for positive in clips.iter().filter(|clip| clip.positive) {
        for other in clips.iter().filter(|clip| !clip.positive && clip.group == positive.group) {
            all += 1;
            right += match positive.value.total_cmp(&other.value) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    (all > 0).then(|| (right / all as f64, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clips(values: &[(f64, bool, &'static str)]) -> Vec<Ranked<'static>> {
        values.iter().map(|&(value, positive, group)| Ranked { value, positive, group }).collect()
    }

    #[test]
    fn areas_are_those_of_mann_and_whitney() {
        // Of 3 × 2 pairs, 4 are right and 1 is a tie.
        let some = clips(&[(1.0, false, "a"), (2.0, true, "b"), (3.0, false, "c"), (3.0, true, "d"), (5.0, true, "e")]);
        assert_eq!(auroc(&some), Some((1.0 + 1.5 + 2.0) / 6.0));
        assert_eq!(auroc(&some[..1]), None);
        let with_none = clips(&[(f64::NAN, true, "a"), (0.0, false, "b"), (1.0, true, "c")]);
        assert_eq!(auroc(&with_none), Some(1.0));
    }

    #[test]
    fn intervals_hold_the_area_and_widen_with_fewer_groups() {
        let names: Vec<String> = (0..40).map(|number| number.to_string()).collect();
        let clips = |groups: usize| -> Vec<Ranked<'_>> {
            (0..40)
                .map(|number| Ranked {
                    value: ((number * 37) % 40) as f64 + if number % 2 == 0 { 10.0 } else { 0.0 },
                    positive: number % 2 == 0,
                    group: &names[number % groups],
                })
                .collect()
        };
        let (many, few) = (area(&clips(40), 1).unwrap(), area(&clips(5), 1).unwrap());
        assert!(many.low < many.auroc && many.auroc < many.high, "{many:?}");
        assert_eq!(area(&clips(40), 1), area(&clips(40), 1));
        assert_eq!(many.auroc, few.auroc);
    }

    #[test]
    fn pairs_stay_within_a_group() {
        let some = clips(&[(1.0, false, "a"), (2.0, true, "a"), (0.0, true, "b"), (0.0, false, "b"), (9.0, true, "c")]);
        assert_eq!(pairs(&some), Some((0.75, 2)));
    }
}
