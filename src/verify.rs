//! Whether a dataset is what it says it is: every file, every row and every sample against `dataset.json`.
//!
//! Enters: a committed dataset. Leaves: findings, each with the file, the clip and the row that it is about, and what to
//! do. Every listed file is read once, in chunks and several at a time, so a shard is never held whole; what stays in
//! memory is a few words for each clip. Nothing is written, and what no committed dataset is made of (units, receipts of
//! other runs) is left alone.

mod report;
mod rows;
mod scan;
mod shard;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use futures::{StreamExt, TryStreamExt, stream};

pub use self::report::{Finding, Verification};
use self::report::{Findings, Remedy};
use self::rows::{FileRows, Place};
use crate::commit;
use crate::dataset::seal::{self, Seal};
use crate::dataset::{CLIPS, Counts, DATASET_FILE, Dataset, Receipt, SHARDS, ShardEntry};
use crate::error::{Error, Result};
use crate::stage::context::CpuPool;
use crate::storage::{Location, Storage};

/// Files that are read at once.
const FILES: usize = 4;
/// Receipts that are read at once; they are small.
const RECEIPTS: usize = 16;

/// How far a verification is.
#[derive(Debug, Clone, Copy)]
pub struct VerifyProgress {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes of all files.
    pub total: u64,
}

/// What every check needs.
struct Audit<'a> {
    root: &'a Location,
    dataset: &'a Dataset,
    /// Sizes of the files that are there, by path relative to the dataset.
    there: HashMap<String, u64>,
    cpu: CpuPool,
    bytes: AtomicU64,
    total: u64,
    progress: &'a (dyn Fn(VerifyProgress) + Send + Sync),
}

impl Audit<'_> {
    fn read(&self, bytes: u64) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (self.progress)(VerifyProgress { bytes, total: self.total });
    }
}

/// Checks the dataset at `uri`.
///
/// # Errors
///
/// There is no dataset, its `dataset.json` cannot be read, or another run committed meanwhile. What is wrong with its
/// files is no error but a finding.
pub async fn verify(
    storage: &Storage,
    uri: &str,
    progress: &(dyn Fn(VerifyProgress) + Send + Sync),
) -> Result<Verification> {
    let start = Instant::now();
    let root = storage.locate(uri)?;
    let dataset = Dataset::require(&root).await?;
    let file = root.join(DATASET_FILE);
    let json = file.read().await?;
    let mut there = HashMap::new();
    for folder in [SHARDS, CLIPS] {
        let sizes = commit::sizes(&root.join(folder)).await?;
        there.extend(sizes.into_iter().map(|(name, size)| (format!("{folder}/{name}"), size)));
    }
    let listed = dataset.shards.iter().chain(&dataset.dropped_shards).map(|shard| shard.bytes);
    let total = listed.chain(dataset.clips.iter().map(|clips| clips.bytes)).sum();
    let cpu = CpuPool::new(std::thread::available_parallelism().map_or(1, usize::from));
    let audit = Audit { root: &root, dataset: &dataset, there, cpu, bytes: AtomicU64::new(0), total, progress };

    let mut own = Findings::new(DATASET_FILE, Remedy::Commit);
    let mut notes = Vec::new();
    match seal::check(&json, &dataset) {
        Seal::Whole => {}
        Seal::Missing => notes.push(format!(
            "{DATASET_FILE} carries no checksum of itself, since an earlier simdrop wrote it: whether it was changed \
             could be checked by what it says only; the next commit adds one"
        )),
        Seal::Broken => own.add("its bytes are not those that were committed: its own checksum does not fit"),
    }
    let Metadata { findings, places, counts, unread } = Box::pin(metadata(&audit)).await?;
    lists(&dataset, counts, unread.is_empty(), &mut own);
    receipts(&audit, &mut own).await?;
    let mut all = vec![own];
    all.extend(findings);
    all.extend(Box::pin(shards(&audit, places, &unread)).await?);
    all.extend(leftovers(&audit));
    if file.read().await? != json {
        return Err(Error::State(format!("another run committed to {uri} while it was verified; verify it again")));
    }
    let mut findings = Vec::new();
    for of_file in all {
        findings.extend(of_file.finish(&dataset));
    }
    Ok(Verification {
        dataset: uri.to_owned(),
        sound: findings.is_empty(),
        version: dataset.version,
        counts: dataset.counts,
        shards: (dataset.shards.len() + dataset.dropped_shards.len()) as u64,
        clips: dataset.clips.len() as u64,
        bytes: audit.bytes.load(Ordering::Relaxed),
        seconds: start.elapsed().as_secs_f64(),
        findings,
        notes,
    })
}

/// What the metadata files say together.
struct Metadata {
    findings: Vec<Findings>,
    /// Where samples should lie, by shard.
    places: HashMap<String, Vec<Place>>,
    counts: Counts,
    /// Units whose rows could not be read.
    unread: HashSet<String>,
}

async fn metadata(audit: &Audit<'_>) -> Result<Metadata> {
    let mut all =
        Metadata { findings: Vec::new(), places: HashMap::new(), counts: Counts::default(), unread: HashSet::new() };
    let shards: rows::Listed = audit.dataset.into();
    // Which file has a clip, by 16 bytes of a hash of its id.
    let mut seen: HashMap<[u8; 16], u32> = HashMap::new();
    let clips = &audit.dataset.clips;
    let mut files =
        stream::iter(clips).map(|entry| rows::check(audit, entry, &shards)).buffered(FILES).zip(stream::iter(0_u32..));
    while let Some((read, number)) = files.next().await {
        let FileRows { mut findings, rows, counts } = read?;
        let Some(rows) = rows else {
            all.unread.insert(clips[number as usize].unit.clone());
            all.findings.push(findings);
            continue;
        };
        all.counts.add(counts);
        for (row, id) in (1..).zip(rows.ids) {
            if let Some(other) = seen.insert(short_hash(&id), number) {
                let place = match other == number {
                    true => "it".to_owned(),
                    false => clips[other as usize].path.clone(),
                };
                findings.row(row, Some(&id), format!("the clip has another row already, in {place}"));
            }
        }
        for (shard, places) in rows.places {
            all.places.entry(shard).or_default().extend(places);
        }
        all.findings.push(findings);
    }
    Ok(all)
}

/// What is remembered of a clip id.
fn short_hash(id: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    short
}

/// Checks what `dataset.json` says of itself.
fn lists(dataset: &Dataset, counts: Counts, all_read: bool, own: &mut Findings) {
    let mut paths = HashSet::new();
    let shards = dataset.shards.iter().chain(&dataset.dropped_shards).map(|shard| &shard.path);
    for path in shards.chain(dataset.clips.iter().map(|clips| &clips.path)) {
        if !paths.insert(path) {
            own.add(format!("it lists {path} twice"));
        }
    }
    if all_read && counts != dataset.counts {
        own.add(format!("it counts {}, the metadata has {}", fates(dataset.counts), fates(counts)));
    }
    if let Some(run) = dataset.runs.last()
        && run.units + run.units_resumed != dataset.clips.len() as u64
    {
        let units = run.units + run.units_resumed;
        own.add(format!("its last run had {units} work units, it lists the metadata of {}", dataset.clips.len()));
    }
}

fn fates(counts: Counts) -> String {
    let Counts { clips, kept, dropped, failed } = counts;
    format!("{clips} clips ({kept} kept, {dropped} dropped, {failed} failed)")
}

/// Checks that receipts that are still there say the same of the files that `dataset.json` lists.
async fn receipts(audit: &Audit<'_>, own: &mut Findings) -> Result<()> {
    let Dataset { fingerprint, clips, shards, dropped_shards, .. } = audit.dataset;
    let units: HashSet<&str> = clips.iter().map(|clips| clips.unit.as_str()).collect();
    let names = commit::receipt_names(audit.root, fingerprint).await?;
    let sums: HashMap<&str, &str> = shards
        .iter()
        .chain(dropped_shards)
        .map(|shard| (shard.path.as_str(), shard.blake3.as_str()))
        .chain(clips.iter().map(|clips| (clips.path.as_str(), clips.blake3.as_str())))
        .collect();
    let mut known: Vec<&String> = names.iter().filter(|name| units.contains(name.as_str())).collect();
    known.sort_unstable();
    let read = stream::iter(known).map(|unit| commit::read_receipt(audit.root, fingerprint, unit));
    let read: Vec<Option<Receipt>> = read.buffered(RECEIPTS).try_collect().await?;
    for receipt in read.into_iter().flatten() {
        let written = receipt.shards.iter().chain(&receipt.dropped_shards).map(|shard| (&shard.path, &shard.blake3));
        for (path, blake3) in written.chain([(&receipt.clips.path, &receipt.clips.blake3)]) {
            if sums.get(path.as_str()).is_some_and(|sum| sum != blake3) {
                let unit = &receipt.unit;
                own.add(format!("its checksum of {path} is not that of the receipt of work unit {unit}"));
            }
        }
    }
    Ok(())
}

async fn shards(
    audit: &Audit<'_>,
    mut places: HashMap<String, Vec<Place>>,
    unread: &HashSet<String>,
) -> Result<Vec<Findings>> {
    let Dataset { shards, dropped_shards, .. } = audit.dataset;
    let checks = shards.iter().chain(dropped_shards).map(|entry: &ShardEntry| {
        let places = places.remove(&entry.path).unwrap_or_default();
        // Without the rows of its unit nobody can say which samples should be there.
        (entry, places, unread.contains(&entry.unit))
    });
    let checks: Vec<_> = checks.collect();
    stream::iter(checks)
        .map(|(entry, places, unread)| shard::check(audit, entry, places, !unread))
        .buffered(FILES)
        .try_collect()
        .await
}

/// Files beside those that are listed.
fn leftovers(audit: &Audit<'_>) -> Vec<Findings> {
    let listed = commit::files(audit.dataset);
    let mut left: Vec<&String> = audit.there.keys().filter(|path| !listed.contains(path.as_str())).collect();
    left.sort_unstable();
    let tell = |path: &String| {
        let mut findings = Findings::new(path, Remedy::Remove);
        findings
            .add(format!("{DATASET_FILE} does not list it: it was left by a run that never committed, or put there"));
        findings
    };
    left.into_iter().map(tell).collect()
}
