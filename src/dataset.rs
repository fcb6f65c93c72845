//! The dataset on storage: what `dataset.json` and the receipts of work units say.
//!
//! A dataset is what its `dataset.json` lists, and nothing else: files that it does not list belong to a run that has
//! not committed, or to one that never will.

pub mod seal;

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::spec::{Named, PipelineSpec};
use crate::storage::Location;

/// The file that makes a folder a dataset, written last.
pub const DATASET_FILE: &str = "dataset.json";
/// Folder of the shards.
pub const SHARDS: &str = "shards";
/// Folder of the shards of clips that were dropped.
pub const DROPPED_SHARDS: &str = "shards/dropped";
/// Folder of the metadata, one Parquet file a work unit.
pub const CLIPS: &str = "clips";
/// Folder of what a resume reads.
pub const WORK: &str = "_work";
/// Version of the layout that this program writes.
pub const FORMAT: u32 = 1;

/// A committed dataset: the content of `dataset.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dataset {
    /// Version of the layout; 1.
    pub format: u32,
    /// Version of simdrop that committed it.
    pub simdrop: String,
    /// Name of the dataset.
    pub name: String,
    /// Number of commits so far, from 1.
    pub version: u64,
    /// Hash of everything in the pipeline that changes what comes out.
    pub fingerprint: String,
    /// Time of the commit, RFC 3339, UTC.
    pub committed_at: String,
    /// The pipeline as it was run; of a repacked dataset, of the one that it was made from.
    pub pipeline: PipelineSpec,
    /// The repack that made it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repacked: Option<Repacked>,
    /// How many clips ended how.
    pub counts: Counts,
    /// The shards in reading order; paths are relative to the dataset.
    pub shards: Vec<ShardEntry>,
    /// Shards of the clips that were dropped, where `output.keep_dropped` was set; no part of what a trainer reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_shards: Vec<ShardEntry>,
    /// The metadata files; paths are relative to the dataset.
    pub clips: Vec<ClipsEntry>,
    /// The runs that made the dataset, the latest last.
    pub runs: Vec<RunEntry>,
    /// BLAKE3 of this file with 64 zeros in this place, hexadecimal; earlier versions wrote none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blake3: String,
}

/// What `simdrop repack` was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Repacked {
    /// The dataset that it was made from.
    pub from: String,
    /// The predicate.
    pub keep: String,
    /// Seed of the order; none where the order was kept.
    pub seed: Option<u64>,
    /// Clips of either kind, `real:synthetic`, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<String>,
    /// Most clips, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// How many clips ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// All of them.
    pub clips: u64,
    /// In a shard.
    pub kept: u64,
    /// Dropped by a stage.
    pub dropped: u64,
    /// Could not be handled.
    pub failed: u64,
}

impl Counts {
    /// Adds another's numbers.
    pub fn add(&mut self, other: Self) {
        let Self { clips, kept, dropped, failed } = other;
        self.clips += clips;
        self.kept += kept;
        self.dropped += dropped;
        self.failed += failed;
    }
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardEntry {
    /// Path relative to the dataset.
    pub path: String,
    /// Work unit that it belongs to; empty in a repacked dataset.
    pub unit: String,
    /// Number of samples.
    pub samples: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, hexadecimal.
    pub blake3: String,
}

/// One metadata file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClipsEntry {
    /// Path relative to the dataset.
    pub path: String,
    /// Work unit that it belongs to; empty in a repacked dataset.
    pub unit: String,
    /// Number of rows.
    pub rows: u64,
    /// How its clips ended; earlier versions did not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 of the file, hexadecimal.
    pub blake3: String,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunEntry {
    /// Number of the run, from 1.
    pub run: u64,
    /// Start, RFC 3339, UTC.
    pub started_at: String,
    /// Seconds from the start to the commit.
    pub seconds: f64,
    /// Work units that this run did.
    pub units: u64,
    /// Work units that earlier runs had done.
    pub units_resumed: u64,
    /// Clips that this run handled.
    pub counts: Counts,
    /// Execution provider that each model really ran on.
    pub providers: Named<String>,
    /// Most resident memory of the process in bytes.
    pub peak_memory: u64,
    /// What each stage did, in order.
    pub stages: Vec<StageRun>,
}

/// What a stage did in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageRun {
    /// Name of the stage.
    pub stage: String,
    /// Kind of the stage.
    pub kind: String,
    /// Rows that it handled.
    pub rows: u64,
    /// Rows that it dropped.
    pub dropped: u64,
    /// Rows that it failed.
    pub failed: u64,
    /// Bytes of the rows that left.
    pub bytes: u64,
    /// Processor seconds, over all threads.
    pub busy_s: f64,
    /// Most bytes of frames that it held at once.
    #[serde(default)]
    pub memory: u64,
}

/// What was measured while a work unit was done on another machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What each stage did, in order.
    pub stages: Vec<StageRun>,
    /// Execution provider that each model ran on.
    pub providers: Named<String>,
}

/// What a work unit left behind; it is done when this exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The unit.
    pub unit: String,
    /// Its shards, in order; none where it kept nothing.
    pub shards: Vec<ShardEntry>,
    /// Shards of the clips that it dropped, where they are stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped_shards: Vec<ShardEntry>,
    /// Its metadata.
    pub clips: ClipsEntry,
    /// How its clips ended.
    pub counts: Counts,
    /// For whoever started the run, where that is another process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
}

impl Receipt {
    /// Path and size of everything that the unit left behind.
    pub fn files(&self) -> Vec<(&str, u64)> {
        let shards = self.shards.iter().chain(&self.dropped_shards).map(|shard| (shard.path.as_str(), shard.bytes));
        shards.chain([(self.clips.path.as_str(), self.clips.bytes)]).collect()
    }
}

impl Dataset {
    /// Reads the dataset at `root`; none where there is none.
    pub async fn read(root: &Location) -> Result<Option<Self>> {
        let file = root.join(DATASET_FILE);
        let Some(bytes) = file.read_if_there().await? else { return Ok(None) };
        Self::decode(&bytes, &file).map(Some)
    }

    /// The dataset that the bytes of `file` say.
    pub fn decode(bytes: &[u8], file: &Location) -> Result<Self> {
        let dataset: Self = serde_json::from_slice(bytes).map_err(|error| {
            Error::State(format!(
                "{} is damaged: {error}; remove it and make the dataset again: a run takes over the work units that are \
                 done",
                file.uri()
            ))
        })?;
        if let Some(outside) = dataset.paths().find(|path| !stays_below(path)) {
            return Err(Error::State(format!(
                "{} lists {outside:?}, which does not lie below its folder: simdrop never writes that; do not trust this \
                 dataset",
                file.uri()
            )));
        }
        if dataset.format > FORMAT {
            return Err(Error::State(format!(
                "{} has format {}, this simdrop reads up to {FORMAT}: use a newer one",
                file.uri(),
                dataset.format
            )));
        }
        Ok(dataset)
    }

    /// What its work units left behind, as far as it says so: a committed unit needs no other receipt.
    pub fn receipts(&self) -> Vec<Receipt> {
        let mut units: HashMap<&str, (Vec<ShardEntry>, Vec<ShardEntry>)> = HashMap::new();
        for shard in &self.shards {
            units.entry(&shard.unit).or_default().0.push(shard.clone());
        }
        for shard in &self.dropped_shards {
            units.entry(&shard.unit).or_default().1.push(shard.clone());
        }
        let receipt = |clips: &ClipsEntry| {
            let (shards, dropped_shards) = units.remove(clips.unit.as_str()).unwrap_or_default();
            let counts = clips.counts?;
            Some(Receipt {
                unit: clips.unit.clone(),
                shards,
                dropped_shards,
                clips: clips.clone(),
                counts,
                measured: None,
            })
        };
        self.clips.iter().filter_map(receipt).collect()
    }

    /// Paths of all files that it lists.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let shards = self.shards.iter().chain(&self.dropped_shards).map(|shard| shard.path.as_str());
        shards.chain(self.clips.iter().map(|clips| clips.path.as_str()))
    }

    /// Reads the dataset at `root`, which has to be there.
    pub async fn require(root: &Location) -> Result<Self> {
        Self::read(root).await?.ok_or_else(|| {
            Error::State(format!(
                "there is no dataset at {}: no {DATASET_FILE} was found; a run writes it when it is done",
                root.uri()
            ))
        })
    }
}

/// Whether a path, taken from a folder, leads to something in it.
fn stays_below(path: &str) -> bool {
    !path.contains(['\\', '\0']) && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    #[test]
    fn paths_that_leave_the_folder() {
        assert!(stays_below("shards/a-000000.tar") && stays_below("clips/..a.parquet"));
        for path in ["", "/etc/passwd", "../a", "shards/../../a", "shards/..", "./a", "a//b", "a\\..\\b", "a\0b"] {
            assert!(!stays_below(path), "{path:?}");
        }
    }

    #[tokio::test]
    async fn a_dataset_that_lists_files_of_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = Storage::default().locate(folder.path().to_str().unwrap()).unwrap();
        let dataset = crate::sql::testing::write(folder.path());
        assert!(Dataset::read(&root).await.unwrap().is_some());
        let mut text = serde_json::to_value(&dataset).unwrap();
        text["clips"][0]["path"] = "../../secret.parquet".into();
        std::fs::write(folder.path().join(DATASET_FILE), text.to_string()).unwrap();
        let error = Dataset::read(&root).await.unwrap_err().to_string();
        assert!(error.contains("../../secret.parquet"), "{error}");
    }
}
