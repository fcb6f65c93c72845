//! Tests of repacking, over datasets of made-up clips.

use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::dataset::DATASET_FILE;
use crate::stage::ClipBatch;
use crate::stage::shards::config::OutputSpec;
use crate::stage::shards::testing::{Folders, Row, config, row, texts};

/// A committed dataset of these rows, two to a shard, those that are dropped included.
async fn dataset(rows: &[Row]) -> Folders {
    let folders = Folders::new();
    let output = OutputSpec { max_samples: 2, keep_dropped: true, ..config() };
    let receipt = Box::pin(folders.write(output.clone(), vec![folders.batch(rows)])).await;
    folders.commit(output, receipt);
    folders
}

/// `options` from one folder into the other.
async fn repack_into(from: &Folders, to: &Folders, options: RepackOptions) -> Result<RepackOutcome> {
    let path = |folders: &Folders| folders.dataset.path().display().to_string();
    let options = RepackOptions { dataset: path(from), output: path(to), ..options };
    Box::pin(repack(&Storage::default(), &options, &|_| ())).await
}

fn keep(predicate: &str) -> RepackOptions {
    RepackOptions::new("", "", predicate)
}

/// Keys in the order of the new shards.
fn keys(folders: &Folders, outcome: &RepackOutcome) -> Vec<String> {
    outcome.dataset.shards.iter().flat_map(|shard| folders.videos(&shard.path)).collect()
}

fn table(folders: &Folders, outcome: &RepackOutcome) -> ClipBatch {
    let receipt = crate::dataset::Receipt {
        unit: String::new(),
        shards: Vec::new(),
        dropped_shards: Vec::new(),
        clips: outcome.dataset.clips[0].clone(),
        counts: Counts::default(),
        measured: None,
    };
    folders.table(&receipt)
}

fn five() -> Vec<Row> {
    vec![
        row("a", 100, None),
        row("b", 200, Some("dropped")),
        row("c", 300, None),
        row("d", 400, None),
        row("e", 1, Some("failed")),
    ]
}

#[tokio::test]
async fn what_the_predicate_selects_comes_along_and_nothing_is_lost_from_view() {
    let (from, to) = (dataset(&five()).await, Folders::new());
    let outcome = repack_into(&from, &to, keep("size_bytes > 150")).await.unwrap();
    assert_eq!(keys(&to, &outcome), ["id-c", "id-d", "id-b"]);
    assert_eq!(outcome.dataset.counts, Counts { clips: 5, kept: 3, dropped: 1, failed: 1 });
    let rows = table(&to, &outcome);
    assert_eq!(texts(&rows, "fate"), ["dropped", "kept", "kept", "kept", "failed"]);
    assert_eq!(texts(&rows, "fate_stage"), ["repack", "-", "-", "-", "earlier"]);
    assert_eq!(texts(&rows, "fate_reason")[0], "not selected by size_bytes > 150");
    let shard = to.read(&outcome.dataset.shards[0].path);
    for at in 1..4 {
        let offset = rows.long("offset").unwrap().value(at) as usize;
        assert!(sample::begins_sample(&shard[offset..], rows.text("key").unwrap().value(at)));
    }
    assert_eq!(outcome.dataset.shards[0].blake3, blake3::hash(&shard).to_hex().as_str());
}

#[tokio::test]
async fn samples_are_copied_byte_for_byte() {
    let rows = vec![row("a", 17 << 20, None), row("b", 5000, None)];
    let (from, to) = (dataset(&rows).await, Folders::new());
    let outcome = repack_into(&from, &to, keep("true")).await.unwrap();
    assert_eq!(to.read(&outcome.dataset.shards[0].path), from.read("shards/test-unit-000000.tar"));
}

#[tokio::test]
async fn a_seed_gives_an_order_and_the_same_one_again() {
    let rows: Vec<Row> = ('a'..='p').map(|name| row(&name.to_string(), 10, None)).collect();
    let from = dataset(&rows).await;
    let mut orders = Vec::new();
    for seed in [1, 1, 2] {
        let to = Folders::new();
        let options = RepackOptions { seed: Some(seed), max_samples: 5, ..keep("true") };
        let outcome = repack_into(&from, &to, options).await.unwrap();
        assert_eq!(outcome.dataset.shards.iter().map(|shard| shard.samples).collect::<Vec<_>>(), [5, 5, 5, 1]);
        assert!(outcome.dataset.shards[3].path.ends_with("-000003.tar"));
        orders.push((keys(&to, &outcome), outcome.dataset.shards));
    }
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0].0, orders[2].0);
}

#[tokio::test]
async fn clips_that_were_never_written_are_counted() {
    let folders = Folders::new();
    let receipt = Box::pin(folders.write(config(), vec![folders.batch(&five())])).await;
    folders.commit(config(), receipt);
    let outcome = repack_into(&folders, &Folders::new(), keep("true")).await.unwrap();
    assert_eq!((outcome.not_stored, outcome.dataset.counts.kept), (1, 3));
    assert!(outcome.notes()[0].starts_with("1 clips match but are not in the shards"));
    let error = repack_into(&folders, &Folders::new(), keep("fate = 'dropped'")).await.unwrap_err();
    assert!(error.to_string().contains("1 clips match but are not in the shards"), "{error}");
}

#[tokio::test]
async fn an_output_that_is_taken_is_left_alone() {
    let (from, to) = (dataset(&five()).await, Folders::new());
    let first = repack_into(&from, &to, keep("fate = 'kept'")).await.unwrap();
    let error = repack_into(&from, &to, keep("true")).await.unwrap_err();
    assert!(error.to_string().contains("holds a dataset"), "{error}");
    assert!(repack_into(&from, &from, keep("true")).await.is_err());
    let pipeline = dataset(&five()).await;
    let overwrite = RepackOptions { overwrite: true, ..keep("true") };
    let error = repack_into(&from, &pipeline, overwrite.clone()).await.unwrap_err();
    assert!(error.to_string().contains("is the dataset of a pipeline"), "{error}");

    let second = repack_into(&from, &to, overwrite).await.unwrap();
    assert_eq!((first.dataset.version, second.dataset.version), (1, 2));
    let mut listed = vec![second.dataset.clips[0].path.clone(), DATASET_FILE.to_owned()];
    listed.extend(second.dataset.shards.iter().map(|shard| shard.path.clone()));
    let mut files = to.files();
    files.retain(|name| name != "_work/lock");
    assert_eq!(files, listed);
}

#[tokio::test]
async fn a_damaged_shard_is_noticed_and_nothing_is_committed() {
    let (from, to) = (dataset(&five()).await, Folders::new());
    let shard = from.dataset.path().join("shards/test-unit-000001.tar");
    std::fs::write(&shard, vec![0; 10_000]).unwrap();
    let error = repack_into(&from, &to, keep("true")).await.unwrap_err();
    assert!(error.to_string().contains("no sample of this name"), "{error}");
    std::fs::remove_file(&shard).unwrap();
    let error = repack_into(&from, &to, keep("true")).await.unwrap_err();
    assert!(error.to_string().contains("the file is gone"), "{error}");
    assert!(!to.files().iter().any(|name| name.ends_with(DATASET_FILE) || name.ends_with(".tar")));
}

#[tokio::test]
async fn a_wrong_predicate_is_the_callers_mistake() {
    let (from, to) = (dataset(&five()).await, Folders::new());
    for predicate in ["no_such_column > 1", "size_bytes >", "true) UNION SELECT 1 --"] {
        let error = repack_into(&from, &to, keep(predicate)).await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{predicate}: {error}");
    }
    assert!(to.files().is_empty());
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let from = dataset(&five()).await;
    let to = Folders::new();
    for name in ["../evil", "a b", "", "a/b"] {
        let options = RepackOptions { name: Some(name.to_owned()), ..keep("true") };
        let error = repack_into(&from, &to, options).await.unwrap_err();
        assert!(error.to_string().contains("is no name for a dataset"), "{error}");
    }
}

#[tokio::test]
async fn progress_counts_every_sample() {
    let (from, to) = (dataset(&five()).await, Folders::new());
    let path = |folders: &Folders| folders.dataset.path().display().to_string();
    let seen = Mutex::new(Vec::new());
    let options = RepackOptions::new(path(&from), path(&to), "fate = 'kept'");
    let record = |progress: RepackProgress| seen.lock().unwrap().push((progress.samples, progress.total));
    Box::pin(repack(&Storage::default(), &options, &record)).await.unwrap();
    assert_eq!(seen.into_inner().unwrap(), [(1, 3), (2, 3), (3, 3)]);
}

#[test]
fn a_mix_is_written_as_two_whole_numbers() {
    assert_eq!("3:1".parse::<Mix>().unwrap(), Mix { real: 3, synthetic: 1 });
    assert_eq!("0:1".parse::<Mix>().unwrap().to_string(), "0:1");
    for wrong in ["3", "0:0", "3:-1", "a:b", "0.5:1"] {
        assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_mix_takes_as_many_as_fit_and_accounts_for_the_rest(
        kinds in prop::collection::vec(any::<bool>(), 0..60),
        real in 0..5_u32,
        synthetic in 1..5_u32,
        limit in prop::option::of(0..60_u64),
        seed in prop::option::of(any::<u64>()),
    ) {
        let pick = |(at, real): (usize, &bool)| {
            Pick { id: format!("{at}").into(), shard: 0, offset: at as u64, size: 1, real: *real }
        };
        let picks: Vec<Pick> = kinds.iter().enumerate().map(pick).collect();
        let options = RepackOptions { mix: Some(Mix { real, synthetic }), limit, seed, ..keep("true") };
        let (taken, left_out) = select::arrange(picks.clone(), &options).unwrap();
        prop_assert_eq!(taken.len() + left_out.len(), picks.len());
        prop_assert!(taken.iter().all(|pick| !left_out.contains_key(&pick.id)));
        let of = |picks: &[Pick], real: bool| picks.iter().filter(|pick| pick.real == real).count() as f64;
        let sides = [(real, true), (synthetic, false)].into_iter().filter(|(share, _)| *share > 0);
        let mut fit = limit.map_or(f64::INFINITY, |limit| limit as f64 / f64::from(real + synthetic));
        for (share, kind) in sides {
            fit = fit.min(of(&picks, kind) / f64::from(share));
        }
        for (share, kind) in [(real, true), (synthetic, false)] {
            prop_assert!((of(&taken, kind) - fit * f64::from(share)).abs() < 1.0);
        }
        let mut reversed = picks;
        reversed.reverse();
        prop_assert_eq!(select::arrange(reversed, &options).unwrap().0, taken);
    }
}
