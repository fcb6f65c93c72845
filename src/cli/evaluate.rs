//! The verbs evaluate and calibrate.

use std::fmt::Write;

use super::{CalibrateArgs, EvaluateFilterArgs, print};
use crate::error::{Error, Result};
use crate::evaluate::calibrate::{Aim, CalibrateOptions, calibrate as find, thresholds_file};
use crate::evaluate::filter::{BASELINE, FilterOptions, FilterReport, Found, Ranking, judge};
use crate::sql::SqlSession;
use crate::storage::Storage;

/// Format of a report.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum ReportFormat {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

pub(super) async fn filter(args: EvaluateFilterArgs) -> Result<()> {
    let session = SqlSession::open(&Storage::default(), &args.dataset).await?;
    let EvaluateFilterArgs {
        score: scores,
        label,
        group,
        worst_of,
        together,
        neutral,
        features,
        threshold: thresholds,
        keep,
        seed,
        ..
    } = args;
    let options = FilterOptions { scores, label, group, worst_of, together, neutral, features, thresholds, keep, seed };
    let report = judge(&session, &options).await?;
    match args.format {
        ReportFormat::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report).map_err(Error::internal)?)),
        ReportFormat::Table => print(&table(&report).map_err(Error::internal)?),
    }
}

pub(super) async fn calibrate(args: CalibrateArgs) -> Result<()> {
    let session = SqlSession::open(&Storage::default(), &args.dataset).await?;
    let aim = match (args.quantile, args.precision) {
        (Some(share), _) => Aim::Quantile(share),
        (None, Some(share)) => Aim::Precision(share),
        (None, None) => return Err(Error::config("give --quantile or --precision")),
    };
    let (Aim::Quantile(share) | Aim::Precision(share)) = aim;
    if !(0.0..=1.0).contains(&share) {
        return Err(Error::config(format!("{share} is no share; give a number from 0 to 1")));
    }
    let options = CalibrateOptions { score: args.score, aim, label: args.label, by: args.by, keep: args.keep };
    let made = find(&session, &options).await?;
    let dataset = session.dataset()?;
    let file = thresholds_file(&args.dataset, dataset.version, &options, &made);
    let text = serde_json::to_vec_pretty(&file).map_err(Error::internal)?;
    std::fs::write(&args.output, text).map_err(Error::io("write", &args.output))?;
    let mut text = format!("{}: thresholds of {}\n", args.output.display(), options.score);
    for (group, found) in &made {
        let name = if group.is_empty() { "all" } else { group };
        let precision = found.precision.map_or_else(String::new, |share| format!(", precision {share:.2}"));
        let recall = found.recall.map_or_else(String::new, |share| format!(", recall {share:.2}"));
        writeln!(
            text,
            "  {name:<12}{:.6}  drops {:.1} % of {} clips{precision}{recall}",
            found.threshold,
            100.0 * found.dropped,
            found.clips
        )
        .map_err(Error::internal)?;
    }
    print(&text)
}

fn table(report: &FilterReport) -> Result<String, std::fmt::Error> {
    let mut text = format!("{}\n\n{:<18}{:>7}{:>7}", report.dataset, "label", "clips", "clean");
    let width = |ranking: &Ranking| ranking.by.len().max(CELL) + 2;
    for ranking in &report.rankings {
        write!(text, "  {:<1$}", ranking.by, width(ranking) - 2)?;
    }
    let rows = report.rankings.first().map_or(0, |ranking| ranking.found.len());
    for row in 0..rows {
        let Found { label, clips: [clips, clean], .. } = &report.rankings[0].found[row];
        write!(text, "\n{label:<18}{clips:>7}{clean:>7}")?;
        for ranking in &report.rankings {
            write!(text, "  {:<1$}", cell(&ranking.found[row]), width(ranking) - 2)?;
        }
    }
    let mut text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    writeln!(
        text,
        "\n\nArea under the ROC curve against clean rendered clips [95 % over resampled scenes] and the share of pairs of a \
         scene, one clean and one defective, that are ranked rightly."
    )?;
    writeln!(text, "together: {}", report.together.join(", "))?;
    match report.features.is_empty() {
        true => writeln!(text, "no {BASELINE}: the clips have no column measure_…; add a measure stage")?,
        false => writeln!(text, "{BASELINE}: logistic regression on {}", report.features.join(", "))?,
    }
    let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for at in &report.at_thresholds {
        writeln!(
            text,
            "{} above {:.6}: precision {}, recall {}; drops {} of the clean renders and {} of the real clips",
            at.score,
            at.threshold,
            share(at.precision),
            share(at.recall),
            share(at.clean_dropped),
            share(at.real_dropped)
        )?;
    }
    for (stage, seconds) in &report.seconds_per_clip {
        writeln!(text, "cost of {stage}: {:.1} ms a clip", seconds * 1000.0)?;
    }
    Ok(text)
}

/// Width of what [`cell`] gives.
const CELL: usize = "0.88 [0.81, 0.95] 1.00".len();

fn cell(found: &Found) -> String {
    let Some(area) = found.area else { return "-".to_owned() };
    let pairs = found.pairs.map_or_else(String::new, |(share, _)| format!(" {share:.2}"));
    format!("{:.2} [{:.2}, {:.2}]{pairs}", area.auroc, area.low, area.high)
}
