//! The manifest: which clips there are, cut into work units.
//!
//! Enters: the sources of a pipeline. Leaves: units, each a few rows of the fixed columns and of the columns that the
//! user's lists bring. Listing is repeatable: the same files give the same units and clip ids on any machine, and a
//! new file leaves most units as they were.

pub mod list;
mod remote;
pub mod walk;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayBuilder, ArrayRef, Float64Array, Int64Builder, RecordBatch, StringArray, StringBuilder, UInt32Array,
};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::render::spec::ScenesSpec;
use crate::spec::{self, PipelineSpec, SourceSpec};
use crate::stage::caption::config::CaptionOrigin;
use crate::stage::{ClipBatch, Fate, StageSpec, caption};
use crate::storage::{self, Storage};
use crate::{render, schema};

/// Name that rows settled by the manifest carry as their stage.
pub const STAGE: &str = "manifest";
/// Digits of a clip id.
const ID_DIGITS: usize = 32;

/// All clips of a pipeline, in units.
#[derive(Debug)]
pub struct Manifest {
    /// Columns of every unit.
    pub schema: SchemaRef,
    /// The units, in the order of their rows.
    pub units: Vec<Unit>,
}

/// A piece of work: a few clips that are done together or not at all.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Hash of the pipeline's fingerprint and of the rows, versions of the files included: it names everything that
    /// the unit leaves behind, and a file that has changed makes another unit.
    pub id: String,
    /// The columns that sources fill, of all units: a manifest may hold millions of clips, and most columns are null in it.
    table: Arc<RecordBatch>,
    /// Its part of the table.
    range: Range<usize>,
    /// All columns.
    schema: SchemaRef,
}

impl Manifest {
    /// Lists the sources and cuts them into units; blocking.
    pub fn list(spec: &PipelineSpec, fingerprint: &str, storage: &Storage) -> Result<Self> {
        let batches = spec
            .sources
            .iter()
            .enumerate()
            .map(|(number, source)| list_source(number, source, storage).map_err(|error| error.at_source(number)))
            .collect::<Result<Vec<_>>>()?;
        let schema = union(&batches)?;
        let rows = identify(sort(join(&schema, batches)?)?, &schema)?;
        let versions = versions(&rows, &companions(spec), storage)?;
        let units = cut(rows, &schema, fingerprint, spec.run.clips_per_unit, &versions)?;
        Ok(Self { schema, units })
    }

    /// What is wrong with each source that cannot be listed; blocking.
    pub fn problems(spec: &PipelineSpec, storage: &Storage) -> Vec<Error> {
        let list = |(number, source)| list_source(number, source, storage).err().map(|error| error.at_source(number));
        spec.sources.iter().enumerate().filter_map(list).collect()
    }

    /// Number of rows.
    pub fn clips(&self) -> usize {
        self.units.iter().map(Unit::clips).sum()
    }
}

/// The rows of one source.
fn list_source(number: usize, source: &SourceSpec, storage: &Storage) -> Result<RecordBatch> {
    match (&source.path, &source.list, &source.render) {
        (Some(path), None, None) => walk::rows(path, source, storage),
        (None, Some(list), None) => list::rows(list, source, storage),
        (None, None, Some(scenes)) => list::rows(&rendered(scenes, storage)?, source, storage),
        _ => Err(Error::config(format!("sources[{number}]: give one of path, list and render"))),
    }
}

/// The list of clips that a file of scenes was rendered to.
fn rendered(scenes: &str, storage: &Storage) -> Result<String> {
    let spec = scenes_of(scenes)?;
    let list = format!("{}/{}", spec.output.path.trim_end_matches('/'), render::list::file_name(&spec));
    let exists = match storage::is_remote(&list) {
        true => remote::exists(&list, storage)?,
        false => std::path::Path::new(&list).exists(),
    };
    if !exists {
        return Err(Error::config(format!(
            "the scenes of {scenes} are not rendered: there is no {list}; simdrop run renders them, and so does \
             `simdrop render {scenes}`"
        )));
    }
    Ok(list)
}

/// The file of scenes of a source.
pub fn scenes_of(path: &str) -> Result<ScenesSpec> {
    let loaded = spec::load(std::path::Path::new(path), &[], &|name| std::env::var(name).ok())?;
    Ok(loaded.spec)
}

/// The columns of all sources together; a name with two types is a mistake.
fn union(batches: &[RecordBatch]) -> Result<SchemaRef> {
    let mut all: Vec<Arc<Field>> = schema::clip_schema().fields().iter().map(Arc::clone).collect();
    for field in batches.iter().flat_map(|batch| batch.schema().fields().iter().map(Arc::clone).collect::<Vec<_>>()) {
        match all.iter().find(|have| have.name() == field.name()) {
            None => all.push(Arc::new(field.as_ref().clone().with_nullable(true))),
            Some(have) if have.data_type() == field.data_type() => {}
            Some(have) => {
                return Err(Error::config(format!(
                    "column {} is {} in one list and {} in another: rename it in one of them",
                    field.name(),
                    have.data_type(),
                    field.data_type()
                )));
            }
        }
    }
    Ok(Arc::new(Schema::new(all)))
}

/// The rows of all sources one after another, with the columns of `schema` that any of them has.
fn join(schema: &SchemaRef, mut batches: Vec<RecordBatch>) -> Result<RecordBatch> {
    if batches.len() == 1 {
        return Ok(batches.remove(0));
    }
    let is_there = |name: &str| batches.iter().any(|batch| batch.column_by_name(name).is_some());
    let fields = schema.fields().iter().filter(|field| is_there(field.name())).map(Arc::clone);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let padded = batches
        .into_iter()
        .map(|batch| Ok(ClipBatch::new(batch).with_columns(&schema, Vec::new())?.into_batch()))
        .collect::<Result<Vec<_>>>()?;
    Ok(concat_batches(&schema, &padded)?)
}

/// The rows in the order of their URIs and spans; listings mostly come so, and are then as they were.
fn sort(rows: RecordBatch) -> Result<RecordBatch> {
    let clips = ClipBatch::new(rows);
    let uris = clips.text(schema::URI)?;
    if (1..clips.rows()).all(|row| uris.value(row - 1) < uris.value(row)) {
        return Ok(clips.into_batch());
    }
    let columns = [schema::URI, schema::START_S, schema::END_S]
        .into_iter()
        .map(|name| Ok(SortColumn { values: Arc::clone(clips.column(name)?), options: None }))
        .collect::<Result<Vec<_>>>()?;
    // Rows that are equal so far stay in the order of the sources, which the last column says.
    let order: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..clips.rows() as u32));
    let columns = [columns, vec![SortColumn { values: order, options: None }]].concat();
    Ok(take_record_batch(clips.batch(), &lexsort_to_indices(&columns, None)?)?)
}

/// Gives every row its clip id; of sorted rows one that names the same span of the same file again is dropped.
fn identify(rows: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let clips = ClipBatch::new(rows);
    let (uris, sizes) = (clips.text(schema::URI)?, clips.long(schema::SIZE_BYTES)?);
    let mut ids = StringBuilder::with_capacity(clips.rows(), clips.rows() * ID_DIGITS);
    let mut settled = Vec::new();
    let (mut last, mut times) = (None, 0);
    for row in 0..clips.rows() {
        let (start, end) = clips.span(row)?;
        let bits = |value: Option<f64>| value.map_or(u64::MAX, f64::to_bits);
        let now = Some((uris.value(row), bits(start), bits(end)));
        times = if last == now { times + 1 } else { 0 };
        last = now;
        let size = sizes.is_valid(row).then(|| sizes.value(row));
        ids.append_value(clip_id(uris.value(row), size, (start, end), times));
        let (from, to) = (start.unwrap_or(0.0), end.unwrap_or(f64::INFINITY));
        // Of numbers that are none, too.
        let is_span = from >= 0.0 && from < to;
        if times > 0 {
            settled.push((row, Fate::dropped("the same clip is listed twice", None)));
        } else if !is_span {
            settled.push((row, Fate::failed(format!("from {from} s to {to} s is no span of a video"))));
        }
    }
    let named = schema::with_fields(&clips.batch().schema(), [Field::new(schema::CLIP_ID, DataType::Utf8, false)]);
    let named = clips.with_columns(&named, vec![(schema::CLIP_ID, Arc::new(ids.finish()) as ArrayRef)])?;
    if settled.is_empty() {
        return Ok(named.into_batch());
    }
    let mut fates = vec![None; named.rows()];
    for (row, fate) in settled {
        fates[row] = Some(fate);
    }
    let unit: ArrayRef = Arc::new(StringArray::new_repeated("", named.rows()));
    Ok(named.with_columns(schema, vec![(schema::UNIT, unit)])?.settle(STAGE, &fates)?.into_batch())
}

/// Identity of a clip: 32 hexadecimal digits of a BLAKE3 hash of the URI, the file's size, the span in seconds, and
/// how often the same was listed before.
pub fn clip_id(uri: &str, size: Option<i64>, span: (Option<f64>, Option<f64>), times: u32) -> String {
    let mut hash = blake3::Hasher::new();
    hash.update(uri.as_bytes()).update(&[0]).update(&size.unwrap_or(-1).to_le_bytes());
    for end in [span.0, span.1] {
        hash.update(&end.unwrap_or(f64::NAN).to_bits().to_le_bytes());
    }
    hash.update(&times.to_le_bytes());
    hash.finalize().to_hex()[..ID_DIGITS].to_owned()
}

/// Cuts rows into units of `largest` on average: where the hash of a clip id says so once half of that is reached, at
/// twice of it at the latest. A new clip therefore moves the borders of its own unit only, or of few after it. The
/// first units are smaller, so that the first shards are there soon.
fn cut(
    rows: RecordBatch,
    schema: &SchemaRef,
    fingerprint: &str,
    largest: usize,
    versions: &[String],
) -> Result<Vec<Unit>> {
    let clips = ClipBatch::new(rows);
    let ids = clips.text(schema::CLIP_ID)?;
    let table = Arc::new(clips.batch().clone());
    let mut units = Vec::new();
    let mut from = 0;
    for row in 0..clips.rows() {
        let target = largest.min(2 << (units.len() / 2).min(16));
        let (least, most) = (target.div_ceil(2), target * 2);
        let length = row + 1 - from;
        let digits = u64::from_str_radix(&ids.value(row)[..16], 16).map_err(Error::internal)?;
        let border = length >= least && digits.is_multiple_of((target - least + 1) as u64);
        if border || length == most || row + 1 == clips.rows() {
            let range = from..from + length;
            let versions = versions.get(range.clone()).unwrap_or_default();
            let unit = Unit { id: String::new(), table: Arc::clone(&table), range, schema: Arc::clone(schema) };
            units.push(unit.hashed(fingerprint, versions)?);
            from = row + 1;
        }
    }
    Ok(units)
}

/// Extensions of the files beside the clips that stages read.
fn companions(spec: &PipelineSpec) -> Vec<String> {
    let captions = spec.stages.iter().filter_map(|stage| match stage {
        StageSpec::Caption(config) => Some(&config.from),
        _ => None,
    });
    let extension = |origin: &CaptionOrigin| match origin {
        CaptionOrigin::Sidecar(sidecar) => Some(sidecar.extension.clone()),
        CaptionOrigin::Compositional(_) => Some(caption::SCENE.to_owned()),
        CaptionOrigin::Column(_) | CaptionOrigin::Template(_) => None,
    };
    captions.flatten().filter_map(extension).collect()
}

/// Versions of the files beside the clips of `rows`, a text a row: a file that comes, goes or changes makes another unit.
/// Nothing where no stage reads such files.
fn versions(rows: &RecordBatch, companions: &[String], storage: &Storage) -> Result<Vec<String>> {
    if companions.is_empty() {
        return Ok(Vec::new());
    }
    let clips = ClipBatch::new(rows.clone());
    let uris = clips.text(schema::URI)?;
    let beside = |uri| companions.iter().map(move |extension| caption::beside(uri, extension));
    let files: Vec<String> = uris.iter().flatten().flat_map(beside).collect();
    let found = walk::stats(&files, storage)?.etags.finish();
    let of = |row: usize| row * companions.len()..(row + 1) * companions.len();
    let version = |file: usize| found.is_valid(file).then(|| found.value(file));
    Ok((0..rows.num_rows()).map(|row| of(row).filter_map(version).collect()).collect())
}

impl Unit {
    /// These rows under a name.
    pub(crate) fn named(id: String, clips: &ClipBatch) -> Self {
        let table = Arc::new(clips.batch().clone());
        Self { id, range: 0..clips.rows(), schema: table.schema(), table }
    }

    /// The same, named after the pipeline, its rows and the versions of the files beside them.
    fn hashed(mut self, fingerprint: &str, versions: &[String]) -> Result<Self> {
        let mut hash = blake3::Hasher::new();
        hash.update(fingerprint.as_bytes());
        let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
        writer.write(&self.rows()?)?;
        writer.finish()?;
        hash.update(&writer.into_inner());
        for version in versions {
            hash.update(version.as_bytes());
        }
        hash.finalize().to_hex()[..16].clone_into(&mut self.id);
        Ok(self)
    }

    /// Number of rows.
    pub fn clips(&self) -> usize {
        self.range.len()
    }

    /// The rows, with all columns.
    pub fn rows(&self) -> Result<RecordBatch> {
        let clips = ClipBatch::new(self.table.slice(self.range.start, self.range.len()));
        let unit: ArrayRef = Arc::new(StringArray::new_repeated(&self.id, clips.rows()));
        Ok(clips.with_columns(&self.schema, vec![(schema::UNIT, unit)])?.into_batch())
    }
}

/// One listed file, before it has an id.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    uri: String,
    size: Option<i64>,
    etag: Option<String>,
}

/// Listed files, in order. A bucket may have millions: they go into the columns as they come.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    uris: StringBuilder,
    sizes: Int64Builder,
    etags: StringBuilder,
}

impl Extend<Listed> for Listing {
    fn extend<T: IntoIterator<Item = Listed>>(&mut self, files: T) {
        for file in files {
            self.uris.append_value(&file.uri);
            self.sizes.append_option(file.size);
            self.etags.append_option(file.etag.as_deref());
        }
    }
}

impl Listing {
    fn len(&self) -> usize {
        self.sizes.len()
    }
}

/// The columns of listed files that their source fills, with `columns` of a list in place.
pub(crate) fn fixed_rows(
    mut files: Listing,
    source: &SourceSpec,
    dataset: &str,
    columns: Vec<(Field, ArrayRef)>,
) -> Result<RecordBatch> {
    let rows = files.len();
    let same = |text: &str| -> ArrayRef { Arc::new(StringArray::new_repeated(text, rows)) };
    let none: ArrayRef = Arc::new(Float64Array::new_null(rows));
    let mut given: Vec<(&str, ArrayRef)> = vec![
        (schema::URI, Arc::new(files.uris.finish())),
        (schema::SIZE_BYTES, Arc::new(files.sizes.finish())),
        (schema::ETAG, Arc::new(files.etags.finish())),
        (schema::SOURCE, same(source.kind.as_str())),
    ];
    let defaults = [
        (schema::DATASET, Some(dataset)),
        (schema::LICENCE, source.licence.as_deref()),
        (schema::GENERATOR, source.generator.as_deref()),
    ];
    for (name, text) in defaults {
        let own = columns.iter().find(|(field, _)| field.name() == name).map(|(_, own)| own);
        let column = match (own, text.map(same)) {
            (Some(own), Some(fallback)) => {
                arrow::compute::kernels::zip::zip(&arrow::compute::is_not_null(own)?, own, &fallback)?
            }
            (None, Some(fallback)) => fallback,
            // What the list has of it, below.
            (_, None) => continue,
        };
        given.push((name, column));
    }
    let own = columns.iter().map(|(field, array)| (field.name().as_str(), Arc::clone(array)));
    let own: Vec<(&str, ArrayRef)> = own.filter(|(name, _)| given.iter().all(|(have, _)| have != name)).collect();
    let spans = [(schema::START_S, Arc::clone(&none)), (schema::END_S, none)];
    let spans = spans.into_iter().filter(|(name, _)| own.iter().all(|(have, _)| have != name)).collect();
    let columns_there = [given, own, spans].concat();
    let base = schema::clip_schema();
    let is_there = |field: &Field| columns_there.iter().any(|(name, _)| name == field.name());
    let fixed = base.fields().iter().filter(|field| is_there(field)).map(Arc::clone).collect::<Vec<_>>();
    let extra =
        columns.iter().map(|(field, _)| field.clone()).filter(|field| base.field_with_name(field.name()).is_err());
    let wanted = schema::with_fields(&Schema::new(fixed), extra);
    let empty = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows)),
    )?;
    Ok(ClipBatch::new(empty).with_columns(&wanted, columns_there)?.into_batch())
}

/// Seconds are finite, not negative, and an end comes after its start; other spans fail their row.
pub fn check_spans(clips: &ClipBatch) -> Result<Vec<Option<Fate>>> {
    let text = |value: Option<f64>| value.map_or_else(|| "open".to_owned(), |value| value.to_string());
    let of = |array: &Float64Array, row: usize| array.iter().nth(row).flatten();
    (0..clips.rows())
        .map(|row| {
            let (start, end) = (of(clips.real(schema::START_S)?, row), of(clips.real(schema::END_S)?, row));
            let good = start.is_none_or(|start| start.is_finite() && start >= 0.0)
                && end.is_none_or(|end| end.is_finite() && end > start.unwrap_or(0.0));
            Ok((!good).then(|| Fate::failed(format!("the span {} to {} s is none", text(start), text(end)))))
        })
        .collect()
}

#[cfg(test)]
mod tests;
