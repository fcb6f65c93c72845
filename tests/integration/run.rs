//! Pipelines over real clips.

use super::program::{DECODE, OUTPUT, SCORE, Workplace, expect_code, stdout};

#[test]
fn the_demo_runs_from_yaml_to_shards() {
    let place = Workplace::new();
    let made = place.run("pipelines/demo.yaml", "out");
    expect_code(&made, 0);
    assert!(stdout(&made).contains("kept"), "{}", stdout(&made));
    let rows = place.query("out", "select count(*) as n, count(distinct clip_id) as ids from clips");
    assert_eq!(rows[0]["n"], rows[0]["ids"]);
    let real = "select count(*) as n, count(simdrop_score) as scored from clips where source = 'real'";
    assert_eq!(place.query("out", real)[0], serde_json::json!({"n": 6, "scored": 6}));
    let rendered = "select count(*) as n, count(caption) as captions from clips where generator like 'blender-4%'";
    let rendered = place.query("out", rendered);
    assert!(rendered[0]["n"].as_u64() > Some(40) && rendered[0]["n"] == rendered[0]["captions"], "{rendered:?}");
    assert_eq!(place.query("out", "select count(*) as n from clips where fate = 'failed'")[0]["n"], 0);
}

#[test]
fn every_example_runs() {
    for entry in std::fs::read_dir(super::program::root().join("pipelines")).unwrap() {
        let path = entry.unwrap().path();
        // The recipes of the reference denoisers want renders, and take minutes.
        if path.is_dir() {
            continue;
        }
        let place = Workplace::new();
        expect_code(&place.run(&path.display().to_string(), "out"), 0);
        assert!(place.path("out/dataset.json").exists(), "{}", path.display());
    }
}

#[test]
fn a_score_does_not_depend_on_the_company_of_a_clip() {
    let (alone, company) = (Workplace::new(), Workplace::new());
    alone.clip("carphone.mp4", "carphone.mp4");
    for name in ["carphone.mp4", "bikes.mp4", "athlete-cam01.mp4", "big-buck-bunny.mp4"] {
        company.clip(name, name);
    }
    let scores = [&alone, &company].map(|place| {
        expect_code(&place.run(&place.pipeline(SCORE, OUTPUT), "out"), 0);
        let sql = "select simdrop_score, simdrop_score_base_loss from clips where uri like '%carphone.mp4'";
        place.query("out", sql)
    });
    assert_eq!(scores[0], scores[1]);
}

#[test]
fn what_simdrop_drops_has_its_stage_reason_and_number() {
    let place = Workplace::new();
    place.clip("carphone.mp4", "a.mp4");
    place.clip("bikes.mp4", "b.mp4");
    let stages = format!("{SCORE}\n  - simdrop: {{threshold: -100.0, only: \"uri like '%a.mp4'\"}}");
    expect_code(&place.run(&place.pipeline(&stages, OUTPUT), "out"), 0);
    let rows = place
        .query("out", "select fate, fate_stage, fate_reason, fate_value, simdrop_score, shard from clips order by uri");
    assert_eq!((&rows[0]["fate"], &rows[0]["fate_stage"]), (&"dropped".into(), &"simdrop".into()));
    assert_eq!(rows[0]["fate_value"], rows[0]["simdrop_score"]);
    assert!(rows[0]["fate_reason"].as_str().unwrap().contains("-100"));
    assert_eq!(rows[1]["fate"], "kept");
}

#[test]
fn windows_become_clips_of_their_own() {
    let place = Workplace::new();
    place.clip("bikes.mp4", "bikes.mp4");
    let stages = format!("  - split: {{length_s: 2.0}}\n{DECODE}");
    expect_code(&place.run(&place.pipeline(&stages, OUTPUT), "out"), 0);
    let rows = place.query("out", "select start_s, end_s, fate, frame_count, key, clip_id from clips order by start_s");
    assert_eq!(rows.len(), 5);
    for (number, row) in rows.iter().enumerate() {
        assert_eq!(row["fate"], "kept");
        assert_eq!(row["end_s"].as_f64(), Some(2.0 * (number + 1) as f64));
        assert_eq!(row["frame_count"], 50);
    }
}
