//! What is left when a run is killed, and what the next one makes of it.

use std::time::{Duration, Instant};

use super::program::{DECODE, OUTPUT, Workplace, command, expect_code, simdrop, stderr};

const SMALL_UNITS: &str = "output: {path: unset, payload: [source, frames]}\nrun: {clips_per_unit: 2}";

fn workplace(clips: usize) -> Workplace {
    let place = Workplace::new();
    for number in 0..clips {
        place.clip("carphone.mp4", &format!("{number:03}.mp4"));
    }
    place.file("broken.mp4", b"no video");
    place
}

fn receipts(place: &Workplace, output: &str) -> usize {
    let runs = std::fs::read_dir(place.path(output).join("_work")).into_iter().flatten().flatten();
    let files = runs.flat_map(|run| std::fs::read_dir(run.path().join("receipts")).into_iter().flatten().flatten());
    // What a kill left half written has another name.
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json")).count()
}

/// Starts a run and kills it as soon as `done` units are done.
fn kill_after(place: &Workplace, pipeline: &str, output: &str, done: usize) {
    let set = format!("output.path={}", place.text(output));
    let mut child = command(&["run", pipeline, "--set", &set, "--progress", "none"]).spawn().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while receipts(place, output) < done && child.try_wait().unwrap().is_none() && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

const ROWS: &str =
    "select clip_id, uri, fate, fate_reason, shard, key, \"offset\", size, caption from clips order by clip_id";

#[test]
fn a_killed_run_goes_on_to_the_same_dataset() {
    let place = workplace(24);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&place.run(&pipeline, "whole"), 0);
    for done in [0, 1, 3, 6] {
        kill_after(&place, &pipeline, "killed", done);
        assert!(!place.path("killed/dataset.json").exists(), "the run was over before it could be killed");
    }
    let kept = receipts(&place, "killed");
    assert!(kept >= 6);
    expect_code(&place.run(&pipeline, "killed"), 0);
    assert_eq!(place.shards("whole"), place.shards("killed"));
    assert_eq!(place.query("whole", ROWS), place.query("killed", ROWS));
    let runs = place.query("killed", "select units_resumed from runs");
    assert!(runs[0]["units_resumed"].as_u64().unwrap() as usize >= kept, "{runs:?}");
}

#[test]
fn the_dataset_does_not_depend_on_threads_or_memory() {
    let place = workplace(8);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&place.run(&pipeline, "a"), 0);
    let set = format!("output.path={}", place.text("b"));
    let narrow = ["--set", "run.threads=1", "--set", "run.memory_limit=64MiB"];
    expect_code(&simdrop(&[&["run", &pipeline, "--set", &set], &narrow[..]].concat()), 0);
    assert_eq!(place.shards("a"), place.shards("b"));
}

#[test]
fn a_second_run_has_nothing_to_do_and_a_new_clip_is_added() {
    let place = workplace(6);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    let before = std::fs::read(place.path("out/dataset.json")).unwrap();
    let again = place.run(&pipeline, "out");
    expect_code(&again, 0);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to do"));
    assert_eq!(before, std::fs::read(place.path("out/dataset.json")).unwrap());
    place.clip("carphone.mp4", "new.mp4");
    expect_code(&place.run(&pipeline, "out"), 0);
    let counts =
        place.query("out", "select count(*) as n, count(distinct clip_id) as ids from clips where fate = 'kept'");
    assert_eq!((counts[0]["n"].as_u64(), counts[0]["ids"].as_u64()), (Some(7), Some(7)));
}

#[test]
fn another_pipeline_is_refused_and_replaces_only_when_told_to() {
    let place = workplace(2);
    let pipeline = place.pipeline(DECODE, OUTPUT);
    expect_code(&place.run(&pipeline, "out"), 0);
    let set = format!("output.path={}", place.text("out"));
    let other = ["run", &pipeline, "--set", &set, "--set", "stages.decode.frames=4"];
    let refused = simdrop(&other);
    expect_code(&refused, 2);
    assert!(stderr(&refused).contains("--overwrite"), "{}", stderr(&refused));
    let old = place.shards("out");
    expect_code(&simdrop(&[&other[..], &["--overwrite"]].concat()), 0);
    let new = place.shards("out");
    assert_eq!(new.len(), old.len());
    assert!(new.keys().all(|shard| !old.contains_key(shard)), "{:?}", new.keys());
}

#[test]
fn of_two_runs_at_once_one_is_refused_and_the_other_finishes() {
    let place = workplace(30);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    let set = format!("output.path={}", place.text("out"));
    let first = command(&["run", &pipeline, "--set", &set, "--progress", "none"]).spawn().unwrap();
    while receipts(&place, "out") == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let second = place.run(&pipeline, "out");
    expect_code(&second, 1);
    assert!(stderr(&second).contains("another run is writing"), "{}", stderr(&second));
    expect_code(&first.wait_with_output().unwrap(), 0);
    assert_eq!(place.query("out", "select count(*) as n from clips")[0]["n"], 31);
}

#[test]
fn ctrl_c_finishes_what_is_under_way_and_the_run_goes_on_later() {
    let place = workplace(40);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    let set = format!("output.path={}", place.text("out"));
    let child = command(&["run", &pipeline, "--set", &set, "--progress", "none"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while receipts(&place, "out") == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let interrupt = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let stopped = child.wait_with_output().unwrap();
    expect_code(&stopped, 1);
    assert!(stderr(&stopped).contains("run the same command again"), "{}", stderr(&stopped));
    expect_code(&place.run(&pipeline, "out"), 0);
    assert_eq!(place.query("out", "select count(*) as n from clips")[0]["n"], 41);
}

#[test]
fn failed_clips_are_tried_again_when_asked_to() {
    let place = workplace(4);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    let fates = "select fate, count(*) as n from clips group by fate order by fate";
    assert_eq!(place.query("out", fates)[0]["n"], 1);
    // The same file as far as its name, size and time tell.
    let before = std::fs::metadata(place.path("clips/broken.mp4")).unwrap().modified().unwrap();
    let set = format!("output.path={}", place.text("out"));
    let retry = simdrop(&["run", &pipeline, "--set", &set, "--retry-failed", "--progress", "none"]);
    expect_code(&retry, 0);
    assert!(!String::from_utf8_lossy(&retry.stdout).contains("nothing to do"));
    assert_eq!(std::fs::metadata(place.path("clips/broken.mp4")).unwrap().modified().unwrap(), before);
    let counts = place.query("out", "select count(*) as n, count(distinct clip_id) as ids from clips");
    assert_eq!((counts[0]["n"].as_u64(), counts[0]["ids"].as_u64()), (Some(5), Some(5)));
    let runs = place.query("out", "select units, units_resumed from runs order by run");
    assert!(runs[1]["units"].as_u64() < runs[0]["units"].as_u64(), "{runs:?}");
    // Nothing is left to do, whether or not what a resume reads is still there.
    assert!(String::from_utf8_lossy(&place.run(&pipeline, "out").stdout).contains("nothing to do"));
}

#[test]
fn a_committed_dataset_needs_no_work_folder() {
    let place = workplace(4);
    let pipeline = place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&place.run(&pipeline, "out"), 0);
    std::fs::remove_dir_all(place.path("out/_work")).unwrap();
    assert!(String::from_utf8_lossy(&place.run(&pipeline, "out").stdout).contains("nothing to do"));
    let shards = std::fs::read_dir(place.path("out/shards")).unwrap();
    std::fs::remove_file(shards.flatten().next().unwrap().path()).unwrap();
    std::fs::remove_dir_all(place.path("out/_work")).unwrap();
    let mended = place.run(&pipeline, "out");
    expect_code(&mended, 0);
    assert!(!String::from_utf8_lossy(&mended.stdout).contains("nothing to do"));
}
