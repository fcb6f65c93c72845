use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder};

use super::CaptionStage;
use super::config::CaptionConfig;
use crate::stage::testing::{clips, fates, process};
use crate::stage::{ClipBatch, Stage};

fn stage(yaml: &str) -> CaptionStage {
    CaptionStage::new(serde_saphyr::from_str::<CaptionConfig>(yaml).unwrap())
}

/// `caption` from `caption_source`, or the fate, of every row.
async fn captions(yaml: &str, clips: ClipBatch) -> Vec<String> {
    let after = process(&stage(yaml), clips).await.unwrap();
    let text = |name: &str, row: usize| {
        let array = after.batch()[name].as_string::<i32>();
        if array.is_valid(row) { array.value(row).to_owned() } else { "null".to_owned() }
    };
    fates(&after)
        .into_iter()
        .enumerate()
        .map(|(row, fate)| match fate.as_str() {
            "" => format!("{} [{}]", text("caption", row), text("caption_source", row)),
            _ => fate,
        })
        .collect()
}

fn texts(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn uris(folder: &Path, names: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(names.iter().map(|name| folder.join(name).display().to_string())))
}

#[tokio::test]
async fn the_first_origin_with_a_text_wins() {
    let columns = vec![
        ("caption", texts(vec![Some(" old "), Some(""), None, Some("\n ")])),
        ("alt", texts(vec![Some("a"), Some("b"), Some(" "), None])),
    ];
    let found = captions("from: [{column: caption}, {column: alt}]", clips(columns.clone())).await;
    assert_eq!(found, ["old [column:caption]", "b [column:alt]", " [null]", " [null]"]);
    let found = captions("{from: [{column: alt}], missing: drop}", clips(columns.clone())).await;
    assert_eq!(found[2..], ["dropped: no caption", "dropped: no caption"]);
    let found = captions("{from: [{column: alt}], missing: fail}", clips(columns)).await;
    assert_eq!(found[3], "failed: no caption: no origin has a text");
}

#[tokio::test]
async fn sidecars_are_read_beside_the_clips() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("a.txt", "\u{feff}  a dog runs\n".as_bytes());
    write("b.txt", &[b'x', 0xff]);
    write("c.txt", b" \n");
    let names = ["a.mp4", "b.mp4", "c.mp4", "d.mp4"];
    let batch = clips(vec![("uri", uris(folder.path(), &names))]);
    let found = captions("from: [{sidecar: {extension: txt}}, {template: 'clip {{ source }}'}]", batch).await;
    assert_eq!(found[0], "a dog runs [sidecar]");
    let file = folder.path().join("b.txt");
    assert_eq!(found[1], format!("failed: caption file {}: it is no UTF-8 text: byte 1 is wrong", file.display()));
    assert_eq!(found[2..], ["clip source2 [template]", "clip source3 [template]"]);
}

#[tokio::test]
async fn json_sidecars_hold_the_text_in_a_field() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.json", r#"{"prompt": "a cat", "caption": "no"}"#);
    write("b.json", r#"{"prompt": 3}"#);
    write("c.json", "{");
    write("d.json", r#"{"prompt": null}"#);
    let batch = clips(vec![("uri", uris(folder.path(), &["a.mp4", "b.mp4", "c.mp4", "d.mp4"]))]);
    let found = captions("from: [{sidecar: {extension: json, field: prompt}}]", batch).await;
    assert_eq!(found[0], "a cat [sidecar]");
    assert!(found[1].contains("b.json: field prompt is 3, text was expected"), "{found:?}");
    assert!(found[2].contains("c.json: it is no valid JSON"), "{found:?}");
    assert_eq!(found[3], " [null]");
}

#[tokio::test]
async fn a_template_sees_numbers_lists_and_nulls() {
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("dog"), Some("ball")]);
    tags.append_null();
    let batch = clips(vec![
        ("tags", Arc::new(tags.finish()) as ArrayRef),
        ("duration_s", Arc::new(Float64Array::from(vec![Some(3.26), Some(1.0)]))),
        ("frame_count", Arc::new(Int64Array::from(vec![Some(80), None]))),
        ("scene", texts(vec![Some(r#"{"camera": {"move": "dolly"}}"#), None])),
    ]);
    let template = "{% if tags %}{{ tags | join(' and ') }}{% else %}something{% endif %} \
                    for {{ duration_s | round(1) }} s, {{ frame_count }} of {{ frame_count or 'no' }} frames, \
                    {{ (scene | fromjson).camera.move if scene else 'still' }}";
    let found = captions(&format!("from: [{{template: \"{template}\"}}]"), batch).await;
    assert_eq!(
        found,
        [
            "dog and ball for 3.3 s, 80 of 80 frames, dolly [template]",
            "something for 1.0 s,  of no frames, still [template]",
        ]
    );
}

#[tokio::test]
async fn a_clip_that_a_template_cannot_be_applied_to_fails_alone() {
    let batch = clips(vec![("duration_s", Arc::new(Float64Array::from(vec![Some(2.0), None])) as ArrayRef)]);
    let found = captions("from: [{template: '{{ duration_s + 1 }}'}]", batch).await;
    assert_eq!(found[0], "3.0 [template]");
    assert!(found[1].starts_with("failed: caption template: line 1: "), "{found:?}");
}

#[tokio::test]
async fn many_rows_keep_their_order() {
    let rows: Vec<i64> = (0..500).collect();
    let batch = clips(vec![("size_bytes", Arc::new(Int64Array::from(rows.clone())) as ArrayRef)]);
    let found = captions("from: [{template: '{{ size_bytes }}'}]", batch).await;
    assert_eq!(found, rows.iter().map(|row| format!("{row} [template]")).collect::<Vec<_>>());
}

#[test]
fn mistakes_are_found_without_any_clip() {
    let schema = clips(vec![("alt", texts(vec![None]))]).batch().schema();
    let problem = |yaml: &str| {
        let error = stage(yaml).output_schema(&schema).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    };
    assert!(problem("from: []").contains("from is empty"));
    assert!(problem("from: [{column: alto}]").contains("did you mean alt?"));
    assert!(problem("from: [{column: width}]").contains("text was expected"));
    assert!(problem("from: [{sidecar: {extension: .txt}}]").contains("write txt"));
    assert!(problem("from: [{sidecar: {extension: ''}}]").contains("write txt or json"));
    assert_eq!(
        problem("from: [{template: 'a {{ sauce }} clip'}]"),
        "stage caption: there is no column sauce; did you mean source?"
    );
    let found = problem("from: [{template: \"a\\n{{ source\"}]");
    assert!(found.starts_with("stage caption: caption template: line 2: syntax error"), "{found}");
    let found = problem("from: [{template: '{{ source | uper }}'}]");
    assert!(found.contains("uper"), "{found}");
}
