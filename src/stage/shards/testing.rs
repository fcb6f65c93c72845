//! Helpers of tests: made-up clips, and datasets of them.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use bytesize::ByteSize;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

use super::config::{Cut, OutputSpec, Payload};
use super::{ShardTarget, ShardWriter};
use crate::dataset::{DATASET_FILE, Dataset, Receipt, seal};
use crate::schema;
use crate::spec::PipelineSpec;
use crate::sql::testing::empty;
use crate::stage::testing::context;
use crate::stage::{ClipBatch, StageTask};
use crate::storage::Storage;

pub(crate) fn config() -> OutputSpec {
    OutputSpec {
        path: String::new(),
        payload: vec![Payload::Source],
        cut: Cut::Encode,
        frames: vec![schema::FRAMES.to_owned()],
        max_samples: 10_000,
        max_bytes: ByteSize::gb(3),
        keep_dropped: false,
    }
}

/// A row: name of its file, size of that file, and its fate where it is settled.
#[derive(Debug, Clone)]
pub(crate) struct Row(pub(crate) String, pub(crate) usize, pub(crate) Option<&'static str>);

pub(crate) fn row(name: &str, size: usize, fate: Option<&'static str>) -> Row {
    Row(name.to_owned(), size, fate)
}

/// Writes the files of the rows into `folder`, and makes their batch.
pub(crate) fn batch(folder: &Path, rows: &[Row]) -> ClipBatch {
    let text = |texts: Vec<Option<String>>| Arc::new(StringArray::from(texts)) as ArrayRef;
    let each = |make: &dyn Fn(&Row) -> Option<String>| text(rows.iter().map(make).collect());
    for Row(name, size, _) in rows {
        std::fs::write(folder.join(format!("{name}.mp4")), vec![name.as_bytes()[0]; *size]).unwrap();
    }
    let sizes = Int64Array::from_iter_values(rows.iter().map(|Row(_, size, _)| *size as i64));
    let uri = |Row(name, ..): &Row| Some(folder.join(format!("{name}.mp4")).display().to_string());
    let schema = schema::with_fields(
        &schema::clip_schema(),
        [arrow::datatypes::Field::new("score", arrow::datatypes::DataType::Float64, true)],
    );
    let empty = RecordBatch::try_new_with_options(
        Arc::new(arrow::datatypes::Schema::empty()),
        Vec::new(),
        &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.len())),
    )
    .unwrap();
    ClipBatch::new(empty)
        .with_columns(
            &schema,
            vec![
                (schema::UNIT, each(&|_| Some("unit".to_owned()))),
                (schema::CLIP_ID, each(&|Row(name, ..)| Some(format!("id-{name}")))),
                (schema::URI, each(&uri)),
                (schema::SOURCE, each(&|_| Some("real".to_owned()))),
                (schema::DATASET, each(&|_| Some("test".to_owned()))),
                (schema::SIZE_BYTES, Arc::new(sizes)),
                (schema::CAPTION, each(&|Row(name, ..)| Some(format!("a clip of {name}")))),
                (schema::FATE, each(&|Row(_, _, fate)| fate.map(str::to_owned))),
                (schema::FATE_STAGE, each(&|Row(_, _, fate)| fate.map(|_| "earlier".to_owned()))),
                ("score", Arc::new(Float64Array::from_iter_values(rows.iter().map(|_| 0.5)))),
            ],
        )
        .unwrap()
}

/// A folder of clips, and a folder of a dataset.
pub(crate) struct Folders {
    pub(crate) clips: TempDir,
    pub(crate) dataset: TempDir,
}

impl Folders {
    pub(crate) fn new() -> Self {
        Self { clips: tempfile::tempdir().unwrap(), dataset: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn writer(&self, config: OutputSpec, schema: SchemaRef) -> ShardWriter {
        let root = Storage::default().locate(&self.dataset.path().display().to_string()).unwrap();
        let target = ShardTarget { root, name: "test".to_owned(), unit: "unit".to_owned(), config, schema };
        ShardWriter::open(context(), target).unwrap()
    }

    /// Writes `clips`, a call each, to the end.
    pub(crate) async fn write(&self, config: OutputSpec, clips: Vec<ClipBatch>) -> Receipt {
        let mut writer = self.writer(config, clips[0].batch().schema());
        let task = StageTask::alone(context());
        for clips in clips {
            writer.write(clips, &task).await.unwrap();
        }
        writer.finish().await.unwrap()
    }

    /// Makes what a unit left behind the dataset.
    pub(crate) fn commit(&self, output: OutputSpec, receipt: Receipt) -> Dataset {
        let blank = empty();
        let Receipt { unit: _, shards, dropped_shards, clips, counts, measured: _ } = receipt;
        let pipeline = PipelineSpec { output, ..blank.pipeline.clone() };
        let dataset = Dataset { pipeline, counts, shards, dropped_shards, clips: vec![clips], ..blank };
        self.write_dataset(dataset)
    }

    /// Writes `dataset.json`, sealed.
    pub(crate) fn write_dataset(&self, dataset: Dataset) -> Dataset {
        let (dataset, bytes) = seal::seal(dataset).unwrap();
        std::fs::write(self.dataset.path().join(DATASET_FILE), bytes).unwrap();
        dataset
    }

    pub(crate) fn batch(&self, rows: &[Row]) -> ClipBatch {
        batch(self.clips.path(), rows)
    }

    pub(crate) fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.dataset.path().join(path)).unwrap()
    }

    /// Names and sizes of a shard's members.
    pub(crate) fn members(&self, shard: &str) -> Vec<(String, usize)> {
        let bytes = self.read(shard);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let member = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            (entry.path().unwrap().display().to_string(), data.len())
        };
        archive.entries().unwrap().map(member).collect()
    }

    pub(crate) fn videos(&self, shard: &str) -> Vec<String> {
        let names = self.members(shard).into_iter().map(|(name, _)| name);
        names.filter_map(|name| name.strip_suffix(".mp4").map(str::to_owned)).collect()
    }

    pub(crate) fn table(&self, receipt: &Receipt) -> ClipBatch {
        let bytes = bytes::Bytes::from(self.read(&receipt.clips.path));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        ClipBatch::new(arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap())
    }

    /// Files below the dataset, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.dataset.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.dataset.path()).unwrap().display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

pub(crate) fn texts(clips: &ClipBatch, column: &str) -> Vec<String> {
    clips.text(column).unwrap().iter().map(|text| text.unwrap_or("-").to_owned()).collect()
}
