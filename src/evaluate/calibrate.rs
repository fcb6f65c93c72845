//! Thresholds from scores that are there: what the `simdrop` stage reads.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::sql::SqlSession;
use crate::stage::ClipBatch;

/// What a threshold should do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// Keep this share of the clips.
    Quantile(f64),
    /// So many of the dropped clips should be defective, and as many defective ones as that allows be dropped.
    Precision(f64),
}

/// How thresholds are found.
#[derive(Debug, Clone)]
pub struct CalibrateOptions {
    /// Column of the score.
    pub score: String,
    /// What the threshold should do.
    pub aim: Aim,
    /// Column of the label, null in clean clips; for a precision.
    pub label: String,
    /// A threshold for each value of this column.
    pub by: Option<String>,
    /// A SQL predicate over the clips that are looked at.
    pub keep: String,
}

/// A threshold, and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibrated {
    /// Clips with a larger score are dropped.
    pub threshold: f64,
    /// Clips that it was made from.
    pub clips: usize,
    /// Share of them that it drops.
    pub dropped: f64,
    /// Share of the dropped ones that are defective, where there are labels.
    pub precision: Option<f64>,
    /// Share of the defective ones that are dropped.
    pub recall: Option<f64>,
}

/// A clip's score, and whether it is labelled as defective.
type Scored = (f64, bool);

/// Thresholds by group; the whole under the empty name.
pub async fn calibrate(session: &SqlSession, options: &CalibrateOptions) -> Result<BTreeMap<String, Calibrated>> {
    let mut groups: BTreeMap<String, Vec<Scored>> = BTreeMap::new();
    let group = options.by.as_ref().map_or_else(|| "''".to_owned(), |by| format!("cast(\"{by}\" as varchar)"));
    let label = match options.aim {
        Aim::Precision(_) => format!("\"{}\" IS NOT NULL", options.label),
        Aim::Quantile(_) => "false".to_owned(),
    };
    let query = format!(
        "SELECT cast(\"{0}\" as double) AS score, {label} AS defective, {group} AS score_group FROM clips \
         WHERE \"{0}\" IS NOT NULL AND (\n{1}\n) ORDER BY clip_id",
        options.score, options.keep
    );
    let mut batches = session.query(&query).await?;
    while let Some(batch) = batches.try_next().await.map_err(Error::from)? {
        let rows = ClipBatch::new(batch);
        let names = cast(rows.column("score_group")?, &DataType::Utf8)?;
        let (scores, names) = (rows.real("score")?, names.as_string::<i32>());
        let defective = rows.column("defective")?.as_boolean();
        for row in (0..rows.rows()).filter(|row| names.is_valid(*row)) {
            groups.entry(names.value(row).to_owned()).or_default().push((scores.value(row), defective.value(row)));
        }
    }
    if groups.is_empty() {
        return Err(Error::config(format!("{} has no clip with a number in {}", session.name(), options.score)));
    }
    groups.into_iter().map(|(name, clips)| Ok((name.clone(), threshold(&name, clips, options)?))).collect()
}

fn threshold(group: &str, mut clips: Vec<Scored>, options: &CalibrateOptions) -> Result<Calibrated> {
    clips.sort_by(|a, b| a.0.total_cmp(&b.0));
    let defective = clips.iter().filter(|clip| clip.1).count();
    let threshold = match options.aim {
        Aim::Quantile(share) => quantile(&clips.iter().map(|clip| clip.0).collect::<Vec<_>>(), share),
        Aim::Precision(wanted) => at_precision(&clips, wanted).ok_or_else(|| {
            let of = if group.is_empty() { String::new() } else { format!(" of {group}") };
            Error::config(format!(
                "no threshold drops clips{of} of which {:.0} % are defective: {defective} of {} have a label; ask for \
                 less, or judge the score first (`simdrop evaluate filter`)",
                wanted * 100.0,
                clips.len()
            ))
        })?,
    };
    let dropped: Vec<&Scored> = clips.iter().filter(|clip| clip.0 > threshold).collect();
    let right = dropped.iter().filter(|clip| clip.1).count();
    let share = |part: usize, of: usize| (defective > 0 && of > 0).then(|| part as f64 / of as f64);
    Ok(Calibrated {
        threshold,
        clips: clips.len(),
        dropped: dropped.len() as f64 / clips.len() as f64,
        precision: share(right, dropped.len()),
        recall: share(right, defective),
    })
}

/// The number that a share of sorted numbers do not exceed.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(place.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// The lowest threshold above which so many clips are defective; clips are sorted.
fn at_precision(clips: &[Scored], wanted: f64) -> Option<f64> {
    let (mut right, mut best) = (0, None);
    for (count, index) in (1..).zip((0..clips.len()).rev()) {
        right += usize::from(clips[index].1);
        // A threshold lies below its clip: clips with one score are dropped together.
        let is_border = index.checked_sub(1).is_none_or(|below| clips[below].0 < clips[index].0);
        if is_border && right as f64 / f64::from(count) >= wanted && right > 0 {
            best = Some(clips[index].0.next_down());
        }
    }
    best
}

/// The file that the `simdrop` stage reads, with how it was made.
pub fn thresholds_file(
    dataset: &str,
    version: u64,
    options: &CalibrateOptions,
    made: &BTreeMap<String, Calibrated>,
) -> Value {
    let value = match (&options.by, made.get("")) {
        (None, Some(whole)) => json!(whole.threshold),
        _ => {
            let values: BTreeMap<&String, f64> = made.iter().map(|(name, group)| (name, group.threshold)).collect();
            json!({"by": options.by, "values": values})
        }
    };
    let aim = match options.aim {
        Aim::Quantile(share) => json!({"quantile": share}),
        Aim::Precision(share) => json!({"precision": share, "label": options.label}),
    };
    json!({
        options.score.clone(): value,
        "made": {
            "by": format!("simdrop {} calibrate", env!("CARGO_PKG_VERSION")),
            "at": crate::commit::now(),
            "dataset": dataset,
            "version": version,
            "score": options.score,
            "where": options.keep,
            "aim": aim,
            "groups": made,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_keep_their_share() {
        let numbers: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(quantile(&numbers, 0.9), 9.0);
        assert_eq!(quantile(&numbers, 1.0), 10.0);
        assert_eq!(quantile(&numbers, 0.0), 1.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_precision_is_kept_with_the_most_clips() {
        let clips = [(0.1, false), (0.2, true), (0.3, false), (0.4, true), (0.4, true), (0.5, true)];
        let above = |threshold: f64| clips.iter().filter(|clip| clip.0 > threshold).count();
        assert_eq!(above(at_precision(&clips, 1.0).unwrap()), 3);
        assert_eq!(above(at_precision(&clips, 0.8).unwrap()), 5);
        assert_eq!(above(at_precision(&clips, 0.6).unwrap()), 6);
        assert_eq!(at_precision(&clips[..1], 0.5), None);
    }
}
