//! A small committed dataset for tests.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::Field;
use parquet::arrow::ArrowWriter;
use serde_json::json;

use crate::dataset::{CLIPS, ClipsEntry, Counts, DATASET_FILE, Dataset, FORMAT, RunEntry, ShardEntry, StageRun};
use crate::schema;
use crate::stage::ClipBatch;

/// One clip of the test dataset.
struct Row {
    uri: &'static str,
    source: &'static str,
    fate: [Option<&'static str>; 3],
    value: Option<f64>,
    scores: Option<(f64, f64)>,
}

fn rows() -> Vec<Row> {
    let row = |uri, source, scores| Row { uri, source, fate: [Some("kept"), None, None], value: None, scores };
    let settled =
        |row: Row, fate, stage, reason, value| Row { fate: [Some(fate), Some(stage), Some(reason)], value, ..row };
    vec![
        row("real/a.mp4", "real", Some((-0.02, -0.3))),
        row("real/b.mp4", "real", Some((0.2, -0.1))),
        row("real/b-copy.mp4", "real", Some((0.2, -0.1))),
        settled(row("real/short.mp4", "real", None), "dropped", "too-short", "too-short", Some(0.4)),
        row("synthetic/a.mp4", "synthetic", Some((0.05, 0.4))),
        settled(
            row("synthetic/flicker.mp4", "synthetic", Some((0.31, 0.5))),
            "dropped",
            "simdrop",
            "simdrop_score above 0.12",
            Some(0.31),
        ),
        settled(row("synthetic/broken.mp4", "synthetic", None), "failed", "decode", "the file ends early", None),
    ]
}

fn batch(rows: &[Row]) -> RecordBatch {
    let text = |value: &dyn Fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let real = |value: &dyn Fn(&Row) -> Option<f64>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<Float64Array>())
    };
    let mut tags = ListBuilder::new(StringBuilder::new());
    rows.iter().for_each(|row| tags.append_value([Some("dog"), Some(row.source)]));
    // Two files are of the same size.
    let size = |row: &Row| if row.uri.starts_with("real/b") { 1000 } else { row.uri.len() as i64 };
    let kept = |row: &Row| row.fate[0] == Some("kept");
    let columns = vec![
        (schema::UNIT, text(&|row| Some(format!("u-{}", row.source)))),
        (schema::CLIP_ID, text(&|row| Some(format!("id-{}", row.uri)))),
        (schema::URI, text(&|row| Some(row.uri.to_owned()))),
        (schema::SOURCE, text(&|row| Some(row.source.to_owned()))),
        (schema::DATASET, text(&|row| Some(format!("{}-clips", row.source)))),
        (schema::TAGS, Arc::new(tags.finish()) as ArrayRef),
        (schema::SIZE_BYTES, Arc::new(Int64Array::from_iter_values(rows.iter().map(size)))),
        (schema::DURATION_S, real(&|_| Some(2.0))),
        (schema::CAPTION, text(&|row| kept(row).then(|| format!("a \"clip\", {}", row.uri)))),
        (schema::CAPTION_SOURCE, text(&|row| kept(row).then(|| "template".to_owned()))),
        (schema::FATE, text(&|row| row.fate[0].map(str::to_owned))),
        (schema::FATE_STAGE, text(&|row| row.fate[1].map(str::to_owned))),
        (schema::FATE_REASON, text(&|row| row.fate[2].map(str::to_owned))),
        (schema::FATE_VALUE, real(&|row| row.value)),
        (schema::SHARD, text(&|row| kept(row).then(|| format!("shards/test-{}.tar", row.source)))),
        ("simdrop_score", real(&|row| row.scores.map(|scores| scores.0))),
        ("domain_score", real(&|row| row.scores.map(|scores| scores.1))),
    ];
    let new = |name: &&(&str, ArrayRef)| schema::clip_schema().index_of(name.0).is_err();
    let added = columns.iter().filter(new).map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let all = schema::with_fields(&schema::clip_schema(), added.collect::<Vec<_>>());
    let bare = RecordBatch::try_from_iter([(schema::UNIT, Arc::clone(&columns[0].1))]).unwrap();
    ClipBatch::new(bare).with_columns(&all, columns).unwrap().into_batch()
}

/// Writes metadata under the name of a work unit.
pub(crate) fn write_clips(folder: &Path, unit: &str, batch: &RecordBatch) -> ClipsEntry {
    let path = format!("{CLIPS}/{unit}.parquet");
    std::fs::create_dir_all(folder.join(CLIPS)).unwrap();
    let file = std::fs::File::create(folder.join(&path)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    let bytes = std::fs::metadata(folder.join(&path)).unwrap().len();
    let rows = batch.num_rows() as u64;
    ClipsEntry { path, unit: unit.to_owned(), rows, counts: None, bytes, blake3: String::new() }
}

/// A dataset without a single clip.
pub(crate) fn empty() -> Dataset {
    let pipeline = json!({
        "name": "test",
        "sources": [{"path": "clips", "kind": "real"}],
        "stages": [{"filter": {"name": "too-short", "keep": "duration_s >= 1"}}],
        "output": {"path": "out"},
    });
    Dataset {
        format: FORMAT,
        simdrop: "0.1.0".to_owned(),
        name: "test".to_owned(),
        version: 1,
        fingerprint: "f".to_owned(),
        committed_at: "2026-01-02T03:04:10Z".to_owned(),
        pipeline: serde_json::from_value(pipeline).unwrap(),
        repacked: None,
        counts: Counts::default(),
        shards: Vec::new(),
        dropped_shards: Vec::new(),
        clips: Vec::new(),
        runs: Vec::new(),
        blake3: String::new(),
    }
}

fn stage_run(stage: &str, rows: u64, dropped: u64, failed: u64, busy_s: f64) -> StageRun {
    StageRun {
        stage: stage.to_owned(),
        kind: stage.to_owned(),
        rows,
        dropped,
        failed,
        bytes: rows * 1_000_000,
        busy_s,
        memory: 0,
    }
}

/// Commits the test dataset in `folder`: seven clips of two work units, made by two runs.
pub(crate) fn write(folder: &Path) -> Dataset {
    let (real, synthetic): (Vec<Row>, Vec<Row>) = rows().into_iter().partition(|row| row.source == "real");
    let run = |run: u64, counts: Counts, stages: Vec<StageRun>| RunEntry {
        run,
        started_at: format!("2026-01-02T03:04:0{run}.500Z"),
        seconds: 2.0,
        units: 1,
        units_resumed: run - 1,
        counts,
        providers: [("base".to_owned(), "cpu".to_owned())].into(),
        peak_memory: 100 << 20,
        stages,
    };
    let first = Counts { clips: 4, kept: 3, dropped: 1, failed: 0 };
    let second = Counts { clips: 3, kept: 1, dropped: 1, failed: 1 };
    let mut counts = first;
    counts.add(second);
    let shard = |source: &str, samples: u64| ShardEntry {
        path: format!("shards/test-{source}.tar"),
        unit: format!("u-{source}"),
        samples,
        bytes: samples * 1_500_000,
        blake3: "0".repeat(64),
    };
    let dataset = Dataset {
        counts,
        shards: vec![shard("real", 3), shard("synthetic", 1)],
        clips: vec![
            write_clips(folder, "u-real", &batch(&real)),
            write_clips(folder, "u-synthetic", &batch(&synthetic)),
        ],
        runs: vec![
            run(1, first, vec![stage_run("decode", 4, 0, 0, 3.0), stage_run("simdrop", 3, 0, 0, 0.0)]),
            run(2, second, vec![stage_run("decode", 3, 0, 1, 1.8), stage_run("simdrop", 2, 1, 0, 0.2)]),
        ],
        ..empty()
    };
    commit(folder, &dataset);
    dataset
}

/// Writes `dataset.json`.
pub(crate) fn commit(folder: &Path, dataset: &Dataset) {
    std::fs::write(folder.join(DATASET_FILE), serde_json::to_vec(dataset).unwrap()).unwrap();
}
