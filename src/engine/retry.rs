//! Failed clips of a finished dataset, run again; everything else of it stays as it is.
//!
//! Enters: the committed dataset, the manifest, and which failures are meant. Leaves: for each work unit that they are
//! in, a unit of these clips alone, which is run as any other, and once it is done a receipt in which the old shards
//! stand before the new ones and the rows of the clips that were tried again are replaced. Nothing that the dataset
//! lists is written to, so until the commit it stands as it was; a run that was killed finds the units again, since
//! their names come from the clips and from the version of the metadata that they were read from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};

use crate::dataset::{CLIPS, ClipsEntry, Dataset, Receipt, ShardEntry};
use crate::error::{Error, Result};
use crate::manifest::{Manifest, Unit};
use crate::schema;
use crate::stage::context::CpuPool;
use crate::stage::shards::{count, table};
use crate::stage::split::window_id;
use crate::stage::{ClipBatch, Fate};
use crate::storage::Location;

/// Reasons that are named where the wanted one is not there.
const NAMED: usize = 12;

/// Which failed clips are run again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retry {
    /// The stage at which they failed, or a part of the reason, in any case of letters. Default: all of them.
    pub reason: Option<String>,
}

impl Retry {
    fn takes(&self, stage: &str, reason: &str) -> bool {
        let Some(wanted) = &self.reason else { return true };
        stage == wanted || reason.to_lowercase().contains(&wanted.to_lowercase())
    }
}

/// Clips of a work unit that are run again.
#[derive(Debug)]
pub(super) struct Again {
    /// The work unit that they are in.
    of: String,
    /// They alone.
    pub(super) unit: Unit,
    /// Their ids.
    clips: HashSet<String>,
}

impl Again {
    /// Number of clips.
    pub(super) fn clips(&self) -> u64 {
        self.clips.len() as u64
    }

    /// Replaces the receipt of the work unit by one of what it is now; everything that it lists lies in storage. `tried`
    /// has the receipt of the clips that were run again.
    pub(super) async fn merge(
        &self,
        root: &Location,
        receipts: &mut HashMap<String, Receipt>,
        tried: &HashMap<String, Receipt>,
        cpu: &CpuPool,
    ) -> Result<()> {
        let (Some(before), Some(tried)) = (receipts.get(&self.of), tried.get(&self.unit.id)) else {
            return Err(Error::internal(format!("unit {} lost its receipt", self.of)));
        };
        let old = table::read(&root.join(&before.clips.path)).await?;
        let new = table::read(&root.join(&tried.clips.path)).await?;
        let rows = self.replace(&old, new)?;
        let counts = count(&rows)?;
        let name = blake3::hash(format!("{} {}", before.clips.blake3, tried.clips.blake3).as_bytes()).to_hex();
        let path = format!("{CLIPS}/{}.parquet", &name[..16]);
        let schema = rows.batch().schema();
        let clips = table::write(root, path, self.of.clone(), &schema, vec![rows.into_batch()], cpu).await?;
        let both = |before: &[ShardEntry], tried: &[ShardEntry]| -> Vec<ShardEntry> {
            let ours = |shard: &ShardEntry| ShardEntry { unit: self.of.clone(), ..shard.clone() };
            before.iter().chain(tried).map(ours).collect()
        };
        let receipt = Receipt {
            unit: self.of.clone(),
            shards: both(&before.shards, &tried.shards),
            dropped_shards: both(&before.dropped_shards, &tried.dropped_shards),
            clips,
            counts,
            measured: None,
        };
        receipts.insert(self.of.clone(), receipt);
        Ok(())
    }

    /// The old rows, with the new ones in the place of those of the clips that were run again.
    fn replace(&self, old: &RecordBatch, new: RecordBatch) -> Result<ClipBatch> {
        let stays = |id: Option<&str>| Some(id.is_none_or(|id| !self.clips.contains(id)));
        let stays: BooleanArray = ClipBatch::new(old.clone()).text(schema::CLIP_ID)?.iter().map(stays).collect();
        let stays = filter_record_batch(old, &stays)?;
        let fields = new.schema();
        let columns = schema::with_fields(&old.schema(), fields.fields().iter().map(|field| field.as_ref().clone()));
        let unit: ArrayRef = Arc::new(StringArray::from(vec![self.of.as_str(); new.num_rows()]));
        let parts = vec![
            ClipBatch::new(stays).with_columns(&columns, Vec::new())?,
            ClipBatch::new(new).with_columns(&columns, vec![(schema::UNIT, unit)])?,
        ];
        let rows = ClipBatch::concat(&columns, parts)?;
        let mut ids = HashSet::new();
        match rows.text(schema::CLIP_ID)?.iter().flatten().find(|id| !ids.insert(*id)) {
            Some(twice) => Err(Error::internal(format!("clip {twice} was run again and came twice"))),
            None => Ok(rows),
        }
    }
}

/// The dataset of which clips are run again; says why where there is none.
pub(super) fn committed<'a>(root: &Location, dataset: Option<&'a Dataset>, fingerprint: &str) -> Result<&'a Dataset> {
    let uri = root.uri();
    let dataset = dataset.ok_or_else(|| {
        Error::config(format!(
            "there is no dataset at {uri} yet, of which clips could have failed; run it without --retry-failed"
        ))
    })?;
    if dataset.fingerprint != fingerprint {
        return Err(Error::config(format!(
            "{uri} holds the dataset of another pipeline ({}, committed {}), whose clips this one cannot try again; call the \
             pipeline as it was, or choose another output.path",
            dataset.name, dataset.committed_at
        )));
    }
    Ok(dataset)
}

/// The failed clips that are meant, a unit for each work unit of the manifest that is done; those of the others are run
/// anyway.
pub(super) async fn find(
    root: &Location,
    dataset: &Dataset,
    retry: &Retry,
    manifest: &Manifest,
    done: &HashMap<String, Receipt>,
) -> Result<Vec<Again>> {
    let units: HashMap<&str, &Unit> = manifest.units.iter().map(|unit| (unit.id.as_str(), unit)).collect();
    let mut reasons: BTreeMap<(String, String), u64> = BTreeMap::new();
    let (mut found, mut again) = (0, Vec::new());
    for entry in &dataset.clips {
        if entry.counts.is_some_and(|counts| counts.failed == 0) {
            continue;
        }
        let rows = table::read(&root.join(&entry.path)).await?;
        let failed = ClipBatch::new(filter_record_batch(&rows, &has_failed(&rows)?)?);
        let (stages, whys) = (failed.text(schema::FATE_STAGE)?, failed.text(schema::FATE_REASON)?);
        let take = |(stage, why): (Option<&str>, Option<&str>)| {
            let (stage, why) = (stage.unwrap_or_default(), why.unwrap_or_default());
            *reasons.entry((stage.to_owned(), why.to_owned())).or_default() += 1;
            Some(retry.takes(stage, why))
        };
        let taken: BooleanArray = stages.iter().zip(whys).map(take).collect();
        let failed = ClipBatch::new(filter_record_batch(failed.batch(), &taken)?);
        found += failed.rows();
        if let Some(unit) =
            units.get(entry.unit.as_str()).filter(|unit| done.contains_key(&unit.id) && failed.rows() > 0)
        {
            again.push(restrict(unit, &failed, entry)?);
        }
    }
    if found > 0 {
        return Ok(again);
    }
    let Some(wanted) = &retry.reason else {
        return Err(Error::config(format!("no clip of {} has failed: there is nothing to try again", root.uri())));
    };
    Err(Error::config(format!(
        "no failed clip of {} has `{wanted}` in its reason or as its stage; {}",
        root.uri(),
        list(reasons)
    )))
}

/// The reasons that there are, the most frequent ones first.
fn list(reasons: BTreeMap<(String, String), u64>) -> String {
    if reasons.is_empty() {
        return "none has failed at all".to_owned();
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, clips)| std::cmp::Reverse(*clips));
    let more = reasons.len().saturating_sub(NAMED);
    let lines = reasons.iter().take(NAMED).map(|((stage, why), clips)| format!("\n  {clips:>6}  {stage}: {why}"));
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!("these are the reasons, each with its number of clips:{}{more}", lines.collect::<String>())
}

fn has_failed(rows: &RecordBatch) -> Result<BooleanArray> {
    let clips = ClipBatch::new(rows.clone());
    let failed = Fate::failed("");
    Ok(clips.text(schema::FATE)?.iter().map(|fate| Some(fate == Some(failed.as_str()))).collect())
}

/// The manifest's rows of failed clips, as a unit of their own.
fn restrict(unit: &Unit, failed: &ClipBatch, entry: &ClipsEntry) -> Result<Again> {
    let manifest = ClipBatch::new(unit.rows()?);
    let (ids, uris) = (failed.text(schema::CLIP_ID)?, failed.text(schema::URI)?);
    let mut origins = Vec::with_capacity(failed.rows());
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for row in 0..failed.rows() {
        let (origin, span) = origin(&manifest, ids.value(row), uris.value(row), failed.span(row)?)?;
        origins.push(origin);
        starts.push(span.0);
        ends.push(span.1);
    }
    let rows = take_record_batch(manifest.batch(), &UInt32Array::from(origins))?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        (schema::CLIP_ID, Arc::new(ids.clone())),
        (schema::START_S, Arc::new(Float64Array::from(starts))),
        (schema::END_S, Arc::new(Float64Array::from(ends))),
    ];
    let rows = ClipBatch::new(rows).with_columns(&manifest.batch().schema(), columns)?;
    let mut hash = blake3::Hasher::new_derive_key("simdrop unit, clips of another tried again");
    hash.update(entry.blake3.as_bytes());
    ids.iter().flatten().for_each(|id| {
        hash.update(id.as_bytes());
    });
    let id = hash.finalize().to_hex()[..16].to_owned();
    let clips = ids.iter().flatten().map(str::to_owned).collect();
    Ok(Again { of: unit.id.clone(), unit: Unit::named(id, &rows), clips })
}

/// Start and end of a clip in seconds, where it has them.
type Span = (Option<f64>, Option<f64>);

/// The manifest's row that a clip came from, and the span that it enters the pipeline with: a row of the manifest its
/// own, a window the window's, which the split stage leaves as it is.
fn origin(manifest: &ClipBatch, id: &str, uri: &str, span: Span) -> Result<(u32, Span)> {
    let (ids, uris) = (manifest.text(schema::CLIP_ID)?, manifest.text(schema::URI)?);
    if let Some(row) = (0..manifest.rows()).find(|row| ids.value(*row) == id) {
        return Ok((row as u32, manifest.span(row)?));
    }
    let of_file: Vec<usize> = (0..manifest.rows()).filter(|row| uris.value(*row) == uri).collect();
    let is_parent = |row: &&usize| match span {
        (Some(start), Some(end)) => window_id(ids.value(**row), start, end) == id,
        _ => false,
    };
    let parent = of_file.iter().find(is_parent).or(of_file.first());
    let parent = parent.ok_or_else(|| Error::internal(format!("clip {id} is of {uri}, which its work unit lacks")))?;
    Ok((*parent as u32, span))
}
