use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::*;
use crate::spec::SourceKind;
use crate::storage::StorageSpec;

fn source(path: Option<&Path>, list: Option<&Path>) -> SourceSpec {
    let text = |path: &Path| path.display().to_string();
    SourceSpec {
        path: path.map(text),
        list: list.map(text),
        render: None,
        kind: SourceKind::Real,
        dataset: None,
        licence: Some("CC0".to_owned()),
        generator: None,
    }
}

fn pipeline(sources: Vec<SourceSpec>, clips_per_unit: usize) -> PipelineSpec {
    let output = serde_json::from_value(serde_json::json!({ "path": "out" })).unwrap();
    PipelineSpec {
        name: "test".to_owned(),
        description: None,
        sources,
        stages: Vec::new(),
        output,
        models: Default::default(),
        run: crate::spec::RunSpec { clips_per_unit, ..Default::default() },
        storage: StorageSpec::default(),
    }
}

fn list(sources: Vec<SourceSpec>, clips_per_unit: usize) -> Result<Manifest> {
    Manifest::list(&pipeline(sources, clips_per_unit), "fingerprint", &Storage::default())
}

fn files(folder: &Path, names: impl IntoIterator<Item = String>) {
    for name in names {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "bytes").unwrap();
    }
}

fn column(manifest: &Manifest, name: &str) -> Vec<Option<String>> {
    let rows: Vec<_> = manifest.units.iter().map(|unit| unit.rows().unwrap()).collect();
    let rows = concat_batches(&manifest.schema, &rows).unwrap();
    let column = arrow::compute::cast(rows.column_by_name(name).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
    arrow::array::AsArray::as_string::<i32>(&column).iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn a_folder_gives_its_videos_at_any_depth_in_order() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["b.mp4", "deep/er/a.MKV", "notes.txt", "c.webm"].map(str::to_owned));
    let manifest = list(vec![source(Some(folder.path()), None)], 32).unwrap();
    let prefix = format!("{}/", folder.path().display());
    let names: Vec<_> =
        column(&manifest, schema::URI).into_iter().flatten().map(|uri| uri.replace(&prefix, "")).collect();
    assert_eq!(names, ["b.mp4", "c.webm", "deep/er/a.MKV"]);
    assert_eq!(column(&manifest, schema::LICENCE)[0].as_deref(), Some("CC0"));
}

#[test]
fn a_glob_takes_every_file_that_matches() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4", "b.txt", "x.mp4/inner.mp4"].map(str::to_owned));
    let manifest = list(vec![source(Some(&folder.path().join("*")), None)], 32).unwrap();
    assert_eq!(manifest.clips(), 2, "the folder x.mp4 is no clip");
}

#[test]
fn a_source_without_videos_says_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let error = list(vec![source(Some(&folder.path().join("*.mp4")), None)], 32).unwrap_err();
    assert!(error.to_string().contains("looked from"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn a_file_named_twice_is_one_clip_and_one_dropped_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4".to_owned()]);
    let manifest = list(vec![source(Some(folder.path()), None), source(Some(folder.path()), None)], 32).unwrap();
    assert_eq!(column(&manifest, schema::FATE), [None, Some("dropped".to_owned())]);
    let ids: HashSet<_> = column(&manifest, schema::CLIP_ID).into_iter().collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn a_new_clip_leaves_most_units_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), (0..500).map(|number| format!("{number:04}.mp4")));
    let before = list(vec![source(Some(folder.path()), None)], 8).unwrap();
    assert!(before.units.iter().all(|unit| unit.clips() <= 16));
    files(folder.path(), ["0250-new.mp4".to_owned()]);
    let after = list(vec![source(Some(folder.path()), None)], 8).unwrap();
    let known: HashSet<_> = before.units.iter().map(|unit| &unit.id).collect();
    let same = after.units.iter().filter(|unit| known.contains(&unit.id)).count();
    assert!(same + 4 >= after.units.len(), "{same} of {} units stayed", after.units.len());
}

#[test]
fn a_changed_file_makes_another_unit_and_keeps_its_clip_id() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4".to_owned()]);
    let before = list(vec![source(Some(folder.path()), None)], 8).unwrap();
    let file = std::fs::File::options().append(true).open(folder.path().join("a.mp4")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let after = list(vec![source(Some(folder.path()), None)], 8).unwrap();
    assert_eq!(column(&before, schema::CLIP_ID), column(&after, schema::CLIP_ID));
    assert_ne!(before.units[0].id, after.units[0].id);
}

#[test]
fn columns_of_a_list_come_along_and_fill_what_they_name() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4".to_owned(), "b.mp4".to_owned()]);
    let csv = folder.path().join("clips.csv");
    std::fs::write(&csv, "uri,caption,start_s,rating,size,licence\nb.mp4,007,1.5,4,9,\na.mp4,a dog,,5,8,MIT\n")
        .unwrap();
    let manifest = list(vec![source(None, Some(&csv))], 8).unwrap();
    let texts = |values: [&str; 2]| values.map(|text| Some(text.to_owned())).to_vec();
    assert_eq!(column(&manifest, schema::CAPTION), texts(["a dog", "007"]));
    assert_eq!(column(&manifest, schema::LICENCE), texts(["MIT", "CC0"]));
    assert_eq!(column(&manifest, schema::START_S), [None, Some("1.5".to_owned())]);
    assert_eq!(column(&manifest, "rating"), texts(["5", "4"]));
    assert_eq!(column(&manifest, "list_size"), texts(["8", "9"]));
    assert_eq!(column(&manifest, schema::DATASET), texts(["clips", "clips"]));
}

#[test]
fn jsonl_and_parquet_lists_give_what_csv_gives() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4".to_owned()]);
    let (jsonl, parquet) = (folder.path().join("l.jsonl"), folder.path().join("l.parquet"));
    std::fs::write(&jsonl, "{\"uri\": \"a.mp4\", \"rating\": 5}\n").unwrap();
    let batch = RecordBatch::try_from_iter([
        ("uri", Arc::new(StringArray::from(vec!["a.mp4"])) as ArrayRef),
        ("rating", Arc::new(arrow::array::Int64Array::from(vec![5]))),
    ]);
    let batch = batch.unwrap();
    let file = std::fs::File::create(&parquet).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    for path in [&jsonl, &parquet] {
        let manifest = list(vec![source(None, Some(path))], 8).unwrap();
        assert_eq!(column(&manifest, "rating"), [Some("5".to_owned())]);
    }
}

#[test]
fn a_list_without_uris_names_the_column_that_may_be_meant() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("clips.csv");
    std::fs::write(&csv, "url\na.mp4\n").unwrap();
    let error = list(vec![source(None, Some(&csv))], 8).unwrap_err().to_string();
    assert!(error.contains("no column uri") && error.contains("url"), "{error}");
}

#[test]
fn a_file_that_is_not_there_is_a_row_without_a_size() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("clips.csv");
    std::fs::write(&csv, "uri\ngone.mp4\n").unwrap();
    let manifest = list(vec![source(None, Some(&csv))], 8).unwrap();
    assert_eq!(column(&manifest, schema::SIZE_BYTES), [None]);
}

#[test]
fn clip_ids_tell_spans_and_sizes_apart() {
    let mut seen = HashMap::new();
    for size in [Some(1), Some(2), None] {
        for span in [(None, None), (Some(0.0), None), (None, Some(1.0)), (Some(0.0), Some(1.0))] {
            assert_eq!(seen.insert(clip_id("a.mp4", size, span, 0), (size, span)), None);
        }
    }
}

#[test]
fn a_changed_sidecar_makes_another_unit() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4".to_owned()]);
    let mut spec = pipeline(vec![source(Some(folder.path()), None)], 8);
    let stage = serde_json::json!({"caption": {"from": [{"sidecar": {"extension": "txt"}}]}});
    spec.stages.push(serde_json::from_value(stage).unwrap());
    let unit = || Manifest::list(&spec, "fingerprint", &Storage::default()).unwrap().units[0].id.clone();
    let without = unit();
    std::fs::write(folder.path().join("a.txt"), "a cat").unwrap();
    let with = unit();
    std::fs::write(folder.path().join("a.txt"), "two cats").unwrap();
    assert_ne!(without, with);
    assert_ne!(with, unit());
    std::fs::remove_file(folder.path().join("a.txt")).unwrap();
    assert_eq!(without, unit());
}

#[test]
fn the_first_units_are_small() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), (0..400).map(|number| format!("{number:04}.mp4")));
    let manifest = list(vec![source(Some(folder.path()), None)], 32).unwrap();
    assert!(manifest.units[0].clips() <= 4 && manifest.units[1].clips() <= 4);
    assert!(manifest.units.iter().any(|unit| unit.clips() > 16));
}

#[test]
fn a_span_that_is_none_is_one_failed_row() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), ["a.mp4".to_owned()]);
    let table = folder.path().join("list.csv");
    std::fs::write(&table, "uri,start_s,end_s\na.mp4,-1,0.5\na.mp4,2,1\na.mp4,0,1\n").unwrap();
    let manifest = list(vec![source(None, Some(&table))], 32).unwrap();
    let fates = column(&manifest, schema::FATE);
    assert_eq!(fates.iter().filter(|fate| fate.as_deref() == Some("failed")).count(), 2, "{fates:?}");
    std::fs::write(&table, "uri,start_s\n").unwrap();
    assert!(list(vec![source(None, Some(&table))], 32).unwrap_err().to_string().contains("no rows"));
}
