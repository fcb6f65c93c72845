//! From receipts to a dataset, and from a broken run to its end.
//!
//! Work units leave files under names of their own and, last, a receipt. The driver lists the files of all receipts in
//! `dataset.json`, in one put that fails if somebody else was faster. A reader sees a whole dataset or the one before.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::Path;

use futures::{StreamExt, TryStreamExt};

use crate::dataset::{CLIPS, Counts, DATASET_FILE, Dataset, FORMAT, Receipt, RunEntry, SHARDS, WORK, seal};
use crate::error::{Error, Result};
use crate::spec::PipelineSpec;
use crate::storage::Location;

/// Receipts that are read at once.
const READS: usize = 16;

/// Where the receipts of a pipeline are.
fn receipts_folder(root: &Location, fingerprint: &str) -> Location {
    root.join(&format!("{WORK}/{fingerprint}/receipts"))
}

/// Where the rows of a unit are.
pub fn unit_file(root: &Location, fingerprint: &str, unit: &str) -> Location {
    root.join(&format!("{WORK}/{fingerprint}/units/{unit}.parquet"))
}

/// Makes a unit done.
pub async fn write_receipt(root: &Location, fingerprint: &str, unit: &str, receipt: &Receipt) -> Result<()> {
    let json = serde_json::to_vec(receipt).map_err(Error::internal)?;
    receipts_folder(root, fingerprint).join(&format!("{unit}.json")).write(json).await
}

/// Whether all files that a dataset lists are there, with their sizes.
pub async fn is_whole(root: &Location, dataset: &Dataset) -> Result<bool> {
    let files = Files::list(root).await?;
    let kept = dataset.shards.iter().chain(&dataset.dropped_shards).all(|shard| files.has(&shard.path, shard.bytes));
    Ok(kept && dataset.clips.iter().all(|clips| files.has(&clips.path, clips.bytes)))
}

/// Names of the units that have a receipt.
pub async fn receipt_names(root: &Location, fingerprint: &str) -> Result<HashSet<String>> {
    let names = sizes(&receipts_folder(root, fingerprint)).await?;
    Ok(names.into_keys().filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect())
}

/// The receipt of a unit, if there is one. One that cannot be made out is none: that costs doing its unit again, nothing more.
pub async fn read_receipt(root: &Location, fingerprint: &str, unit: &str) -> Result<Option<Receipt>> {
    let file = receipts_folder(root, fingerprint).join(&format!("{unit}.json"));
    let receipt = file.read_if_there().await?.and_then(|json| serde_json::from_slice::<Receipt>(&json).ok());
    Ok(receipt.filter(|receipt| receipt.unit == unit))
}

/// The receipt of a unit, if there is one and everything that it lists is there.
pub async fn find_receipt(root: &Location, fingerprint: &str, unit: &str) -> Result<Option<Receipt>> {
    let Some(receipt) = read_receipt(root, fingerprint, unit).await? else { return Ok(None) };
    for (path, bytes) in receipt.files() {
        if root.join(path).stat().await?.is_none_or(|file| file.size != bytes) {
            return Ok(None);
        }
    }
    Ok(Some(receipt))
}

/// The receipts of the units that are done; one whose files are gone or of another size does not count. Of a unit that
/// is committed, the dataset itself is the receipt.
pub async fn read_receipts(
    root: &Location,
    fingerprint: &str,
    committed: Option<&Dataset>,
    units: &HashSet<&str>,
) -> Result<HashMap<String, Receipt>> {
    let names = receipt_names(root, fingerprint).await?;
    let mut receipts = committed.map(Dataset::receipts).unwrap_or_default();
    if names.is_empty() && receipts.is_empty() {
        return Ok(HashMap::new());
    }
    let files = Files::list(root).await?;
    let is_done = |receipt: &Receipt| {
        units.contains(receipt.unit.as_str()) && receipt.files().iter().all(|(path, bytes)| files.has(path, *bytes))
    };
    receipts.retain(is_done);
    let mut found: HashMap<String, Receipt> =
        receipts.into_iter().map(|receipt| (receipt.unit.clone(), receipt)).collect();
    let missing: Vec<&String> =
        names.iter().filter(|name| units.contains(name.as_str()) && !found.contains_key(*name)).collect();
    let read = missing.into_iter().map(|unit| read_receipt(root, fingerprint, unit));
    let mut read = futures::stream::iter(read).buffer_unordered(READS);
    while let Some(receipt) = read.try_next().await? {
        found.extend(receipt.filter(is_done).map(|receipt| (receipt.unit.clone(), receipt)));
    }
    Ok(found)
}

/// What lies in the folders of a dataset.
struct Files {
    shards: HashMap<String, u64>,
    clips: HashMap<String, u64>,
}

impl Files {
    async fn list(root: &Location) -> Result<Self> {
        Ok(Self { shards: sizes(&root.join(SHARDS)).await?, clips: sizes(&root.join(CLIPS)).await? })
    }

    /// Whether the file at `path`, relative to the dataset, is there with this size.
    fn has(&self, path: &str, bytes: u64) -> bool {
        let of = |folder: &str, files: &HashMap<String, u64>| {
            path.strip_prefix(folder)?.strip_prefix('/').and_then(|name| files.get(name).copied())
        };
        of(SHARDS, &self.shards).or_else(|| of(CLIPS, &self.clips)) == Some(bytes)
    }
}

/// Names below a folder and their sizes.
pub(crate) async fn sizes(folder: &Location) -> Result<HashMap<String, u64>> {
    let listed = folder.store().list(Some(folder.path())).try_collect::<Vec<_>>().await;
    let listed = listed.map_err(Error::storage("list", folder.uri()))?;
    let prefix = format!("{}/", folder.path());
    Ok(listed
        .into_iter()
        .filter_map(|meta| Some((meta.location.as_ref().strip_prefix(&prefix)?.to_owned(), meta.size)))
        .collect())
}

/// The right to write to an output; the system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct OutputLock {
    _file: Option<File>,
}

impl OutputLock {
    /// Takes the right, or says that another run has it.
    pub fn take(root: &Location) -> Result<Self> {
        let Some(local) = root.local() else { return Ok(Self { _file: None }) };
        let folder = local.join(WORK);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(Error::State(format!(
                "another run is writing to {}: wait for it, or give this one another output",
                root.uri()
            ))),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }
}

/// The dataset that an output holds, checked: another pipeline's is refused unless it may be replaced.
pub async fn open_output(root: &Location, fingerprint: &str, overwrite: bool) -> Result<Option<Dataset>> {
    let Some(dataset) = Dataset::read(root).await? else { return Ok(None) };
    if dataset.fingerprint == fingerprint || overwrite {
        return Ok(Some(dataset));
    }
    Err(Error::config(format!(
        "{} holds the dataset of another pipeline ({}, {} clips, committed {}): choose another output.path, or replace it \
         with --overwrite",
        root.uri(),
        dataset.name,
        dataset.counts.clips,
        dataset.committed_at
    )))
}

/// Lists the receipts, in the order of their units, as the dataset.
pub async fn commit(
    root: &Location,
    previous: Option<&Dataset>,
    spec: &PipelineSpec,
    fingerprint: &str,
    receipts: Vec<Receipt>,
    run: RunEntry,
) -> Result<Dataset> {
    let mut counts = Counts::default();
    let (mut shards, mut dropped_shards, mut clips) = (Vec::new(), Vec::new(), Vec::new());
    for receipt in receipts {
        let Receipt { unit: _, shards: kept, dropped_shards: dropped, clips: rows, counts: fates, measured: _ } =
            receipt;
        shards.extend(kept);
        dropped_shards.extend(dropped);
        clips.push(rows);
        counts.add(fates);
    }
    let same = previous.filter(|dataset| dataset.fingerprint == fingerprint);
    let mut runs = same.map(|dataset| dataset.runs.clone()).unwrap_or_default();
    runs.push(RunEntry { run: runs.len() as u64 + 1, ..run });
    let dataset = Dataset {
        format: FORMAT,
        simdrop: env!("CARGO_PKG_VERSION").to_owned(),
        name: spec.name.clone(),
        version: previous.map_or(1, |dataset| dataset.version + 1),
        fingerprint: fingerprint.to_owned(),
        committed_at: now(),
        pipeline: spec.clone(),
        repacked: None,
        counts,
        shards,
        dropped_shards,
        clips,
        runs,
        blake3: String::new(),
    };
    let dataset = put(root, previous, dataset).await?;
    sweep(root, previous, &dataset).await;
    Ok(dataset)
}

/// The time as it is stored.
pub fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Writes `dataset.json`, sealed, if it still is what this run saw when it began.
pub async fn put(root: &Location, previous: Option<&Dataset>, dataset: Dataset) -> Result<Dataset> {
    let file = root.join(DATASET_FILE);
    let (dataset, json) = seal::seal(dataset)?;
    let lost =
        || Error::State(format!("another run committed to {} while this one ran; nothing was changed", root.uri()));
    let done = match previous {
        None => file.create(json).await?,
        Some(previous) => {
            let is_same = |bytes: &[u8]| serde_json::from_slice::<Dataset>(bytes).is_ok_and(|now| now == *previous);
            file.replace(is_same, json).await?
        }
    };
    done.then_some(dataset).ok_or_else(lost)
}

/// Removes what the dataset does not list: files of earlier versions, and of runs that never committed.
///
/// A store that knows no lock may have other runs at work on the same output: there only what the dataset before this
/// one listed is removed, and the work of this pipeline.
pub(crate) async fn sweep(root: &Location, previous: Option<&Dataset>, dataset: &Dataset) {
    let listed = files(dataset);
    let ours = previous.map(files).unwrap_or_default();
    let is_locked = root.local().is_some();
    let units: HashSet<&str> = dataset.clips.iter().map(|clips| clips.unit.as_str()).collect();
    for folder in [SHARDS, CLIPS, WORK] {
        let Ok(found) = sizes(&root.join(folder)).await else { continue };
        for name in found.into_keys() {
            let path = format!("{folder}/{name}");
            let stale = match folder {
                WORK if !is_locked && !name.starts_with(&dataset.fingerprint) => false,
                WORK => is_stale_work(&name, &dataset.fingerprint, &units),
                _ => (ours.contains(path.as_str()) || is_locked && is_ours(&name)) && !listed.contains(path.as_str()),
            };
            if stale && let Err(error) = root.join(&path).delete().await {
                tracing::warn!("{path} is no longer part of the dataset and could not be removed: {error}");
            }
        }
        if let Some(local) = root.join(folder).local() {
            sweep_uploads(local);
        }
    }
}

/// Paths of the files that a dataset lists.
pub(crate) fn files(dataset: &Dataset) -> HashSet<&str> {
    let shards = dataset.shards.iter().chain(&dataset.dropped_shards).map(|shard| shard.path.as_str());
    shards.chain(dataset.clips.iter().map(|clips| clips.path.as_str())).collect()
}

/// Removes what killed processes left of uploads to this disk, such as `<shard>.tar#1`: the listing of a store leaves
/// them out. The lock on the output says that nobody is writing them any more.
fn sweep_uploads(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if path.is_dir() {
            sweep_uploads(&path);
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.rsplit_once('#'));
        let left = name.is_some_and(|(name, number)| {
            number.bytes().all(|byte| byte.is_ascii_digit()) && (is_ours(name) || name.ends_with(".json"))
        });
        if left && let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!("{} was left by a killed run and could not be removed: {error}", path.display());
        }
    }
}

/// Whether a file is one that units leave behind: `<name>-<unit>-<number>.tar` or `<unit>.parquet`.
fn is_ours(name: &str) -> bool {
    let is_unit = |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let file = name.rsplit('/').next().unwrap_or(name);
    match (file.strip_suffix(".tar"), file.strip_suffix(".parquet")) {
        (Some(stem), _) => stem.rsplit('-').nth(1).is_some_and(is_unit),
        (_, Some(stem)) => is_unit(stem),
        _ => false,
    }
}

/// Whether a file of the work folder is of no use to a resume: another pipeline's, or of a unit that is no more.
fn is_stale_work(name: &str, fingerprint: &str, units: &HashSet<&str>) -> bool {
    let mut parts = name.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("lock"), None, None) => false,
        (Some(of), Some("units"), Some(_)) if of == fingerprint => true,
        (Some(of), Some("receipts"), Some(file)) if of == fingerprint => {
            !units.contains(file.strip_suffix(".json").unwrap_or(file))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests;
