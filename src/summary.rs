//! What a person reads at the end of a run.
//!
//! Enters: a committed dataset. Leaves: a few lines of plain text on what was kept, what was not and why, where it lies
//! and what held the run back.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::StreamExt;

use crate::dataset::{Dataset, RunEntry, SHARDS};
use crate::error::{Error, Result};
use crate::sql::SqlSession;
use crate::sql::format::one_line;

/// Reasons that are shown of the dropped and of the failed.
const REASONS: usize = 3;
/// Most letters of a reason.
const LETTERS: usize = 90;

/// The end of a run in a few lines; `uri` is where the dataset lies, in the user's words.
pub async fn summary(session: &SqlSession, uri: &str) -> Result<String> {
    let dataset = session.dataset()?;
    // The runs of a repacked dataset are those of the one that it was made from.
    let run = dataset.runs.last().filter(|_| dataset.repacked.is_none());
    let counts = dataset.counts;
    let groups = groups(session).await?;
    let mut kept: BTreeMap<&str, u64> = BTreeMap::new();
    for group in groups.iter().filter(|group| group.fate == "kept") {
        *kept.entry(&group.source).or_default() += group.clips;
    }
    let kept: Vec<String> = kept.into_iter().map(|(source, clips)| format!("{} {source}", number(clips))).collect();

    let mut lines = Lines::default();
    lines.add("kept", counts.kept, Vec::from_iter((!kept.is_empty()).then(|| format!("({})", kept.join(", ")))));
    lines.add("dropped", counts.dropped, reasons(&groups, "dropped", counts.dropped));
    lines.add("failed", counts.failed, reasons(&groups, "failed", counts.failed));
    let bytes: u64 = dataset.shards.iter().map(|shard| shard.bytes).sum();
    let place = format!("{} under {}/{SHARDS}", size(bytes), uri.trim_end_matches('/'));
    lines.add("shards", dataset.shards.len() as u64, vec![place]);
    let mut text = format!("{}\n{}", headline(dataset), lines.text());
    if let Some(run) = run {
        if let Some(slowest) = slowest(run) {
            text.push_str(&format!("  slowest  {slowest}\n"));
        }
        text.push_str(&format!("  memory   {} at the peak\n", size(run.peak_memory)));
    }
    Ok(text)
}

/// Name, number of clips, time and rate; of a run that went on from another, what it did itself.
fn headline(dataset: &Dataset) -> String {
    let all = format!("{}: {} clips", dataset.name, number(dataset.counts.clips));
    if let Some(repacked) = &dataset.repacked {
        return format!("{all}, repacked from {}", repacked.from);
    }
    let Some(run) = dataset.runs.last() else { return all };
    let done = run.counts.clips;
    let rate = if run.seconds > 0.0 { done as f64 / run.seconds } else { 0.0 };
    match done {
        0 if dataset.counts.clips > 0 => format!("{all}, all of them done by earlier runs"),
        done if done == dataset.counts.clips => format!("{all} in {} ({rate:.1} clips/s)", duration(run.seconds)),
        done => format!("{all}, {} of them now in {} ({rate:.1} clips/s)", number(done), duration(run.seconds)),
    }
}

/// Clips of one source that ended alike.
struct Group {
    clips: u64,
    source: String,
    fate: String,
    reason: String,
}

/// All clips of the dataset, in one pass over its files.
async fn groups(session: &SqlSession) -> Result<Vec<Group>> {
    // A filter's name is its stage and its reason.
    let sql = "select count(*) as clips, source, fate, \
                 case when fate_stage = fate_reason then fate_stage \
                      else concat(coalesce(fate_stage, '?'), ': ', coalesce(fate_reason, '?')) end as reason \
               from clips group by source, fate, reason";
    let mut stream = session.query(sql).await?;
    let mut groups = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let wrong = || Error::internal("the query of the summary has other columns than it should");
        let clips = batch.column(0).as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let text = |column: usize| batch.column(column).as_string_opt::<i32>().ok_or_else(wrong);
        let (sources, fates, reasons) = (text(1)?, text(2)?, text(3)?);
        groups.extend((0..batch.num_rows()).map(|row| Group {
            clips: clips.value(row) as u64,
            source: sources.value(row).to_owned(),
            fate: fates.value(row).to_owned(),
            reason: reasons.value(row).to_owned(),
        }));
    }
    Ok(groups)
}

/// The commonest reasons, each with its number of clips.
fn reasons(groups: &[Group], fate: &str, all: u64) -> Vec<String> {
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for group in groups.iter().filter(|group| group.fate == fate) {
        *found.entry(&group.reason).or_default() += group.clips;
    }
    let mut found: Vec<(&str, u64)> = found.into_iter().collect();
    found.sort_by_key(|&(_, clips)| std::cmp::Reverse(clips));
    found.truncate(REASONS);
    let rest = all.saturating_sub(found.iter().map(|(_, clips)| clips).sum());
    let mut lines: Vec<String> =
        found.into_iter().map(|(reason, clips)| format!("{} ({})", one_line(reason, LETTERS), number(clips))).collect();
    if rest > 0 {
        lines.push(format!("other reasons ({})", number(rest)));
    }
    lines
}

/// The stage that took most of the processor time.
fn slowest(run: &RunEntry) -> Option<String> {
    let all: f64 = run.stages.iter().map(|stage| stage.busy_s).sum();
    let most = run.stages.iter().max_by(|a, b| a.busy_s.total_cmp(&b.busy_s))?;
    (all > 0.0).then(|| format!("{}: {:.0} % of the processor time", most.stage, 100.0 * most.busy_s / all))
}

/// Lines of a name, a number and words; the numbers stand below each other.
#[derive(Debug, Default)]
struct Lines(Vec<(&'static str, String, Vec<String>)>);

impl Lines {
    fn add(&mut self, name: &'static str, count: u64, words: Vec<String>) {
        self.0.push((name, number(count), words));
    }

    fn text(&self) -> String {
        let width = self.0.iter().map(|(_, count, _)| count.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, count, words) in &self.0 {
            let mut words = words.iter().map(String::as_str);
            let first = format!("  {name:<7}  {count:>width$}   {}", words.next().unwrap_or_default());
            text.push_str(first.trim_end());
            text.push('\n');
            words.for_each(|more| text.push_str(&format!("{:1$}{more}\n", "", 14 + width)));
        }
        text
    }
}

/// `1234567` as `1,234,567`.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} bytes"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    format!("{:.1} {name}", bytes as f64 / unit)
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::{duration, number, size, summary};
    use crate::dataset::{Counts, Dataset};
    use crate::sql::{SqlSession, testing};
    use crate::storage::Storage;

    async fn text(change: impl FnOnce(&mut Dataset)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut dataset = testing::write(folder.path());
        change(&mut dataset);
        testing::commit(folder.path(), &dataset);
        let session = SqlSession::open_fixed(&Storage::default(), &folder.path().display().to_string()).await.unwrap();
        summary(&session, "out/test/").await.unwrap()
    }

    #[tokio::test]
    async fn a_run_is_told_in_a_few_lines() {
        let whole = text(|dataset| {
            dataset.runs.remove(0);
            dataset.runs[0].counts = dataset.counts;
        });
        assert_eq!(
            whole.await,
            "test: 7 clips in 2.0 s (3.5 clips/s)\n  \
               kept     4   (3 real, 1 synthetic)\n  \
               dropped  2   simdrop: simdrop_score above 0.12 (1)\n               \
                            too-short (1)\n  \
               failed   1   decode: the file ends early (1)\n  \
               shards   2   6.0 MB under out/test/shards\n  \
               slowest  decode: 90 % of the processor time\n  \
               memory   104.9 MB at the peak\n"
        );
    }

    #[tokio::test]
    async fn a_resumed_run_tells_what_it_did_itself() {
        assert!(text(|_| ()).await.starts_with("test: 7 clips, 3 of them now in 2.0 s (1.5 clips/s)\n"));
        let nothing = text(|dataset| dataset.runs[1].counts = Counts::default()).await;
        assert!(nothing.starts_with("test: 7 clips, all of them done by earlier runs\n"));
    }

    #[tokio::test]
    async fn a_dataset_without_a_clip_is_no_fault() {
        let folder = tempfile::tempdir().unwrap();
        testing::commit(folder.path(), &testing::empty());
        let session = SqlSession::open_fixed(&Storage::default(), &folder.path().display().to_string()).await.unwrap();
        let text = summary(&session, "out").await.unwrap();
        assert!(text.starts_with("test: 0 clips\n  kept     0\n  dropped  0\n"), "{text}");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([number(0), number(999), number(1000), number(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([size(12), size(9_800_000), size(2_500_000_000)], ["12 bytes", "9.8 MB", "2.5 GB"]);
        assert_eq!([duration(3.42), duration(125.0), duration(3725.0)], ["3.4 s", "2 min 5 s", "1 h 2 min"]);
    }
}
