use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, StringArray};

use super::SimdropStage;
use super::config::SimdropConfig;
use crate::stage::testing::{clips, context, fates, process};
use crate::stage::{ClipBatch, Stage};

fn stage(yaml: &str) -> SimdropStage {
    SimdropStage::new(serde_saphyr::from_str::<SimdropConfig>(yaml).unwrap())
}

fn scored() -> ClipBatch {
    clips(vec![
        (
            "source",
            Arc::new(StringArray::from(vec!["real", "synthetic", "synthetic", "other", "synthetic"])) as ArrayRef,
        ),
        ("simdrop_score", Arc::new(Float64Array::from(vec![Some(0.5), Some(0.12), Some(0.3), None, Some(f64::NAN)]))),
    ])
}

fn problem(yaml: &str) -> String {
    let error = stage(yaml).output_schema(&scored().batch().schema()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[tokio::test]
async fn above_the_threshold_is_dropped_and_no_score_fails() {
    let after = process(&stage("threshold: 0.12"), scored()).await.unwrap();
    assert_eq!(
        fates(&after),
        [
            "dropped: simdrop_score above 0.12 (0.5)",
            "",
            "dropped: simdrop_score above 0.12 (0.3)",
            "failed: simdrop_score is null: the clip has no score to judge it by",
            "failed: simdrop_score is not a number: the clip has no score to judge it by",
        ]
    );
}

#[tokio::test]
async fn only_some_clips_are_judged() {
    let after = process(&stage("{threshold: 0.12, only: \"source = 'synthetic'\"}"), scored()).await.unwrap();
    let fates = fates(&after);
    assert_eq!((fates[0].as_str(), fates[1].as_str(), fates[3].as_str()), ("", "", ""));
    assert_eq!(fates[2], "dropped: simdrop_score above 0.12 (0.3)");
    assert!(fates[4].starts_with("failed: "));
}

#[tokio::test]
async fn every_group_has_its_threshold() {
    let after = process(&stage("groups: {by: source, values: {real: 0.4, synthetic: 0.31}}"), scored()).await.unwrap();
    let found = fates(&after);
    assert_eq!(&found[..4], ["dropped: simdrop_score above 0.4 for source real (0.5)", "", "", ""]);
    let with_default = stage("groups: {by: source, values: {real: 1}, default: 0}");
    let found = fates(&process(&with_default, scored()).await.unwrap());
    assert_eq!(
        (found[0].as_str(), found[1].as_str()),
        ("", "dropped: simdrop_score above 0 for source synthetic (0.12)")
    );
}

#[tokio::test]
async fn thresholds_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        stage(&format!("thresholds: {}", folder.path().join(name).display()))
    };
    let yaml = file("t.yaml", "simdrop_score: 0.31\nother: {by: x, values: {}}\n");
    assert_eq!(fates(&process(&yaml, scored()).await.unwrap())[2], "");
    let json = file("t.json", r#"{"simdrop_score": {"by": "source", "values": {"synthetic": 0.2}}}"#);
    let found = fates(&process(&json, scored()).await.unwrap());
    assert_eq!(
        (found[0].as_str(), found[2].as_str()),
        ("", "dropped: simdrop_score above 0.2 for source synthetic (0.3)")
    );

    let problem = |stage: SimdropStage| {
        let error = stage.open(&context(), &scored().batch().schema()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    assert!(problem(file("a.yaml", "simdrop_scores: 1")).contains("did you mean simdrop_scores?"));
    assert!(problem(file("b.yaml", "simdrop_score: {by: source}")).contains("missing field `values`"));
    assert!(problem(file("c.yaml", "simdrop_score: high")).contains("neither a number nor groups"));
    assert!(problem(file("d.yaml", "simdrop_score: [")).contains("thresholds file"));
    assert!(problem(file("e.yaml", "simdrop_score: {by: sauce, values: {}}")).contains("did you mean source?"));
    assert!(problem(stage("thresholds: /nowhere/t.yaml")).contains("cannot be read"));
}

#[tokio::test]
async fn a_score_may_be_of_any_type_of_number() {
    let scores: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.1]));
    let after = process(&stage("{threshold: 0.25, score: mine}"), clips(vec![("mine", scores)])).await.unwrap();
    assert_eq!(fates(&after), ["dropped: mine above 0.25 (0.5)", ""]);
}

#[test]
fn mistakes_are_found_without_any_file() {
    assert_eq!(
        problem("{threshold: 1, score: simdrop_scor}"),
        "stage simdrop: there is no column simdrop_scor; did you mean simdrop_score?"
    );
    assert!(problem("{threshold: 1, score: source}").contains("a number was expected"));
    assert!(problem("{}").contains("give one of"));
    assert!(problem("{threshold: 1, thresholds: t.yaml}").contains("give only one of"));
    assert!(problem("{threshold: .nan}").contains("not a number"));
    assert!(problem("{threshold: 1, only: sauce = 'real'}").contains("did you mean source?"));
    assert!(problem("{groups: {by: sauce, values: {}}}").contains("did you mean source?"));
    assert!(problem("{groups: {by: tags, values: {}}}").contains("text was expected"));
}
