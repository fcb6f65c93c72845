use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::Int32Type;

use super::config::{DecodeAlso, ShortClip};
use super::*;
use crate::stage::testing::context;
use crate::video::Reader;

/// A batch of clips with nothing but what a manifest gives.
fn clips(rows: &[(&Path, Option<f64>, Option<f64>)]) -> ClipBatch {
    let schema = schema::clip_schema();
    let text = |value: &str| Arc::new(StringArray::from(vec![value; rows.len()])) as ArrayRef;
    let empty = arrow::record_batch::RecordBatch::try_new(
        Arc::clone(&schema),
        schema
            .fields()
            .iter()
            .map(|field| {
                if field.is_nullable() {
                    arrow::array::new_null_array(field.data_type(), rows.len())
                } else {
                    text("x")
                }
            })
            .collect(),
    );
    let uris = rows.iter().map(|(path, ..)| path.to_str().unwrap());
    ClipBatch::new(empty.unwrap())
        .with_columns(
            &schema,
            vec![
                (schema::URI, Arc::new(StringArray::from_iter_values(uris)) as ArrayRef),
                (schema::START_S, Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1)))),
                (schema::END_S, Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.2)))),
            ],
        )
        .unwrap()
}

fn make(folder: &Path, name: &str, settings: &str) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=192x108:r=25:d=2"]);
    let status = command.args(settings.split_whitespace()).arg(&path).status().unwrap();
    assert!(status.success());
    path
}

fn small() -> DecodeConfig {
    DecodeConfig { frames: Some(4), width: Some(16), height: Some(8), ..DecodeConfig::default() }
}

async fn run_in(context: &Arc<StageContext>, config: DecodeConfig, batch: ClipBatch) -> Result<ClipBatch> {
    let stage = DecodeStage::new(config);
    let operator = stage.open(context, &batch.batch().schema())?;
    let decoded = operator.process(batch.clone(), &StageTask::alone(Arc::clone(context))).await?;
    assert_eq!(decoded.batch().schema(), stage.output_schema(&batch.batch().schema())?);
    assert_eq!(decoded.rows(), batch.rows());
    Ok(decoded)
}

async fn run(config: DecodeConfig, batch: ClipBatch) -> ClipBatch {
    run_in(&context(), config, batch).await.unwrap()
}

fn reason(batch: &ClipBatch, row: usize) -> String {
    assert_eq!(batch.text(schema::FATE).unwrap().value(row), "failed");
    assert_eq!(batch.text(schema::FATE_STAGE).unwrap().value(row), "decode");
    assert!(batch.column(schema::FRAMES).unwrap().is_null(row));
    batch.text(schema::FATE_REASON).unwrap().value(row).to_owned()
}

#[tokio::test]
async fn fills_frames_and_media_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let also = DecodeAlso { column: "large".to_owned(), width: Some(64), height: None, fit: None, filter: None };
    let context = context();
    let config = DecodeConfig { also: vec![also], ..small() };
    let batch = run_in(&context, config, clips(&[(&path, Some(0.4), Some(1.2))])).await.unwrap();
    let shape = |column: &str| {
        let view = frames::view(batch.column(column).unwrap(), 0).unwrap().unwrap();
        assert_eq!(view.data.len(), view.frames * view.height * view.width * 3);
        [view.frames, view.height, view.width]
    };
    assert_eq!((shape("frames"), shape("large")), ([4, 8, 16], [4, 36, 64]));
    assert_eq!(batch.column(schema::WIDTH).unwrap().as_primitive::<Int32Type>().value(0), 192);
    assert_eq!(batch.long(schema::FRAME_COUNT).unwrap().value(0), 20);
    assert_eq!(batch.text(schema::CODEC).unwrap().value(0), "h264");
    assert!((batch.real(schema::DURATION_S).unwrap().value(0) - 0.8).abs() < 1e-9);
    assert!((batch.real(schema::FPS).unwrap().value(0) - 25.0).abs() < 1e-9);
    assert!(batch.text(schema::FATE).unwrap().is_null(0));
    assert_eq!(context.workspace.used(), 0);
}

#[tokio::test]
async fn bad_clips_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let good = make(folder.path(), "good.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let text = folder.path().join("text.mp4");
    std::fs::write(&text, "no video").unwrap();
    let nowhere = folder.path().join("nowhere.mp4");
    let batch = run(small(), clips(&[(&text, None, None), (&good, None, None), (&nowhere, None, None)])).await;
    assert!(reason(&batch, 0).contains("text"));
    assert!(batch.text(schema::FATE).unwrap().is_null(1));
    assert!(reason(&batch, 2).contains("No such file"), "{}", reason(&batch, 2));
}

#[tokio::test]
async fn a_short_clip_fails_with_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "short.mp4", "-c:v libx264 -frames:v 2");
    let batch = run(small(), clips(&[(&path, None, None)])).await;
    assert!(reason(&batch, 0).contains("2 frames, 4"), "{}", reason(&batch, 0));
    assert_eq!(batch.column(schema::WIDTH).unwrap().as_primitive::<Int32Type>().value(0), 192);
    let repeat = DecodeConfig { short: ShortClip::Repeat, ..small() };
    assert!(run(repeat, clips(&[(&path, None, None)])).await.text(schema::FATE).unwrap().is_null(0));
}

#[tokio::test]
async fn frames_beyond_the_memory_fail_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let config = DecodeConfig { width: Some(16_000), height: Some(16_000), frames: Some(2), ..DecodeConfig::default() };
    let batch = run(config.clone(), clips(&[(&path, None, None)])).await;
    assert!(reason(&batch, 0).contains("run.memory_limit"), "{}", reason(&batch, 0));
    let batch = run(DecodeConfig { frames: Some(50), ..config }, clips(&[(&path, None, None)])).await;
    assert!(reason(&batch, 0).contains("2 GiB"), "{}", reason(&batch, 0));
}

#[tokio::test]
async fn a_stopped_run_is_no_fault_of_the_clip() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let context = context();
    context.cancel.cancel();
    let error = run_in(&context, small(), clips(&[(&path, None, None)])).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(context.workspace.used(), 0);
}

#[test]
fn columns_are_checked() {
    let schema = schema::clip_schema();
    let with = |config: DecodeConfig| DecodeStage::new(config).output_schema(&schema).unwrap_err().to_string();
    assert!(with(DecodeConfig { column: schema::CAPTION.to_owned(), ..small() }).contains("caption"));
    let also = DecodeAlso { column: schema::FRAMES.to_owned(), width: None, height: None, fit: None, filter: None };
    assert!(with(DecodeConfig { also: vec![also], ..small() }).contains("frames"));
    assert!(with(DecodeConfig { fps: Some(0.0), ..small() }).contains("above 0"));
}

#[tokio::test]
async fn an_object_store_gives_the_same_frames() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -g 10 -pix_fmt yuv420p -b:v 20M");
    let location = context().storage.locate(path.to_str().unwrap()).unwrap();
    let decode = |source: Box<dyn video::MediaSource>| {
        let mut reader = Reader::open(source, &Caps::default()).unwrap();
        let plan = reader.plan((Some(0.9), None), &Sampling::ALL).unwrap();
        reader.decode(&plan, &targets(&small())).unwrap().remove(0).data
    };
    let work = move || {
        let stored = decode(Box::new(video::StoreSource::open(&location).unwrap()));
        stored == decode(video::open_source(&location, None).unwrap())
    };
    assert!(tokio::task::spawn_blocking(work).await.unwrap());
}
