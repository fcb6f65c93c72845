//! The input of a benchmark: the clips of a pipeline's sources, again and again under other names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;

use crate::error::{Error, Result};
use crate::manifest::{Manifest, Unit};
use crate::schema;
use crate::spec::{PipelineSpec, SourceKind, SourceSpec};
use crate::stage::ClipBatch;
use crate::storage::Storage;

/// The pipeline over `clips` clips in `folder`, writing there as well, and the files of the clips.
pub fn repeat(spec: &PipelineSpec, clips: usize, folder: &Path) -> Result<(PipelineSpec, Vec<PathBuf>)> {
    let manifest = Manifest::list(spec, "bench", &Storage::new(&spec.storage))?;
    let units = manifest.units.iter().map(Unit::rows).collect::<Result<Vec<_>>>()?;
    let rows = concat_batches(&manifest.schema, &units)?;
    let order = UInt32Array::from_iter_values((0..clips as u32).map(|number| number % rows.num_rows() as u32));
    let rows = ClipBatch::new(take_record_batch(&rows, &order)?);
    let links = folder.join("clips");
    std::fs::create_dir_all(&links).map_err(Error::io("create", &links))?;
    let (uris, kinds) = (rows.text(schema::URI)?, rows.text(schema::SOURCE)?);
    let files = (0..rows.rows()).map(|row| link(uris.value(row), &links, row)).collect::<Result<Vec<_>>>()?;
    let mut sources = Vec::new();
    for kind in [SourceKind::Real, SourceKind::Synthetic] {
        let chosen: Vec<u32> =
            (0..rows.rows()).filter(|row| kinds.value(*row) == kind.as_str()).map(|row| row as u32).collect();
        if chosen.is_empty() {
            continue;
        }
        let names = StringArray::from_iter_values(files.iter().map(|file| file.display().to_string()));
        let named = with_uris(rows.batch(), Arc::new(names))?;
        let list = folder.join(format!("{}.parquet", kind.as_str()));
        write(&list, &take_record_batch(&named, &UInt32Array::from(chosen))?)?;
        sources.push(SourceSpec {
            path: None,
            list: Some(list.display().to_string()),
            render: None,
            kind,
            dataset: None,
            licence: None,
            generator: None,
        });
    }
    let mut spec = spec.clone();
    spec.sources = sources;
    spec.output.path = folder.join("dataset").display().to_string();
    Ok((spec, files))
}

fn link(uri: &str, folder: &Path, number: usize) -> Result<PathBuf> {
    let target = std::path::absolute(uri).map_err(Error::io("resolve", uri))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let link = folder.join(format!("{number:06}-{name}"));
    std::os::unix::fs::symlink(&target, &link).map_err(Error::io("link", &link))?;
    Ok(link)
}

/// What a list may say of a clip: everything but what the manifest works out by itself.
fn with_uris(rows: &RecordBatch, uris: ArrayRef) -> Result<RecordBatch> {
    let fixed = schema::clip_schema();
    let kept = [schema::START_S, schema::END_S, schema::DATASET, schema::LICENCE, schema::GENERATOR, schema::CAPTION];
    let schema = rows.schema();
    let comes_along = |name: &str| kept.contains(&name) || fixed.field_with_name(name).is_err();
    let own: Vec<usize> = (0..schema.fields().len()).filter(|at| comes_along(schema.field(*at).name())).collect();
    let rest = rows.project(&own)?;
    let named = std::iter::once((schema::URI.to_owned(), uris, false));
    let others = rest.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    let others = others.into_iter().zip(rest.columns().iter().map(Arc::clone)).map(|(name, array)| (name, array, true));
    Ok(RecordBatch::try_from_iter_with_nullable(named.chain(others))?)
}

fn write(path: &Path, rows: &RecordBatch) -> Result<()> {
    let file = std::fs::File::create(path).map_err(Error::io("create", path))?;
    let mut writer = ArrowWriter::try_new(file, rows.schema(), None)?;
    writer.write(rows)?;
    writer.close()?;
    Ok(())
}
