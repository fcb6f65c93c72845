//! The sink: clips of one work unit become shards and a metadata file.
//!
//! Enter: rows in flight and rows that a stage settled. Leave: the samples of the rows in flight in numbered WebDataset
//! shards, every row once in the unit's metadata, and the receipt that says so. Names and bytes depend on the unit
//! alone, so that a second attempt replaces what a first one left. A clip whose sample cannot be made fails, and no byte
//! of it stays in a shard.

pub mod config;
mod describe;
mod payload;
pub mod sample;
pub(crate) mod series;
pub(crate) mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, stream};

use self::config::OutputSpec;
use self::payload::SampleMaker;
use self::series::{Place, Sample, Series, ShardLimits};
use crate::dataset::{CLIPS, Counts, DROPPED_SHARDS, Receipt, SHARDS};
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::{ClipBatch, Fate, StageContext, StageTask};
use crate::storage::Location;

/// Name of this stage in the reasons of failed clips.
pub const STAGE: &str = "shards";

/// Samples that are made ahead of the one that is written; each may hold a small file or a cut.
const AHEAD: usize = 2;

/// Where the clips of a work unit go.
#[derive(Debug)]
pub struct ShardTarget {
    /// Folder of the dataset.
    pub root: Location,
    /// Name of the dataset, which shards are named after.
    pub name: String,
    /// Id of the work unit.
    pub unit: String,
    /// What a sample holds, and how large a shard gets.
    pub config: OutputSpec,
    /// Columns of the rows that come.
    pub schema: SchemaRef,
}

/// Writes the shards and the metadata of one work unit.
///
/// Shards appear one by one as they are complete; without [`ShardWriter::finish`] there is no metadata and no receipt,
/// and the shard that was being written never appears.
#[derive(Debug)]
pub struct ShardWriter {
    context: Arc<StageContext>,
    root: Location,
    unit: String,
    /// Columns of the metadata.
    schema: SchemaRef,
    maker: SampleMaker,
    kept: Series,
    /// Where samples of dropped clips go, if anywhere.
    dropped: Option<Series>,
    keys: HashSet<String>,
    counts: Counts,
    rows: Vec<RecordBatch>,
}

impl ShardWriter {
    /// A writer that has written nothing yet.
    ///
    /// # Errors
    ///
    /// A column of frames that the configuration names is not there.
    pub fn open(context: Arc<StageContext>, target: ShardTarget) -> Result<Self> {
        let ShardTarget { root, name, unit, config, schema } = target;
        let limits = ShardLimits { samples: config.max_samples as u64, bytes: config.max_bytes.as_u64() };
        let series = |folder| {
            Series::new(root.clone(), folder, format!("{name}-{unit}"), unit.clone(), limits, context.cpu.clone())
        };
        Ok(Self {
            maker: SampleMaker::new(&config, &schema)?,
            schema: schema::without_frames(&schema),
            kept: series(SHARDS),
            dropped: config.keep_dropped.then(|| series(DROPPED_SHARDS)),
            keys: HashSet::new(),
            counts: Counts::default(),
            rows: Vec::new(),
            root,
            unit,
            context,
        })
    }

    /// Writes rows: those in flight become samples and are settled, the others go to the metadata as they are.
    pub async fn write(&mut self, clips: ClipBatch, task: &StageTask) -> Result<()> {
        let Self { maker, kept, dropped, keys, .. } = self;
        let mut fates = vec![None; clips.rows()];
        let mut places = vec![None; clips.rows()];
        let wanted = wanted_samples(&clips, dropped.is_some(), keys, &mut fates)?;
        let (maker, batch) = (&*maker, &clips);
        let mut samples =
            stream::iter(wanted).map(|row| async move { (row, maker.make(batch, row, task).await) }).buffered(AHEAD);
        while let Some((row, sample)) = samples.next().await {
            if task.cancelled() {
                return Err(Error::Cancelled);
            }
            let in_flight = !clips.is_settled(row)?;
            let series = match dropped.as_mut() {
                Some(dropped) if !in_flight => dropped,
                _ => &mut *kept,
            };
            let placed = place(series, sample?).await?;
            task.credit(series.take_busy());
            match placed {
                Ok(place) => {
                    places[row] = Some(place);
                    fates[row] = in_flight.then_some(Fate::Kept);
                }
                Err(reason) if in_flight => fates[row] = Some(Fate::failed(reason)),
                Err(reason) => {
                    let clip = clips.text(schema::CLIP_ID)?.value(row);
                    tracing::warn!(clip, reason, "a dropped clip could not be stored");
                }
            }
        }
        drop(samples);
        let settled = with_places(&clips.settle(STAGE, &fates)?, &self.schema, &places)?;
        self.counts.add(count(&settled)?);
        self.rows.push(settled.into_batch());
        Ok(())
    }

    /// Completes the last shard and writes the metadata; the unit is done once its receipt is stored.
    pub async fn finish(self) -> Result<Receipt> {
        let Self { context, root, unit, schema, kept, dropped, counts, rows, .. } = self;
        let shards = kept.finish().await?;
        let dropped_shards = match dropped {
            Some(dropped) => dropped.finish().await?,
            None => Vec::new(),
        };
        let path = format!("{CLIPS}/{unit}.parquet");
        let clips = table::write(&root, path, unit.clone(), &schema, rows, &context.cpu).await?;
        Ok(Receipt { unit, shards, dropped_shards, clips, counts, measured: None })
    }
}

/// Rows that get a sample; a second row of the same key fails, since a key stands for one sample in the dataset.
fn wanted_samples(
    clips: &ClipBatch,
    keep_dropped: bool,
    keys: &mut HashSet<String>,
    fates: &mut [Option<Fate>],
) -> Result<Vec<usize>> {
    let (ids, settled) = (clips.text(schema::CLIP_ID)?, clips.text(schema::FATE)?);
    let mut wanted = Vec::new();
    for (row, fate) in fates.iter_mut().enumerate() {
        let in_flight = settled.is_null(row);
        let stored = in_flight || (keep_dropped && settled.value(row) == Fate::dropped("", None).as_str());
        if stored && keys.insert(ids.value(row).to_owned()) {
            wanted.push(row);
        } else if in_flight {
            *fate = Some(Fate::failed(format!("another clip has the same id, {}", ids.value(row))));
        }
    }
    Ok(wanted)
}

async fn place(series: &mut Series, sample: Result<Sample, String>) -> Result<Result<Place, String>> {
    match sample {
        Ok(sample) => series.append(sample).await,
        Err(reason) => Ok(Err(reason)),
    }
}

/// `clips` under `schema`, with where each sample stands; rows without one have nulls there.
pub(crate) fn with_places(clips: &ClipBatch, schema: &SchemaRef, places: &[Option<Place>]) -> Result<ClipBatch> {
    let (mut shard, mut key) = (StringBuilder::new(), StringBuilder::new());
    let (mut offset, mut size) = (Int64Builder::new(), Int64Builder::new());
    let ids = clips.text(schema::CLIP_ID)?;
    for (row, place) in places.iter().enumerate() {
        shard.append_option(place.as_ref().map(|place| place.shard.as_ref()));
        key.append_option(place.as_ref().map(|_| ids.value(row)));
        offset.append_option(place.as_ref().map(|place| place.offset as i64));
        size.append_option(place.as_ref().map(|place| place.size as i64));
    }
    clips.with_columns(
        schema,
        vec![
            (schema::SHARD, Arc::new(shard.finish()) as ArrayRef),
            (schema::KEY, Arc::new(key.finish())),
            (schema::OFFSET, Arc::new(offset.finish())),
            (schema::SIZE, Arc::new(size.finish())),
        ],
    )
}

/// How the clips of a batch ended.
pub(crate) fn count(clips: &ClipBatch) -> Result<Counts> {
    let fates = clips.text(schema::FATE)?;
    let ended = |fate: &str| fates.iter().filter(|have| *have == Some(fate)).count() as u64;
    Ok(Counts { clips: clips.rows() as u64, kept: ended("kept"), dropped: ended("dropped"), failed: ended("failed") })
}
