//! New shards from a dataset that is there: another threshold, another order, another mix, without decoding or scoring.
//!
//! Enters: a committed dataset and a predicate over its clips. Leaves: another dataset, whose shards hold the samples
//! that the predicate selects, byte for byte, and whose metadata still has a row for every clip. Samples are streamed;
//! what is held in memory is a few words for each selected clip. The same call on the same dataset gives the same bytes.
//!
//! Names come from a hash of the source's content and of the options, so that two repacks at once into one folder never
//! write the same file with different bytes; whoever commits first has it.

mod rows;
mod select;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use futures::{StreamExt, stream};

use self::rows::NewRows;
use self::select::{Pick, Selection};
use crate::commit::{self, OutputLock};
use crate::dataset::{Counts, Dataset, FORMAT, Repacked, SHARDS, ShardEntry};
use crate::error::{Error, Result};
use crate::stage::context::CpuPool;
use crate::stage::shards::sample;
use crate::stage::shards::series::{Content, FileRange, Place, Sample, Series, ShardLimits, WHOLE};
use crate::storage::{Location, Storage};

/// Samples that are read ahead of the one that is written.
const AHEAD: usize = 4;

/// What is wanted of a repack.
#[derive(Debug, Clone)]
pub struct RepackOptions {
    /// The dataset to take clips from.
    pub dataset: String,
    /// Folder of the new dataset; another one.
    pub output: String,
    /// Name of the new dataset. Default: that of the old one.
    pub name: Option<String>,
    /// SQL predicate over table `clips`. It sees every clip, whatever became of it: where it selects one that was
    /// dropped and is stored (`output.keep_dropped`), that clip comes back; `fate = 'kept' AND …` brings none back.
    pub keep: String,
    /// Seed of the order of the samples, over all shards. Default: the order that they had.
    pub seed: Option<u64>,
    /// So many real clips for so many synthetic ones; of the side that has too many, some are left out by chance (the
    /// same ones for the same seed).
    pub mix: Option<Mix>,
    /// Most clips.
    pub limit: Option<u64>,
    /// Most samples in a shard.
    pub max_samples: usize,
    /// Most bytes in a shard; one sample may pass it.
    pub max_bytes: ByteSize,
    /// Replace a dataset that an earlier repack made in `output`.
    pub overwrite: bool,
}

impl RepackOptions {
    /// All clips that `keep` selects, in their order, in shards of the usual size.
    pub fn new(dataset: impl Into<String>, output: impl Into<String>, keep: impl Into<String>) -> Self {
        Self {
            dataset: dataset.into(),
            output: output.into(),
            name: None,
            keep: keep.into(),
            seed: None,
            mix: None,
            limit: None,
            max_samples: 10_000,
            max_bytes: ByteSize::gb(3),
            overwrite: false,
        }
    }

    /// What the content depends on, as a hash.
    fn fingerprint(&self, source: &Dataset, name: &str) -> String {
        let Self { dataset: _, output: _, name: _, keep, seed, mix, limit, max_samples, max_bytes, overwrite: _ } =
            self;
        let mut hasher = blake3::Hasher::new();
        let options = (name, keep, seed, mix.map(|mix| mix.to_string()), limit, max_samples, max_bytes.as_u64());
        hasher.update(format!("{:?}", (&source.fingerprint, options)).as_bytes());
        let files = source.shards.iter().chain(&source.dropped_shards).map(|shard| &shard.blake3);
        for hash in files.chain(source.clips.iter().map(|clips| &clips.blake3)) {
            hasher.update(hash.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Clips of either kind, written `3:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    /// Share of real clips.
    pub real: u32,
    /// Share of synthetic clips.
    pub synthetic: u32,
}

impl FromStr for Mix {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let shares = text.split_once(':').and_then(|(real, synthetic)| {
            Some(Self { real: real.trim().parse().ok()?, synthetic: synthetic.trim().parse().ok()? })
        });
        shares
            .filter(|mix| mix.real > 0 || mix.synthetic > 0)
            .ok_or_else(|| Error::config(format!("mix {text} is not real:synthetic in whole numbers, such as 3:1")))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.real, self.synthetic)
    }
}

/// How far a repack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepackProgress {
    /// Samples written.
    pub samples: u64,
    /// Samples in all.
    pub total: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// What a repack made.
#[derive(Debug)]
pub struct RepackOutcome {
    /// The new dataset.
    pub dataset: Dataset,
    /// Clips that were selected and are not stored in the old dataset.
    pub not_stored: u64,
    /// Clips that were selected and left out for the mix or the limit.
    pub left_out: u64,
}

impl RepackOutcome {
    /// What a person should know, a line each.
    pub fn notes(&self) -> Vec<String> {
        let left_out = (self.left_out > 0)
            .then(|| format!("{} clips match and were left out for the mix or the limit", self.left_out));
        (self.not_stored > 0).then(|| not_stored(self.not_stored)).into_iter().chain(left_out).collect()
    }
}

fn not_stored(clips: u64) -> String {
    format!(
        "{clips} clips match but are not in the shards: they were dropped before writing; to have them, run the \
         pipeline with a looser threshold, or with output.keep_dropped: true"
    )
}

/// Makes a dataset of the clips that a predicate selects; `progress` is called after every sample.
///
/// # Errors
///
/// The predicate is wrong or selects nothing that is stored, the output is taken, or the dataset is damaged.
pub async fn repack(
    storage: &Storage,
    options: &RepackOptions,
    progress: &(dyn Fn(RepackProgress) + Send + Sync),
) -> Result<RepackOutcome> {
    let (from, to) = (storage.locate(&options.dataset)?, storage.locate(&options.output)?);
    let source = Dataset::require(&from).await?;
    let previous = check_output(&from, &to, options.overwrite).await?;
    let selection = select::select(storage, &source, options).await?;
    if selection.picks.is_empty() {
        let hint =
            if selection.not_stored > 0 { format!("; {}", not_stored(selection.not_stored)) } else { String::new() };
        return Err(Error::config(format!("no clip in the shards of {} matches: {}{hint}", from.uri(), options.keep)));
    }
    let _lock = OutputLock::take(&to)?;
    let name = options.name.clone().unwrap_or_else(|| source.name.clone());
    if !crate::spec::is_name(&name) {
        return Err(Error::config(format!("`{name}` is no name for a dataset; letters, digits, `-` and `_`")));
    }
    let fingerprint = options.fingerprint(&source, &name);
    let id = &fingerprint[..16];
    let cpu = CpuPool::new(std::thread::available_parallelism().map_or(1, usize::from));
    let limits = ShardLimits { samples: options.max_samples as u64, bytes: options.max_bytes.as_u64() };
    let series = Series::new(to.clone(), SHARDS, format!("{name}-{id}"), String::new(), limits, cpu.clone());
    let (places, shards) = Box::pin(copy(&from, &selection, series, progress)).await?;
    let new_rows = NewRows { options, places: &places, left_out: &selection.left_out };
    let (clips, counts) = Box::pin(new_rows.write(&from, &to, &source, &fingerprint, &cpu)).await?;

    let dataset = Dataset {
        format: FORMAT,
        simdrop: env!("CARGO_PKG_VERSION").to_owned(),
        name,
        version: previous.as_ref().map_or(1, |previous| previous.version + 1),
        fingerprint,
        committed_at: commit::now(),
        repacked: Some(Repacked {
            from: options.dataset.clone(),
            keep: options.keep.clone(),
            seed: options.seed,
            mix: options.mix.map(|mix| mix.to_string()),
            limit: options.limit,
        }),
        counts,
        shards,
        dropped_shards: Vec::new(),
        clips,
        ..source
    };
    let dataset = commit::put(&to, previous.as_ref(), dataset).await?;
    commit::sweep(&to, previous.as_ref(), &dataset).await;
    let left_out = selection.left_out.len() as u64;
    Ok(RepackOutcome { dataset, not_stored: selection.not_stored, left_out })
}

/// The dataset that is replaced, if any.
async fn check_output(from: &Location, to: &Location, overwrite: bool) -> Result<Option<Dataset>> {
    if from.is(to) {
        return Err(Error::config(format!("{} cannot be repacked into itself: choose another output", from.uri())));
    }
    let previous = Dataset::read(to).await?;
    if let Some(previous) = &previous {
        let uri = to.uri();
        if previous.repacked.is_none() {
            return Err(Error::config(format!("{uri} is the dataset of a pipeline: choose another output")));
        }
        if !overwrite {
            return Err(Error::config(format!("{uri} holds a dataset: choose another output, or overwrite it")));
        }
    }
    Ok(previous)
}

/// Copies the selected samples; returns where each stands now.
async fn copy(
    from: &Location,
    selection: &Selection,
    mut series: Series,
    progress: &(dyn Fn(RepackProgress) + Send + Sync),
) -> Result<(HashMap<Box<str>, Place>, Vec<ShardEntry>)> {
    let mut places = HashMap::with_capacity(selection.picks.len());
    let mut done = RepackProgress { samples: 0, total: selection.picks.len() as u64, bytes: 0 };
    let read = |pick: Pick| {
        let shard = from.join(&selection.shards[pick.shard as usize]);
        async move { (read_sample(&shard, &pick).await, shard, pick) }
    };
    let mut samples = stream::iter(selection.picks.iter().cloned()).map(read).buffered(AHEAD);
    while let Some((sample, shard, pick)) = samples.next().await {
        let placed = match sample? {
            Ok(content) => series.append(Sample::Tar(content)).await?,
            Err(reason) => Err(reason),
        };
        let place = placed.map_err(|reason| {
            Error::State(format!("{}, which holds clip {}: {reason}; the dataset is damaged", shard.uri(), pick.id))
        })?;
        done.samples += 1;
        done.bytes += place.size;
        places.insert(pick.id, place);
        progress(done);
    }
    drop(samples);
    Ok((places, series.finish().await?))
}

/// A sample out of a shard, whole where it is small; why it cannot be had, where it cannot.
async fn read_sample(shard: &Location, pick: &Pick) -> Result<Result<Content, String>> {
    let file = FileRange { location: shard.clone(), start: pick.offset, end: pick.offset + pick.size, etag: None };
    let whole = pick.size <= WHOLE;
    let end = if whole { file.end } else { file.end.min(file.start + 2 * sample::BLOCK) };
    let bytes = match file.read(file.start, end).await {
        Ok(bytes) => bytes,
        Err(reason) => return Ok(Err(reason)),
    };
    if !sample::begins_sample(&bytes, &pick.id) {
        return Ok(Err(format!("no sample of this name is at byte {}", pick.offset)));
    }
    Ok(Ok(if whole { Content::Owned(bytes) } else { Content::File(file) }))
}

/// Sums up.
fn total(counts: impl IntoIterator<Item = Counts>) -> Counts {
    counts.into_iter().fold(Counts::default(), |mut sum, counts| {
        sum.add(counts);
        sum
    })
}
