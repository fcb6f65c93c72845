//! What the program says, and with which exit code.

use super::program::{DECODE, OUTPUT, SCORE, Workplace, expect_code, simdrop, stderr, stdout};

#[test]
fn mistakes_are_shown_together_with_their_places() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    let pipeline = place.pipeline("  - decode: {framse: 8, width: wide}\n  - scoer: {}", OUTPUT);
    let made = simdrop(&["validate", &pipeline]);
    expect_code(&made, 2);
    let text = stderr(&made);
    for part in ["pipeline.yaml:7:", "framse", "frames", "wide", "scoer", "score"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn validate_opens_models_and_points_at_the_stage() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    let good = place.pipeline(SCORE, OUTPUT);
    let set = format!("output.path={}", place.text("out"));
    let made = simdrop(&["validate", &good, "--set", &set]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("denoiser-clean.onnx on cpu"), "{}", stdout(&made));
    assert!(!place.path("out").exists(), "validate leaves nothing behind");
    let wrong = place.pipeline(&SCORE.replace("height: 32", "height: 48"), OUTPUT);
    let made = simdrop(&["validate", &wrong, "--set", &set]);
    expect_code(&made, 2);
    assert!(stderr(&made).contains("pipeline.yaml:"), "{}", stderr(&made));
    let missing = place.pipeline(&SCORE.replace("denoiser-clean", "denoiser-none"), OUTPUT);
    let made = simdrop(&["validate", &missing, "--set", &set]);
    expect_code(&made, 2);
    assert!(stderr(&made).contains("denoiser-none"), "{}", stderr(&made));
}

#[test]
fn explain_shows_the_plan_and_analyze_its_metrics() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    let pipeline = place.pipeline(DECODE, OUTPUT);
    let made = simdrop(&["explain", &pipeline]);
    expect_code(&made, 0);
    for part in ["SinkExec", "StageExec: decode", "DataSourceExec"] {
        assert!(stdout(&made).contains(part), "{}", stdout(&made));
    }
    let made = simdrop(&["explain", &pipeline, "--analyze"]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("output_rows=1") && stdout(&made).contains("peak memory"), "{}", stdout(&made));
}

#[test]
fn answers_come_in_every_format() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    expect_code(&place.run(&place.pipeline(DECODE, OUTPUT), "out"), 0);
    let sql = "select codec, width from clips";
    let answer = |format: &str| simdrop(&["sql", &place.text("out"), sql, "--format", format]);
    assert_eq!(stdout(&answer("csv")), "codec,width\nh264,176\n");
    assert!(stdout(&answer("table")).contains("| h264  |   176 |"), "{}", stdout(&answer("table")));
    assert!(answer("parquet").stdout.starts_with(b"PAR1"));
    let wrong = simdrop(&["sql", &place.text("out"), "select widht from clips"]);
    expect_code(&wrong, 2);
    assert!(stderr(&wrong).contains("width"), "{}", stderr(&wrong));
    let write = simdrop(&["sql", &place.text("out"), "drop table clips"]);
    expect_code(&write, 2);
}

#[test]
fn every_named_query_runs_on_a_demo_dataset() {
    let place = Workplace::new();
    expect_code(&place.run("pipelines/demo.yaml", "out"), 0);
    for entry in std::fs::read_dir(super::program::root().join("sql")).unwrap() {
        let path = entry.unwrap().path().display().to_string();
        expect_code(&simdrop(&["sql", &place.text("out"), "-f", &path]), 0);
    }
}

#[test]
fn repack_writes_other_shards_from_what_is_stored() {
    let place = Workplace::new();
    for name in ["carphone.mp4", "bikes.mp4", "athlete-cam01.mp4"] {
        place.clip(name, name);
    }
    expect_code(&place.run(&place.pipeline(DECODE, OUTPUT), "out"), 0);
    let (from, to) = (place.text("out"), place.text("small"));
    let made = simdrop(&["repack", &from, "--output", &to, "--where", "width < 700", "--shuffle", "7"]);
    expect_code(&made, 0);
    let rows = place.query("small", "select fate, count(*) as n from clips group by fate order by fate");
    assert_eq!((&rows[0]["fate"], &rows[0]["n"]), (&"dropped".into(), &1.into()));
    assert_eq!((&rows[1]["fate"], &rows[1]["n"]), (&"kept".into(), &2.into()));
    assert!(place.shards("small").keys().all(|name| name.ends_with("-000000.tar")));
}

#[test]
fn noise_is_exported_as_npy() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    let made = simdrop(&["noise", &place.pipeline(SCORE, OUTPUT), "--output", &place.text("noise")]);
    expect_code(&made, 0);
    let file = stdout(&made).lines().find(|line| line.ends_with("epsilon.npy")).unwrap().to_owned();
    assert!(std::fs::read(file).unwrap().starts_with(b"\x93NUMPY"));
}

#[test]
fn an_unknown_dataset_or_verb_is_told_plainly() {
    let made = simdrop(&["sql", "/nowhere", "select 1"]);
    expect_code(&made, 1);
    assert!(stderr(&made).contains("no dataset at /nowhere"), "{}", stderr(&made));
    expect_code(&simdrop(&["rnu"]), 2);
}

#[test]
fn the_pipeline_of_the_readme_is_sound() {
    let readme = std::fs::read_to_string(super::program::root().join("README.md")).unwrap();
    let yaml = readme.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let place = Workplace::new();
    let path = place.path("readme.yaml");
    std::fs::write(&path, yaml).unwrap();
    // Only the clips that it names are not there, each at its place.
    let shown = stderr(&simdrop(&["validate", &path.display().to_string()]));
    assert!(shown.contains("source footage/**/*.mp4") && shown.contains("list renders/manifest.parquet"), "{shown}");
    assert!(shown.contains("readme.yaml:4:") && shown.contains("2 mistakes"), "{shown}");
}

#[test]
fn json_progress_is_a_stream_of_objects() {
    let place = Workplace::new();
    place.clip("walkers.mp4", "walkers.mp4");
    place.file("bad.mp4", b"no video");
    let pipeline = place.pipeline("  - decode: {width: 64, height: 64}", "output: {path: unset}");
    let set = format!("output.path={}", place.text("out"));
    let made = simdrop(&["--log", "info", "run", &pipeline, "--set", &set, "--progress", "json"]);
    expect_code(&made, 0);
    let lines: Vec<serde_json::Value> =
        stderr(&made).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(lines.iter().any(|line| line["log"].as_str().is_some_and(|text| text.contains("bad.mp4"))), "{lines:?}");
}
