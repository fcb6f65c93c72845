//! Clips that have failed, run again: they alone, and everything else stays as it is.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::program::{DECODE, Workplace, command, expect_code, root, simdrop, stderr, stdout};

const UNITS: &str = "output: {path: unset, max_samples: 2}\nrun: {clips_per_unit: 4}";
const ROWS: &str =
    "select clip_id, uri, unit, fate, fate_reason, shard, key, \"offset\", size, caption, codec from clips";

/// A clip for each number; those in `broken` cannot be read by anybody until they are mended.
fn workplace(clips: usize, broken: &[usize]) -> Workplace {
    let place = Workplace::new();
    let bytes = std::fs::read(root().join("data/clips/real/carphone.mp4")).unwrap();
    for number in 0..clips {
        let mut bytes = bytes.clone();
        if broken.contains(&number) {
            bytes[..64].fill(0);
        }
        place.file(&name(number), &bytes);
    }
    place
}

fn name(number: usize) -> String {
    format!("{number:03}.mp4")
}

/// Mends a clip such that its name, size and time are what they were: for the listing it is the same file.
fn mend(place: &Workplace, number: usize) {
    let path = place.path("clips").join(name(number));
    let before = std::fs::metadata(&path).unwrap();
    let bytes = std::fs::read(root().join("data/clips/real/carphone.mp4")).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, &bytes).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

fn retry(place: &Workplace, pipeline: &str, option: &str) -> std::process::Output {
    let set = format!("output.path={}", place.text("out"));
    simdrop(&["run", pipeline, "--set", &set, option, "--progress", "none"])
}

fn rows(place: &Workplace, condition: &str) -> Vec<Value> {
    place.query("out", &format!("{ROWS} where {condition} order by clip_id"))
}

fn sound(place: &Workplace) {
    expect_code(&simdrop(&["verify", &place.text("out")]), 0);
}

#[test]
fn failed_clips_alone_are_run_again() {
    let place = workplace(12, &[3, 7]);
    let pipeline = place.pipeline(DECODE, UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    let (shards, kept, failed) = (place.shards("out"), rows(&place, "fate = 'kept'"), rows(&place, "fate = 'failed'"));
    assert_eq!((kept.len(), failed.len()), (10, 2));
    mend(&place, 3);
    expect_code(&retry(&place, &pipeline, "--retry-failed"), 0);
    sound(&place);
    // Every row and every shard that was there is there, as it was.
    let after = rows(&place, "true");
    assert_eq!(after.len(), 12);
    assert!(kept.iter().all(|row| after.contains(row)), "{after:?}");
    let now = place.shards("out");
    assert!(shards.iter().all(|(name, hash)| now.get(name) == Some(hash)), "{now:?}");
    assert_eq!(now.len(), shards.len() + 1);
    // The mended clip is the one that had failed, in its work unit.
    let mended = &rows(&place, "uri like '%/003.mp4'")[0];
    let before = failed.iter().find(|row| row["uri"] == mended["uri"]).unwrap();
    assert_eq!((&mended["clip_id"], &mended["unit"]), (&before["clip_id"], &before["unit"]));
    assert_eq!((&mended["fate"], &mended["codec"]), (&"kept".into(), &"h264".into()));
    assert_eq!(rows(&place, "uri like '%/007.mp4'")[0]["fate"], "failed");
    let runs = place.query("out", "select clips, kept, failed, units, units_resumed from runs order by run");
    assert_eq!((&runs[1]["clips"], &runs[1]["kept"], &runs[1]["failed"]), (&2.into(), &1.into(), &1.into()));
    assert!(runs[1]["units"].as_u64() <= Some(2), "{runs:?}");
    // A run finds everything done, with and without what a resume reads; and so does another try.
    assert!(stdout(&place.run(&pipeline, "out")).contains("nothing to do"));
    std::fs::remove_dir_all(place.path("out/_work")).unwrap();
    assert!(stdout(&place.run(&pipeline, "out")).contains("nothing to do"));
    mend(&place, 7);
    expect_code(&retry(&place, &pipeline, "--retry-failed"), 0);
    sound(&place);
    assert_eq!(rows(&place, "fate = 'kept'").len(), 12);
    let none = retry(&place, &pipeline, "--retry-failed");
    expect_code(&none, 2);
    assert!(stderr(&none).contains("has failed: there is nothing to try again"), "{}", stderr(&none));
    // What was tried again can be repacked.
    expect_code(&simdrop(&["repack", &place.text("out"), "--output", &place.text("new"), "--shuffle", "7"]), 0);
    expect_code(&simdrop(&["verify", &place.text("new")]), 0);
    // A new clip leaves the units that were tried again as they are.
    place.clip("carphone.mp4", "999.mp4");
    expect_code(&place.run(&pipeline, "out"), 0);
    sound(&place);
    assert_eq!(rows(&place, "fate = 'kept'").len(), 13);
}

#[test]
fn a_reason_says_which_and_where_it_is_wrong_the_reasons_are_named() {
    let place = workplace(4, &[1]);
    place.file("empty.mp4", b"");
    let pipeline = place.pipeline(DECODE, UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    let before = std::fs::read(place.path("out/dataset.json")).unwrap();
    let made = retry(&place, &pipeline, "--retry-failed=no such thing");
    expect_code(&made, 2);
    for part in ["`no such thing`", "     1  decode: ", "empty"] {
        assert!(stderr(&made).contains(part), "{part} is missing in\n{}", stderr(&made));
    }
    assert_eq!(std::fs::read(place.path("out/dataset.json")).unwrap(), before, "nothing was changed");
    mend(&place, 1);
    expect_code(&retry(&place, &pipeline, "--retry-failed=EMPTY"), 0);
    assert_eq!(rows(&place, "uri like '%/001.mp4'")[0]["fate"], "failed");
    expect_code(&retry(&place, &pipeline, "--retry-failed=decode"), 0);
    assert_eq!(rows(&place, "uri like '%/001.mp4'")[0]["fate"], "kept");
    sound(&place);
}

#[test]
fn where_it_cannot_apply_it_says_why() {
    let place = workplace(2, &[1]);
    let pipeline = place.pipeline(DECODE, UNITS);
    let made = retry(&place, &pipeline, "--retry-failed");
    expect_code(&made, 2);
    assert!(stderr(&made).contains("there is no dataset"), "{}", stderr(&made));
    expect_code(&place.run(&pipeline, "out"), 0);
    let other = place.pipeline(&DECODE.replace("frames: 8", "frames: 4"), UNITS);
    let made = retry(&place, &other, "--retry-failed");
    expect_code(&made, 2);
    assert!(stderr(&made).contains("the dataset of another pipeline"), "{}", stderr(&made));
}

#[test]
fn windows_that_failed_come_again_alone() {
    let place = Workplace::new();
    let bytes = std::fs::read(root().join("data/clips/real/bikes.mp4")).unwrap();
    place.file("bikes.mp4", &bytes);
    // The middle of the file is lost, which only the windows there notice.
    let (from, to) = (bytes.len() * 45 / 100, bytes.len() * 55 / 100);
    let mut damaged = bytes.clone();
    damaged[from..to].fill(0);
    place.file("bikes.mp4", &damaged);
    let stages = format!("  - split: {{length_s: 2.0}}\n{DECODE}");
    let pipeline = place.pipeline(&stages, UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    let (kept, failed) = (rows(&place, "fate = 'kept'"), rows(&place, "fate = 'failed'"));
    assert!(!kept.is_empty() && !failed.is_empty(), "{kept:?} {failed:?}");
    let path = place.path("clips/bikes.mp4");
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    std::fs::write(&path, &bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    expect_code(&retry(&place, &pipeline, "--retry-failed"), 0);
    sound(&place);
    let after = rows(&place, "fate = 'kept'");
    assert_eq!(after.len(), kept.len() + failed.len());
    assert!(kept.iter().all(|row| after.contains(row)), "{after:?}");
    // The dataset is the one that a run over the good file would have made.
    let ids = |rows: &[Value]| rows.iter().map(|row| row["clip_id"].clone()).collect::<Vec<_>>();
    expect_code(&place.run(&pipeline, "whole"), 0);
    assert_eq!(ids(&place.query("whole", &format!("{ROWS} order by clip_id"))), ids(&after));
}

#[test]
fn a_retry_that_is_killed_leaves_the_dataset_and_goes_on() {
    let place = workplace(24, &(0..24).filter(|number| number % 2 == 1).collect::<Vec<_>>());
    let pipeline = place.pipeline(DECODE, UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    let (before, old) = (std::fs::read(place.path("out/dataset.json")).unwrap(), rows(&place, "fate = 'kept'"));
    (0..24).filter(|number| number % 2 == 1).for_each(|number| mend(&place, number));
    let set = format!("output.path={}", place.text("out"));
    let receipts = || {
        let runs = std::fs::read_dir(place.path("out/_work")).unwrap().flatten();
        let files = runs.flat_map(|run| std::fs::read_dir(run.path().join("receipts")).into_iter().flatten().flatten());
        // What is half written has another name.
        files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json")).count()
    };
    let done = receipts();
    let mut child =
        command(&["run", &pipeline, "--set", &set, "--retry-failed", "--progress", "none"]).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while receipts() <= done && child.try_wait().unwrap().is_none() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // The old dataset stands.
    assert_eq!(std::fs::read(place.path("out/dataset.json")).unwrap(), before, "it was over before it could be killed");
    assert_eq!(rows(&place, "fate = 'kept'"), old);
    assert!(stdout(&place.run(&pipeline, "out")).contains("nothing to do"));
    // The same call finishes it.
    expect_code(&retry(&place, &pipeline, "--retry-failed"), 0);
    sound(&place);
    let after = rows(&place, "fate = 'kept'");
    assert_eq!(after.len(), 24);
    assert!(old.iter().all(|row| after.contains(row)));
    let runs = place.query("out", "select clips from runs order by run");
    assert!(runs[1]["clips"].as_u64() < Some(12), "what the killed run had done was done again: {runs:?}");
}
