//! One metadata file: its bytes, and what each of its rows says.

use std::collections::{HashMap, HashSet};

use arrow::array::Array;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::report::{Findings, Remedy};
use super::{Audit, fates};
use crate::dataset::{ClipsEntry, Counts, Dataset};
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::shards::count;
use crate::stage::{ClipBatch, Fate};

/// Columns that are looked at.
const COLUMNS: &[&str] =
    &[schema::CLIP_ID, schema::URI, schema::FATE, schema::SHARD, schema::KEY, schema::OFFSET, schema::SIZE];

/// Where a row says that its sample lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: Box<str>,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What the rows of a file say.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The clip of each row.
    pub(super) ids: Vec<Box<str>>,
    /// Samples by shard.
    pub(super) places: HashMap<String, Vec<Place>>,
}

/// A metadata file, looked at.
#[derive(Debug)]
pub(super) struct FileRows {
    pub(super) findings: Findings,
    /// None where the file cannot be read.
    pub(super) rows: Option<Rows>,
    pub(super) counts: Counts,
}

/// Paths of the shards that a dataset lists.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    kept: HashSet<String>,
    dropped: HashSet<String>,
}

impl From<&Dataset> for Listed {
    fn from(dataset: &Dataset) -> Self {
        let paths = |shards: &[crate::dataset::ShardEntry]| shards.iter().map(|shard| shard.path.clone()).collect();
        Self { kept: paths(&dataset.shards), dropped: paths(&dataset.dropped_shards) }
    }
}

/// Looks at a metadata file. It is held whole: it has one row a clip of a work unit.
pub(super) async fn check(audit: &Audit<'_>, entry: &ClipsEntry, shards: &Listed) -> Result<FileRows> {
    let unread = |findings| FileRows { findings, rows: None, counts: Counts::default() };
    let path = &entry.path;
    if !audit.there.contains_key(path) {
        let clips = entry.rows;
        return Ok(unread(Findings::missing(path, format!("the file is gone, rows in it: {clips}"))));
    }
    let bytes = match audit.root.join(path).read().await {
        Ok(bytes) => bytes,
        Err(error) => return Ok(unread(Findings::missing(path, format!("it cannot be read: {error}")))),
    };
    audit.read(bytes.len() as u64);
    let (entry, shards) = (entry.clone(), shards.clone());
    match audit.cpu.run(move || look(&bytes, &entry, &shards)).await {
        Ok((file, _)) => Ok(file),
        // A panic of the decoder over damaged bytes is one more way to say that they are damaged.
        Err(error) => {
            let mut findings = Findings::new(path, Remedy::Anew);
            findings.add(format!("it is no table that can be read: {error}"));
            Ok(unread(findings))
        }
    }
}

fn look(bytes: &Bytes, entry: &ClipsEntry, shards: &Listed) -> FileRows {
    let mut findings = Findings::new(&entry.path, Remedy::Anew);
    findings.bytes(bytes.len() as u64, entry.bytes);
    findings.checksum(&blake3::hash(bytes), &entry.blake3);
    let (mut rows, mut counts) = (Rows::default(), Counts::default());
    if let Err(error) = read(bytes, shards, &mut findings, &mut rows, &mut counts) {
        findings.add(format!("it is no table that can be read: {error}"));
        return FileRows { findings, rows: None, counts };
    }
    if let Some(listed) = entry.counts.filter(|listed| *listed != counts) {
        findings.add(format!("it has {}, dataset.json says {}", fates(counts), fates(listed)));
    } else if counts.clips != entry.rows {
        findings.add(format!("it has {}, dataset.json says {} rows", fates(counts), entry.rows));
    }
    FileRows { findings, rows: Some(rows), counts }
}

fn read(bytes: &Bytes, shards: &Listed, findings: &mut Findings, rows: &mut Rows, counts: &mut Counts) -> Result<()> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?;
    if let Some(missing) = COLUMNS.iter().find(|name| builder.schema().field_with_name(name).is_err()) {
        return Err(Error::State(format!("column {missing} is missing")));
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS.iter().copied());
    for batch in builder.with_projection(mask).with_batch_size(8192).build()? {
        let clips = ClipBatch::new(batch?);
        look_at_rows(&clips, counts.clips, shards, findings, rows)?;
        counts.add(count(&clips)?);
    }
    Ok(())
}

/// Checks each row for itself; `before` is the number of rows in front of these.
fn look_at_rows(
    clips: &ClipBatch,
    before: u64,
    shards: &Listed,
    findings: &mut Findings,
    rows: &mut Rows,
) -> Result<()> {
    let (ids, uris, fates) = (clips.text(schema::CLIP_ID)?, clips.text(schema::URI)?, clips.text(schema::FATE)?);
    let (at, keys) = (clips.text(schema::SHARD)?, clips.text(schema::KEY)?);
    let (offsets, sizes) = (clips.long(schema::OFFSET)?, clips.long(schema::SIZE)?);
    for row in 0..clips.rows() {
        let id = ids.value(row);
        let mut tell = |problem: String| {
            findings.row(before + row as u64 + 1, Some(id), format!("{problem} ({})", uris.value(row)));
        };
        rows.ids.push(id.into());
        let fate = if fates.is_valid(row) { fates.value(row) } else { "" };
        let place = [at.is_valid(row), keys.is_valid(row), offsets.is_valid(row), sizes.is_valid(row)];
        let has_place = place == [true; 4];
        if !has_place && place != [false; 4] {
            tell("it says only in part where its sample lies".to_owned());
            continue;
        }
        let allowed = match fate {
            fate if fate == Fate::Kept.as_str() => &shards.kept,
            "dropped" => &shards.dropped,
            "failed" => {
                if has_place {
                    tell(format!("it has failed, and yet has a sample in {}", at.value(row)));
                }
                continue;
            }
            other => {
                tell(format!("its fate is {other:?}; there are kept, dropped and failed"));
                continue;
            }
        };
        if !has_place {
            if fate == Fate::Kept.as_str() {
                tell("it was kept, and has no sample in any shard".to_owned());
            }
            continue;
        }
        let (shard, key) = (at.value(row), keys.value(row));
        if !allowed.contains(shard) {
            tell(format!("it was {fate}, and its sample lies in {shard}, which dataset.json does not list for such"));
        } else if key != id {
            tell(format!("its sample has another key, {key}"));
        }
        let (offset, size) = (u64::try_from(offsets.value(row)), u64::try_from(sizes.value(row)));
        match (offset, size) {
            (Ok(offset), Ok(size)) => {
                rows.places.entry(shard.to_owned()).or_default().push(Place { key: key.into(), offset, size });
            }
            _ => tell(format!("{} bytes from byte {} are no place in a shard", sizes.value(row), offsets.value(row))),
        }
    }
    Ok(())
}

impl Findings {
    /// Compares the size of a file with the listed one.
    pub(super) fn bytes(&mut self, there: u64, listed: u64) {
        if there != listed {
            self.add(format!("it has {there} bytes, dataset.json says {listed}"));
        }
    }

    /// Compares the checksum of a file with the listed one.
    pub(super) fn checksum(&mut self, there: &blake3::Hash, listed: &str) {
        if there.to_hex().as_str() != listed {
            let short = |sum: &str| sum.chars().take(16).collect::<String>();
            self.add(format!(
                "its bytes are not those that were written: their BLAKE3 is {}…, dataset.json says {}…",
                short(there.to_hex().as_str()),
                short(listed)
            ));
        }
    }
}
