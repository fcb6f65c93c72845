use super::*;
use crate::dataset::{ClipsEntry, ShardEntry};
use crate::storage::Storage;

fn root(folder: &tempfile::TempDir) -> Location {
    Storage::default().locate(&folder.path().join("out").display().to_string()).unwrap()
}

fn spec() -> PipelineSpec {
    serde_json::from_str(r#"{"name": "t", "sources": [{"path": "c", "kind": "real"}], "output": {"path": "out"}}"#)
        .unwrap()
}

fn run() -> RunEntry {
    RunEntry {
        run: 0,
        started_at: now(),
        seconds: 1.0,
        units: 1,
        units_resumed: 0,
        counts: Counts::default(),
        providers: Default::default(),
        peak_memory: 0,
        stages: Vec::new(),
    }
}

/// A receipt whose files lie in storage.
async fn receipt(root: &Location, unit: &str) -> Receipt {
    let (shard, clips) = (format!("{SHARDS}/t-{unit}-000000.tar"), format!("{CLIPS}/{unit}.parquet"));
    root.join(&shard).write("shard").await.unwrap();
    root.join(&clips).write("clips").await.unwrap();
    let blake3 = String::new();
    Receipt {
        unit: unit.to_owned(),
        shards: vec![ShardEntry { path: shard, unit: unit.to_owned(), samples: 1, bytes: 5, blake3: blake3.clone() }],
        dropped_shards: Vec::new(),
        clips: ClipsEntry { path: clips, unit: unit.to_owned(), rows: 1, counts: None, bytes: 5, blake3 },
        counts: Counts { clips: 1, kept: 1, ..Counts::default() },
        measured: None,
    }
}

const A: &str = "aaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbb";

#[tokio::test]
async fn a_receipt_counts_only_while_its_files_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    for unit in [A, B] {
        write_receipt(&root, "f", unit, &receipt(&root, unit).await).await.unwrap();
    }
    let units = HashSet::from([A, B]);
    assert_eq!(read_receipts(&root, "f", None, &units).await.unwrap().len(), 2);
    root.join(&format!("{CLIPS}/{B}.parquet")).write("short").await.unwrap();
    root.join(&format!("{SHARDS}/t-{A}-000000.tar")).delete().await.unwrap();
    let found = read_receipts(&root, "f", None, &units).await.unwrap();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [B]);
    assert!(read_receipts(&root, "another", None, &units).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_committed_unit_needs_no_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    let mut receipts = vec![receipt(&root, A).await, receipt(&root, B).await];
    receipts.iter_mut().for_each(|receipt| receipt.clips.counts = Some(receipt.counts));
    let dataset = commit(&root, None, &spec(), "f", receipts.clone(), run()).await.unwrap();
    assert_eq!(dataset.receipts(), receipts);
    let units = HashSet::from([A, B]);
    let found = read_receipts(&root, "f", Some(&dataset), &units).await.unwrap();
    assert_eq!((found.get(A), found.get(B)), (Some(&receipts[0]), Some(&receipts[1])));
    // What a run that never committed says of the same unit does not count, unless the files of the dataset are gone.
    let other = Receipt { counts: Counts::default(), ..receipts[0].clone() };
    write_receipt(&root, "f", A, &other).await.unwrap();
    assert_eq!(read_receipts(&root, "f", Some(&dataset), &units).await.unwrap()[A], receipts[0]);
    root.join(&receipts[1].clips.path).delete().await.unwrap();
    assert_eq!(read_receipts(&root, "f", Some(&dataset), &units).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    let first = OutputLock::take(&root).unwrap();
    let error = OutputLock::take(&root).unwrap_err();
    assert!(error.to_string().contains("another run is writing"), "{error}");
    drop(first);
    OutputLock::take(&root).unwrap();
}

#[tokio::test]
async fn another_pipelines_dataset_is_refused_unless_it_may_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    let receipts = vec![receipt(&root, A).await];
    let old = commit(&root, None, &spec(), "old", receipts, run()).await.unwrap();
    let error = open_output(&root, "new", false).await.unwrap_err();
    assert!(error.to_string().contains("--overwrite"), "{error}");
    assert_eq!(error.exit_code(), 2);
    assert_eq!(open_output(&root, "new", true).await.unwrap(), Some(old));
}

#[tokio::test]
async fn the_slower_of_two_commits_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    let winner = commit(&root, None, &spec(), "f", vec![receipt(&root, A).await], run()).await.unwrap();
    let error = commit(&root, None, &spec(), "f", Vec::new(), run()).await.unwrap_err();
    assert!(error.to_string().contains("another run committed"), "{error}");
    assert_eq!(Dataset::read(&root).await.unwrap(), Some(winner));
}

#[tokio::test]
async fn a_commit_removes_what_it_does_not_list_and_nothing_of_the_users() {
    let folder = tempfile::tempdir().unwrap();
    let root = root(&folder);
    let old = commit(&root, None, &spec(), "f", vec![receipt(&root, A).await], run()).await.unwrap();
    root.join(&format!("{SHARDS}/mine.tar")).write("mine").await.unwrap();
    let shards = folder.path().join("out").join(SHARDS);
    std::fs::create_dir(shards.join("dropped")).unwrap();
    let killed = [format!("t-{A}-000001.tar#1"), format!("dropped/t-{B}-000000.tar#12")].map(|name| shards.join(name));
    killed.iter().for_each(|path| std::fs::write(path, "half").unwrap());
    std::fs::write(shards.join("mine.tar#1"), "mine").unwrap();
    let new = commit(&root, Some(&old), &spec(), "g", vec![receipt(&root, B).await], run()).await.unwrap();
    assert_eq!((new.version, new.runs.len()), (2, 1));
    let left: HashSet<String> = sizes(&root.join(SHARDS)).await.unwrap().into_keys().collect();
    assert_eq!(left, HashSet::from(["mine.tar".to_owned(), format!("t-{B}-000000.tar")]));
    assert!(!killed.iter().any(|path| path.exists()));
    assert!(shards.join("mine.tar#1").exists());
}
