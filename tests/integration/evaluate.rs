//! Judging a score by labels, and the thresholds that come of it.

use serde_json::Value;

use super::program::{Workplace, expect_code, simdrop, stderr, stdout};

/// Scores and measures of the shipped clips with defects.
fn scored(place: &Workplace, rest: &str) -> String {
    let yaml = format!(
        "name: judged\nsources: [{{kind: synthetic, list: data/clips/synthetic/defects.parquet}}, {{kind: real, path: \
         data/clips/real/carphone.mp4}}]\nstages:\n  - measure: {{}}\n{}\n{rest}\noutput: {{path: {}}}\n",
        super::program::SCORE,
        place.text("scored")
    );
    // The measure needs frames, so it comes behind the decoder.
    let yaml = yaml.replace("  - measure: {}\n", "").replace("  - score:", "  - measure: {}\n  - score:");
    std::fs::write(place.path("judge.yaml"), yaml).unwrap();
    place.text("judge.yaml")
}

#[test]
fn a_score_is_judged_by_label_beside_a_baseline() {
    let place = Workplace::new();
    expect_code(&simdrop(&["run", &scored(&place, ""), "--progress", "none"]), 0);
    let dataset = place.text("scored");
    let made = simdrop(&["evaluate", "filter", &dataset, "--together", "noise,flicker,popping", "--format", "json"]);
    expect_code(&made, 0);
    let report: Value = serde_json::from_slice(&made.stdout).unwrap();
    let ranked = |report: &Value, by: &str| -> Vec<Value> {
        let rankings = report["rankings"].as_array().unwrap();
        let ranking = rankings.iter().find(|ranking| ranking["by"] == by).unwrap();
        ranking["found"].as_array().unwrap().clone()
    };
    let found = ranked(&report, "simdrop_score");
    let noise = found.iter().find(|found| found["label"] == "noise").unwrap();
    assert_eq!(noise["clips"], serde_json::json!([3, 6]));
    assert_eq!(noise["pairs"][1], 3);
    let area = &noise["area"];
    let (low, area, high) = (area["low"].as_f64(), area["auroc"].as_f64(), area["high"].as_f64());
    assert!(low <= area && area <= high && (0.0..=1.0).contains(&area.unwrap()), "{noise}");
    assert_eq!(found.last().unwrap()["label"], "together");
    assert_eq!(found.last().unwrap()["clips"], serde_json::json!([9, 6]));
    assert_eq!(ranked(&report, "both").len(), found.len());
    assert_eq!(report["features"].as_array().unwrap().len(), 9);
    assert!(report["seconds_per_clip"]["score"].as_f64().unwrap() > 0.0);
    let counted: u64 = report["histograms"]["simdrop_score"]["counts"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|bars| bars.as_array().unwrap())
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(counted, 37);
    // Of noise that fills the picture, the baseline knows.
    let baseline = ranked(&report, "baseline");
    let baseline = baseline.iter().find(|found| found["label"] == "noise").unwrap();
    assert!(baseline["area"]["auroc"].as_f64().unwrap() > 0.8, "{baseline}");
    let table = simdrop(&["evaluate", "filter", &dataset]);
    assert!(
        stdout(&table).contains("wrong_gravity") && stdout(&table).contains("simdrop_score above"),
        "{}",
        stdout(&table)
    );
    // A measure may be judged as a score, and is a feature of the baseline all the same.
    let scores = "simdrop_score,measure_jump";
    let made = simdrop(&["evaluate", "filter", &dataset, "--score", scores, "--format", "json"]);
    expect_code(&made, 0);
    let several: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(ranked(&several, "measure_jump").len(), ranked(&several, "scores").len());
    assert_eq!(several["features"].as_array().unwrap().len(), 9);
    // The windows of a file count once; here every file is one clip.
    let args = ["--worst-of", "uri", "--together", "noise,flicker,popping", "--format", "json"];
    let made = simdrop(&[&["evaluate", "filter", dataset.as_str()], args.as_slice()].concat());
    let same: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(&same["histograms"], &report["histograms"]);
    assert_eq!(ranked(&same, "simdrop_score"), found);
    // Several scores are judged each and together.
    let args = ["--score", "simdrop_score,simdrop_score_base_loss", "--format", "json"];
    let made = simdrop(&[&["evaluate", "filter", dataset.as_str()], args.as_slice()].concat());
    let several: Value = serde_json::from_slice(&made.stdout).unwrap();
    let names: Vec<&str> =
        several["rankings"].as_array().unwrap().iter().filter_map(|ranking| ranking["by"].as_str()).collect();
    assert_eq!(names, ["simdrop_score", "simdrop_score_base_loss", "scores", "baseline", "both"]);
    assert_ne!(ranked(&several, "simdrop_score_base_loss"), ranked(&several, "simdrop_score"));
    let wrong = simdrop(&["evaluate", "filter", &dataset, "--score", "simdrop_scor"]);
    expect_code(&wrong, 2);
    assert!(stderr(&wrong).contains("did you mean simdrop_score?"), "{}", stderr(&wrong));
}

#[test]
fn thresholds_are_made_of_scores_and_decide_the_next_run() {
    let place = Workplace::new();
    expect_code(&simdrop(&["run", &scored(&place, ""), "--progress", "none"]), 0);
    let (dataset, file) = (place.text("scored"), place.text("thresholds.json"));
    let made = simdrop(&["calibrate", &dataset, "--quantile", "0.5", "-o", &file, "--where", "source = 'synthetic'"]);
    expect_code(&made, 0);
    assert!(stdout(&made).contains("drops 50.0 % of 36 clips"), "{}", stdout(&made));
    let threshold = format!("  - simdrop: {{thresholds: {file}, only: \"source = 'synthetic'\"}}");
    expect_code(&simdrop(&["run", &scored(&place, &threshold), "--progress", "none", "--overwrite"]), 0);
    let dropped = place.query("scored", "select count(*) as n from clips where fate = 'dropped'");
    assert_eq!(dropped[0]["n"], 18);
    // Each source its own threshold.
    let grouped = simdrop(&["calibrate", &dataset, "--quantile", "1", "-o", &file, "--by", "source"]);
    expect_code(&grouped, 0);
    let thresholds: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(thresholds["simdrop_score"]["by"], "source");
    assert_eq!(thresholds["simdrop_score"]["values"].as_object().unwrap().len(), 2);
    assert_eq!(thresholds["made"]["aim"]["quantile"], 1.0);
    expect_code(&simdrop(&["run", &scored(&place, &threshold), "--progress", "none", "--overwrite"]), 0);
    let kept = place.query("scored", "select count(*) as n from clips where fate = 'kept'");
    assert_eq!(kept[0]["n"], 37);
    let none = simdrop(&["calibrate", &dataset, "-o", &file]);
    expect_code(&none, 2);
    assert!(stderr(&none).contains("--quantile"), "{}", stderr(&none));
}
