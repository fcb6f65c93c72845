//! How well a score finds clips that are labelled as defective.
//!
//! Enters: a dataset whose clips carry a score and a label. Leaves: figures by label, with intervals over scenes, and
//! beside them those of a simple baseline and of both together. Nothing is scored or decoded here.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, Float64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use futures::TryStreamExt;
use serde::Serialize;

use super::logistic::by_fold;
use super::rank::{Area, Ranked, area, pairs};
use crate::error::{Error, Result};
use crate::schema;
use crate::spec::suggest;
use crate::sql::SqlSession;
use crate::stage::ClipBatch;

/// Folds of the baseline's cross-validation; all clips of a scene are in one.
const FOLDS: usize = 5;
/// Bars of a histogram.
const BARS: usize = 20;

/// What is judged.
#[derive(Debug, Clone)]
pub struct FilterOptions {
    /// Columns of scores; larger means more likely defective. Each is judged by itself, and all together.
    pub scores: Vec<String>,
    /// Column of the label; null in clean clips.
    pub label: String,
    /// Column of what belongs together: a scene, or a source video.
    pub group: Option<String>,
    /// Column of what several rows are parts of, such as `uri` for the windows of a file: they count once, with the
    /// largest of their scores, and both the largest and the means of their features.
    pub worst_of: Option<String>,
    /// Labels that are also judged together. Default: all.
    pub together: Vec<String>,
    /// Labels of clips that are fine, and should not be told from clean ones.
    pub neutral: Vec<String>,
    /// Columns of the baseline. Default: those that begin with `measure_`.
    pub features: Option<Vec<String>>,
    /// Clips with a larger score are dropped; one for each score. Default: the largest that drops 5 % of the clean clips.
    pub thresholds: Vec<f64>,
    /// A SQL predicate over the clips that are judged.
    pub keep: String,
    /// Seed of the resamples.
    pub seed: u64,
}

/// How well one number finds clips of one label.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The label.
    pub label: String,
    /// Clips with it, and clean ones.
    pub clips: [usize; 2],
    /// Area under the ROC curve.
    pub area: Option<Area>,
    /// Share of the pairs of one scene that are ranked rightly, and how many there are.
    pub pairs: Option<(f64, u64)>,
}

/// A number that clips are ranked by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ranking {
    /// The column of a score; [`SCORES`], [`BASELINE`] or [`BOTH`].
    pub by: String,
    /// Each label, and the labels together.
    pub found: Vec<Found>,
}

/// A logistic regression on all scores, each scene judged by one that has not seen it.
pub const SCORES: &str = "scores";
/// The same on the features.
pub const BASELINE: &str = "baseline";
/// The same on the features and the scores.
pub const BOTH: &str = "both";

/// What a threshold does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AtThreshold {
    /// Column of the score.
    pub score: String,
    /// Clips with a larger score are dropped.
    pub threshold: f64,
    /// Share of the dropped clips that are defective.
    pub precision: Option<f64>,
    /// Share of the defective clips that are dropped.
    pub recall: Option<f64>,
    /// Share of the clean rendered clips that are dropped.
    pub clean_dropped: Option<f64>,
    /// Share of the real clips that are dropped.
    pub real_dropped: Option<f64>,
}

/// Numbers of clips by score.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Smallest and largest score.
    pub range: [f64; 2],
    /// Clips in each of the bars, by what they are: a label, `clean` or `real`.
    pub counts: BTreeMap<String, Vec<u64>>,
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FilterReport {
    /// Name of the dataset.
    pub dataset: String,
    /// By each score, by all of them where there are several, by the baseline, and by scores and baseline.
    pub rankings: Vec<Ranking>,
    /// Features of the baseline.
    pub features: Vec<String>,
    /// Labels that were judged together.
    pub together: Vec<String>,
    /// What the threshold of each score does.
    pub at_thresholds: Vec<AtThreshold>,
    /// By score.
    pub histograms: BTreeMap<String, Histogram>,
    /// Processor seconds a clip of each stage, from the runs that made the dataset.
    pub seconds_per_clip: BTreeMap<String, f64>,
}

/// A clip of the labelled set.
#[derive(Debug, Clone)]
struct Judged {
    scores: Vec<f64>,
    label: Option<String>,
    real: bool,
    group: String,
    features: Vec<f64>,
    /// What it is a part of.
    whole: Option<String>,
}

/// Judges the score of a dataset.
pub async fn judge(session: &SqlSession, options: &FilterOptions) -> Result<FilterReport> {
    let columns = columns(session)?;
    options.scores.iter().try_for_each(|score| require(&columns, score))?;
    if options.thresholds.len() > options.scores.len() {
        return Err(Error::config(format!(
            "there are {} thresholds for {} scores; give one for each score, in their order",
            options.thresholds.len(),
            options.scores.len()
        )));
    }
    require(&columns, &options.label)?;
    let features = match &options.features {
        Some(given) => given.clone(),
        None => columns.iter().filter(|name| name.starts_with("measure_")).cloned().collect(),
    };
    features.iter().try_for_each(|feature| require(&columns, feature))?;
    options.worst_of.iter().try_for_each(|column| require(&columns, column))?;
    let group = match &options.group {
        Some(group) => {
            require(&columns, group)?;
            format!("coalesce(cast(\"{group}\" as varchar), uri)")
        }
        None if columns.contains(crate::render::list::SCENE_ID) => {
            format!("coalesce({}, uri)", crate::render::list::SCENE_ID)
        }
        None => "uri".to_owned(),
    };
    let parts = read(session, options, &group, &features).await?;
    let clips = if options.worst_of.is_some() { whole(parts) } else { parts };
    let clean = |clip: &&Judged| clip.label.is_none() && !clip.real;
    if !clips.iter().any(|clip| clean(&clip)) || !clips.iter().any(|clip| clip.label.is_some()) {
        return Err(Error::config(format!(
            "{} has {} clips with a score, but not both clean rendered ones (column {} is null) and labelled ones",
            session.name(),
            clips.len(),
            options.label
        )));
    }
    let labels: BTreeSet<String> = clips.iter().filter_map(|clip| clip.label.clone()).collect();
    let together: Vec<String> = match options.together.is_empty() {
        true => labels.iter().filter(|label| !options.neutral.contains(label)).cloned().collect(),
        false => options.together.clone(),
    };
    for label in together.iter().chain(&options.neutral) {
        if !labels.contains(label) {
            return Err(Error::config(format!("no clip has the label {label}{}", hint(label, &labels))));
        }
    }
    let by = |name: &str, values: &[f64]| Ranking {
        by: name.to_owned(),
        found: found(&clips, values, &labels, &together, options.seed),
    };
    let regression = |name: &str, row: &dyn Fn(&Judged) -> Vec<f64>| {
        let rows: Vec<Vec<f64>> = clips.iter().map(row).collect();
        by(name, &regressed(&clips, &rows, &together))
    };
    let score = |at: usize| clips.iter().map(|clip| clip.scores[at]).collect::<Vec<f64>>();
    let mut rankings: Vec<Ranking> = options.scores.iter().enumerate().map(|(at, name)| by(name, &score(at))).collect();
    if options.scores.len() > 1 {
        rankings.push(regression(SCORES, &|clip| clip.scores.clone()));
    }
    if !features.is_empty() {
        rankings.push(regression(BASELINE, &|clip| clip.features.clone()));
        rankings.push(regression(BOTH, &|clip| [clip.features.as_slice(), &clip.scores].concat()));
    }
    let each = || options.scores.iter().enumerate();
    Ok(FilterReport {
        dataset: session.name().to_owned(),
        rankings,
        at_thresholds: each()
            .map(|(at, name)| at_threshold(&clips, &together, name, at, options.thresholds.get(at).copied()))
            .collect(),
        histograms: each().map(|(at, name)| (name.clone(), histogram(&clips, at))).collect(),
        seconds_per_clip: seconds(session),
        features,
        together,
    })
}

fn columns(session: &SqlSession) -> Result<BTreeSet<String>> {
    session.dataset()?;
    let table = session.tables().iter().find(|table| table.name == "clips");
    let table = table.ok_or_else(|| Error::internal("a dataset without a table of clips"))?;
    Ok(table.schema.fields().iter().map(|field| field.name().clone()).collect())
}

fn require(columns: &BTreeSet<String>, name: &str) -> Result<()> {
    if columns.contains(name) {
        return Ok(());
    }
    Err(Error::config(format!("the clips have no column {name}{}", hint(name, columns))))
}

fn hint(name: &str, known: &BTreeSet<String>) -> String {
    match suggest::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("; did you mean {near}?"),
        None => format!("; there are {}", known.iter().cloned().collect::<Vec<_>>().join(", ")),
    }
}

async fn read(session: &SqlSession, options: &FilterOptions, group: &str, features: &[String]) -> Result<Vec<Judged>> {
    // A measure may be judged as a score as well, so names are not unique.
    let numbers = options.scores.iter().chain(features).enumerate();
    let numbers: String =
        numbers.map(|(at, name)| format!(", cast(\"{name}\" as double) AS judged_number_{at}")).collect();
    let scored: Vec<String> = options.scores.iter().map(|name| format!("\"{name}\" IS NOT NULL")).collect();
    let whole = match &options.worst_of {
        Some(column) => format!("cast(\"{column}\" as varchar)"),
        None => "cast(null as varchar)".to_owned(),
    };
    // The line ends keep a comment in the predicate from reaching beyond it.
    let query = format!(
        "SELECT cast(\"{}\" as varchar) AS judged_label, {group} AS judged_group, {whole} AS judged_whole, source{numbers} \
         FROM clips WHERE {} AND (\n{}\n) ORDER BY clip_id",
        options.label,
        scored.join(" AND "),
        options.keep
    );
    let mut batches = session.query(&query).await?;
    let mut clips = Vec::new();
    while let Some(batch) = batches.try_next().await.map_err(Error::from)? {
        let rows = ClipBatch::new(batch);
        let text = |name: &str| -> Result<StringArray> {
            Ok(cast(rows.column(name)?, &DataType::Utf8)?.as_string::<i32>().clone())
        };
        let (labels, groups, sources) = (text("judged_label")?, text("judged_group")?, text(schema::SOURCE)?);
        let wholes = text("judged_whole")?;
        let first = rows.batch().num_columns() - options.scores.len() - features.len();
        let numbers: Vec<&Float64Array> =
            rows.batch().columns()[first..].iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let (scores, measured) = numbers.split_at(options.scores.len());
        for row in 0..rows.rows() {
            clips.push(Judged {
                scores: scores.iter().map(|column| column.value(row)).collect(),
                label: labels.is_valid(row).then(|| labels.value(row).to_owned()),
                real: sources.value(row) == "real",
                group: groups.value(row).to_owned(),
                whole: wholes.is_valid(row).then(|| wholes.value(row).to_owned()),
                // A measure that a clip has none of tells nothing.
                features: measured
                    .iter()
                    .map(|column| if column.is_valid(row) { column.value(row) } else { 0.0 })
                    .collect(),
            });
        }
    }
    Ok(clips)
}

/// Parts put together: the largest of each score; of each feature the mean and, behind all means, the largest.
fn whole(parts: Vec<Judged>) -> Vec<Judged> {
    let mut wholes: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
    let mut clips = Vec::new();
    for part in parts {
        match part.whole.clone() {
            Some(whole) => wholes.entry(whole).or_default().push(part),
            None => clips.push(vec![part]),
        }
    }
    clips.extend(wholes.into_values());
    clips.into_iter().filter_map(|parts| joined(&parts)).collect()
}

fn joined(parts: &[Judged]) -> Option<Judged> {
    let first = parts.first()?;
    let largest = |of: &dyn Fn(&Judged) -> f64| parts.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    let mean = |at: usize| parts.iter().map(|part| part.features[at]).sum::<f64>() / parts.len() as f64;
    let count = first.features.len();
    Some(Judged {
        scores: (0..first.scores.len()).map(|at| largest(&|part| part.scores[at])).collect(),
        features: (0..count).map(mean).chain((0..count).map(|at| largest(&|part| part.features[at]))).collect(),
        ..first.clone()
    })
}

/// Each label against the clean rendered clips, and the labels together.
fn found(clips: &[Judged], values: &[f64], labels: &BTreeSet<String>, together: &[String], seed: u64) -> Vec<Found> {
    let of = |name: &str, is_positive: &dyn Fn(&str) -> bool| {
        let ranked: Vec<Ranked<'_>> = clips
            .iter()
            .zip(values)
            .filter_map(|(clip, value)| {
                let positive = clip.label.as_deref().map(is_positive);
                let takes_part = positive.unwrap_or(!clip.real);
                let ranked = Ranked { value: *value, positive: positive.unwrap_or(false), group: clip.group.as_str() };
                takes_part.then_some(ranked)
            })
            .collect();
        let positives = ranked.iter().filter(|clip| clip.positive).count();
        Found {
            label: name.to_owned(),
            clips: [positives, ranked.len() - positives],
            area: area(&ranked, seed),
            pairs: pairs(&ranked),
        }
    };
    let each = labels.iter().map(|label| of(label, &|other| other == label));
    each.chain([of("together", &|other| together.iter().any(|label| label == other))]).collect()
}

/// The odds of being defective, each scene judged by a regression on others.
fn regressed(clips: &[Judged], rows: &[Vec<f64>], together: &[String]) -> Vec<f64> {
    let is_positive = |clip: &Judged| clip.label.as_ref().is_some_and(|label| together.contains(label));
    let fold = |clip: &Judged| {
        let hash = blake3::hash(clip.group.as_bytes());
        (u64::from(hash.as_bytes()[0]) * 256 + u64::from(hash.as_bytes()[1])) as usize % FOLDS
    };
    // Real clips are judged too, but what tells them from renders is not what is looked for.
    let takes_part: Vec<usize> = (0..clips.len())
        .filter(|index| !clips[*index].real && (clips[*index].label.is_none() || is_positive(&clips[*index])))
        .collect();
    let train: Vec<Vec<f64>> = takes_part.iter().map(|index| rows[*index].clone()).collect();
    let positive: Vec<bool> = takes_part.iter().map(|index| is_positive(&clips[*index])).collect();
    let folds: Vec<usize> = takes_part.iter().map(|index| fold(&clips[*index])).collect();
    let models = by_fold(&train, &positive, &folds, FOLDS);
    clips.iter().zip(rows).map(|(clip, row)| models[fold(clip)].score(row)).collect()
}

fn at_threshold(clips: &[Judged], together: &[String], name: &str, at: usize, given: Option<f64>) -> AtThreshold {
    let scores = |is: &dyn Fn(&Judged) -> bool| -> Vec<f64> {
        clips.iter().filter(|clip| is(clip)).map(|clip| clip.scores[at]).collect()
    };
    let mut clean = scores(&|clip| clip.label.is_none() && !clip.real);
    let real = scores(&|clip| clip.real);
    let defective = scores(&|clip| clip.label.as_ref().is_some_and(|label| together.contains(label)));
    clean.sort_by(f64::total_cmp);
    let threshold = given.unwrap_or_else(|| super::calibrate::quantile(&clean, 0.95));
    let dropped = |scores: &[f64]| scores.iter().filter(|score| **score > threshold).count() as f64;
    let share = |scores: &[f64]| (!scores.is_empty()).then(|| dropped(scores) / scores.len() as f64);
    let all = dropped(&defective) + dropped(&clean);
    AtThreshold {
        score: name.to_owned(),
        threshold,
        precision: (all > 0.0).then(|| dropped(&defective) / all),
        recall: share(&defective),
        clean_dropped: share(&clean),
        real_dropped: share(&real),
    }
}

fn histogram(clips: &[Judged], at: usize) -> Histogram {
    let scores = clips.iter().map(|clip| clip.scores[at]);
    let (low, high) = scores.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), score| (a.min(score), b.max(score)));
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for clip in clips {
        let name = match &clip.label {
            Some(label) => label.as_str(),
            None if clip.real => "real",
            None => "clean",
        };
        let place = ((clip.scores[at] - low) / (high - low).max(f64::MIN_POSITIVE) * BARS as f64) as usize;
        counts.entry(name.to_owned()).or_insert_with(|| vec![0; BARS])[place.min(BARS - 1)] += 1;
    }
    Histogram { range: [low, high], counts }
}

fn seconds(session: &SqlSession) -> BTreeMap<String, f64> {
    let Ok(dataset) = session.dataset() else { return BTreeMap::new() };
    let mut sums: BTreeMap<String, (f64, u64)> = BTreeMap::new();
    for stage in dataset.runs.iter().flat_map(|run| &run.stages) {
        let sum = sums.entry(stage.stage.clone()).or_default();
        *sum = (sum.0 + stage.busy_s, sum.1 + stage.rows);
    }
    sums.into_iter().filter(|(_, (_, rows))| *rows > 0).map(|(name, (busy, rows))| (name, busy / rows as f64)).collect()
}
