use arrow::array::{AsArray, StringArray};
use arrow::datatypes::Float32Type;

use super::*;
use crate::stage::testing::{clips, context};

fn config() -> EmbedConfig {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/models/minilm-l6-v2-int8.onnx");
    serde_json::from_value(serde_json::json!({"model": folder, "column": "caption"})).unwrap()
}

async fn embedded(texts: Vec<Option<&str>>) -> ClipBatch {
    let clips = clips(vec![("caption", Arc::new(StringArray::from(texts)))]);
    let (stage, context) = (EmbedStage::new(config()), context());
    let operator = stage.open(&context, &clips.batch().schema()).unwrap();
    operator.process(clips, &StageTask::alone(context)).await.unwrap()
}

fn numbers(clips: &ClipBatch, row: usize) -> Vec<f32> {
    clips.column("text_embedding").unwrap().as_list::<i32>().value(row).as_primitive::<Float32Type>().values().to_vec()
}

fn likeness(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[tokio::test]
async fn texts_that_mean_the_same_are_close() {
    let clips = embedded(vec![
        Some("a man is running through a park"),
        Some("someone jogs outdoors"),
        Some("a glass of red wine on a table"),
        None,
        Some("a man is running through a park"),
    ])
    .await;
    let [run, jog, wine, again] = [0, 1, 2, 4].map(|row| numbers(&clips, row));
    assert_eq!(run.len(), 384);
    assert!((likeness(&run, &run) - 1.0).abs() < 1e-5);
    assert!(likeness(&run, &jog) > likeness(&run, &wine) + 0.2, "{} {}", likeness(&run, &jog), likeness(&run, &wine));
    assert_eq!(run, again);
    assert!(clips.column("text_embedding").unwrap().is_null(3));
    // Whatever the others in a batch are.
    assert_eq!(run, numbers(&embedded(vec![Some("a man is running through a park")]).await, 0));
}

#[test]
fn what_is_missing_is_named() {
    let clips = clips(vec![("caption", Arc::new(StringArray::from(vec!["x"])))]);
    let open = |config: EmbedConfig| {
        EmbedStage::new(config).open(&context(), &clips.batch().schema()).unwrap_err().to_string()
    };
    assert!(open(EmbedConfig { model: "none.onnx".to_owned(), ..config() }).contains("none.onnx"));
    assert!(open(EmbedConfig { column: "captoin".to_owned(), ..config() }).contains("caption"));
}
