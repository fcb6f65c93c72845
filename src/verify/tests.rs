//! Tests of the audit, over small datasets that are damaged in every way.

use arrow::array::RecordBatch;

use super::*;
use crate::dataset::DROPPED_SHARDS;
use crate::error::Blame;
use crate::repack::{RepackOptions, repack};
use crate::schema;
use crate::stage::ClipBatch;
use crate::stage::shards::config::OutputSpec;
use crate::stage::shards::table;
use crate::stage::shards::testing::{Folders, Row, config, row};

/// Six clips in shards of two, a dropped one among those that are stored.
async fn six() -> (Folders, Dataset) {
    let folders = Folders::new();
    let rows: Vec<Row> = [("a", 100, None), ("b", 2000, None), ("c", 30, None), ("d", 700, Some("dropped"))]
        .into_iter()
        .chain([("e", 1, Some("failed")), ("f", 600, None)])
        .map(|(name, size, fate)| row(name, size, fate))
        .collect();
    let output = OutputSpec { max_samples: 2, keep_dropped: true, ..config() };
    let receipt = Box::pin(folders.write(output.clone(), vec![folders.batch(&rows)])).await;
    let dataset = folders.commit(output, receipt);
    (folders, dataset)
}

fn uri(folders: &Folders) -> String {
    folders.dataset.path().display().to_string()
}

async fn audit(folders: &Folders) -> Verification {
    Box::pin(verify(&Storage::default(), &uri(folders), &|_| ())).await.unwrap()
}

/// File and problem of each finding.
async fn problems(folders: &Folders) -> Vec<(String, String)> {
    let findings = audit(folders).await.findings;
    assert!(findings.iter().all(|finding| !finding.remedy.is_empty()));
    let told = |clip: Option<String>| clip.map_or_else(String::new, |clip| format!("{clip}: "));
    findings.into_iter().map(|finding| (finding.file, told(finding.clip) + &finding.problem)).collect()
}

fn change(folders: &Folders, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = folders.read(path);
    change(&mut bytes);
    std::fs::write(folders.dataset.path().join(path), bytes).unwrap();
}

/// Writes the metadata anew with other rows, and a `dataset.json` that says so: nothing but the rows is wrong.
async fn change_rows(folders: &Folders, dataset: &Dataset, change: impl FnOnce(RecordBatch) -> RecordBatch) {
    let receipt = Receipt {
        unit: String::new(),
        shards: Vec::new(),
        dropped_shards: Vec::new(),
        clips: dataset.clips[0].clone(),
        counts: Counts::default(),
        measured: None,
    };
    let rows = change(folders.table(&receipt).into_batch());
    let counts = crate::stage::shards::count(&ClipBatch::new(rows.clone())).unwrap();
    let root = Storage::default().locate(&uri(folders)).unwrap();
    let (path, unit) = (dataset.clips[0].path.clone(), dataset.clips[0].unit.clone());
    let clips = table::write(&root, path, unit, &rows.schema(), vec![rows.clone()], &CpuPool::new(1)).await.unwrap();
    folders.write_dataset(Dataset { clips: vec![clips], counts, ..dataset.clone() });
}

#[tokio::test]
async fn a_dataset_that_was_written_is_sound() {
    let (folders, dataset) = six().await;
    let checked = audit(&folders).await;
    assert_eq!(checked.findings, []);
    assert!(checked.sound && checked.notes.is_empty(), "{:?}", checked.notes);
    let files = dataset.shards.iter().chain(&dataset.dropped_shards).map(|shard| shard.bytes);
    assert_eq!(checked.bytes, files.sum::<u64>() + dataset.clips[0].bytes);
    assert_eq!((checked.shards, checked.clips), (3, 1));
}

#[tokio::test]
async fn a_repacked_dataset_is_sound() {
    let ((from, _), to) = (six().await, Folders::new());
    let options = RepackOptions { seed: Some(7), max_samples: 2, ..RepackOptions::new(uri(&from), uri(&to), "true") };
    Box::pin(repack(&Storage::default(), &options, &|_| ())).await.unwrap();
    assert_eq!(audit(&to).await.findings, []);
    change(&to, &first_shard(&to), |bytes| bytes[700] ^= 1);
    let remedy = &audit(&to).await.findings[0].remedy;
    assert!(remedy.contains("repack") && remedy.contains("--overwrite"), "{remedy}");
}

/// Path of the first shard.
fn first_shard(folders: &Folders) -> String {
    folders.files().into_iter().find(|name| name.ends_with(".tar")).unwrap()
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_it_is() {
    let (folders, _) = six().await;
    for path in folders.files() {
        let whole = folders.read(&path);
        for at in (0..whole.len()).step_by(97) {
            change(&folders, &path, |bytes| bytes[at] ^= 1 << (at % 8));
            let checked = Box::pin(verify(&Storage::default(), &uri(&folders), &|_| ())).await;
            match checked {
                Ok(checked) => {
                    assert!(checked.findings.iter().any(|finding| finding.file == path), "byte {at} of {path}");
                }
                Err(error) => {
                    assert!(
                        path == DATASET_FILE && error.blame() == Blame::Environment,
                        "byte {at} of {path}: {error}"
                    );
                }
            }
            change(&folders, &path, |bytes| bytes.clone_from(&whole));
        }
    }
}

#[tokio::test]
async fn files_that_are_gone_cut_off_or_swapped_are_named() {
    let (folders, dataset) = six().await;
    let [first, second] = [0, 1].map(|at| dataset.shards[at].path.clone());
    let at = |path: &str| folders.dataset.path().join(path);
    // Gone.
    std::fs::rename(at(&first), at("aside")).unwrap();
    let found = problems(&folders).await;
    assert_eq!(found, [(first.clone(), "the file is gone, samples in it: 2 (id-a, id-b)".to_owned())]);
    std::fs::rename(at("aside"), at(&first)).unwrap();
    // Cut off in the second clip.
    let whole = folders.read(&first);
    change(&folders, &first, |bytes| bytes.truncate(bytes.len() - 2600));
    let found = problems(&folders).await;
    assert!(found.iter().all(|(file, _)| *file == first), "{found:?}");
    assert!(
        found.iter().any(|(_, problem)| problem.starts_with("id-b: its sample is damaged: the file ends")),
        "{found:?}"
    );
    assert!(!found.iter().any(|(_, problem)| problem.starts_with("id-a")), "{found:?}");
    std::fs::write(at(&first), whole).unwrap();
    // Swapped.
    std::fs::rename(at(&first), at("aside")).unwrap();
    std::fs::rename(at(&second), at(&first)).unwrap();
    std::fs::rename(at("aside"), at(&second)).unwrap();
    let found = problems(&folders).await;
    for clip in ["id-a: at byte 0, where its row says, lies the sample of clip id-c", "id-c: at byte 0"] {
        assert!(found.iter().any(|(_, problem)| problem.starts_with(clip)), "{clip}: {found:?}");
    }
}

#[tokio::test]
async fn metadata_that_is_gone_does_not_blame_the_shards() {
    let (folders, dataset) = six().await;
    let clips = dataset.clips[0].path.clone();
    std::fs::remove_file(folders.dataset.path().join(&clips)).unwrap();
    assert_eq!(problems(&folders).await, [(clips, "the file is gone, rows in it: 6".to_owned())]);
}

#[tokio::test]
async fn a_removed_row_leaves_a_sample_without_one() {
    let (folders, dataset) = six().await;
    change_rows(&folders, &dataset, |rows| rows.slice(1, 5)).await;
    let found = problems(&folders).await;
    let shard = &dataset.shards[0].path;
    assert!(found.iter().all(|(file, _)| file == shard), "{found:?}");
    assert!(found.iter().any(|(_, problem)| problem.starts_with("id-a: its sample, bytes 0 to ")), "{found:?}");
}

#[tokio::test]
async fn a_row_that_is_there_twice_or_points_elsewhere_is_found() {
    let (folders, dataset) = six().await;
    let twice = |rows: RecordBatch| {
        let parts = [rows.clone(), rows.slice(0, 1)];
        arrow::compute::concat_batches(&rows.schema(), &parts).unwrap()
    };
    change_rows(&folders, &dataset, twice).await;
    let found = problems(&folders).await;
    assert!(found.iter().any(|(_, problem)| problem.starts_with("id-a: the clip has another row")), "{found:?}");
    let (folders, dataset) = six().await;
    let moved = |rows: RecordBatch| {
        let offsets = arrow::array::Int64Array::from(vec![Some(512); rows.num_rows()]);
        let column: arrow::array::ArrayRef = std::sync::Arc::new(offsets);
        let clips = ClipBatch::new(rows);
        clips.with_columns(&clips.batch().schema(), vec![(schema::OFFSET, column)]).unwrap().into_batch()
    };
    change_rows(&folders, &dataset, moved).await;
    let found = problems(&folders).await;
    assert!(found.iter().any(|(_, problem)| problem == "id-a: at byte 512, where its row says, no sample begins"));
    // The failed clip has a part of a place now.
    assert!(found.iter().any(|(_, problem)| problem.starts_with("id-e: it says only in part")), "{found:?}");
}

#[tokio::test]
async fn what_nobody_lists_is_left_over_and_what_is_listed_twice_is_told() {
    let (folders, dataset) = six().await;
    let stray = format!("{DROPPED_SHARDS}/test-0123456789abcdef-000000.tar");
    std::fs::write(folders.dataset.path().join(&stray), "stray").unwrap();
    let found = problems(&folders).await;
    assert_eq!(found.len(), 1);
    assert!(found[0].0 == stray && found[0].1.contains("does not list it"), "{found:?}");
    std::fs::remove_file(folders.dataset.path().join(&stray)).unwrap();
    let mut shards = dataset.shards.clone();
    shards.push(shards[0].clone());
    let counts = Counts { kept: 9, ..dataset.counts };
    folders.write_dataset(Dataset { shards, counts, ..dataset });
    let found = problems(&folders).await;
    assert!(found.iter().any(|(_, problem)| problem.contains("twice")), "{found:?}");
    assert!(found.iter().any(|(_, problem)| problem.contains("it counts 6 clips (9 kept")), "{found:?}");
}

#[tokio::test]
async fn a_dataset_of_an_earlier_version_says_what_cannot_be_checked() {
    let (folders, dataset) = six().await;
    let bare = Dataset { blake3: String::new(), ..dataset };
    let json = serde_json::to_vec_pretty(&bare).unwrap();
    std::fs::write(folders.dataset.path().join(DATASET_FILE), json).unwrap();
    let checked = audit(&folders).await;
    assert!(checked.sound && checked.notes[0].contains("no checksum of itself"), "{:?}", checked.notes);
}
