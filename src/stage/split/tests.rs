use std::path::{Path, PathBuf};
use std::process::Command;

use arrow::array::{Array, new_null_array};
use arrow::record_batch::RecordBatch;

use super::*;
use crate::stage::frames;
use crate::stage::testing::context;

const TEN: Windows = Windows { length: 4.0, stride: 4.0, minimum: 4.0 };

#[test]
fn windows_touch_overlap_and_end() {
    assert_eq!(TEN.cut(0.0, 10.0), [(0.0, 4.0), (4.0, 8.0)]);
    assert_eq!(Windows { minimum: 1.0, ..TEN }.cut(0.0, 10.0), [(0.0, 4.0), (4.0, 8.0), (8.0, 10.0)]);
    assert_eq!(Windows { stride: 3.0, ..TEN }.cut(0.0, 10.0), [(0.0, 4.0), (3.0, 7.0), (6.0, 10.0)]);
    assert_eq!(Windows { stride: 1.0, minimum: 1.0, ..TEN }.cut(0.0, 5.0), [(0.0, 4.0), (1.0, 5.0)]);
    assert_eq!(Windows { stride: 6.0, ..TEN }.cut(2.0, 12.0), [(2.0, 6.0), (8.0, 12.0)]);
    assert_eq!(TEN.cut(0.0, 3.9), []);
    // A container that rounds its length down a little still has the whole window.
    assert_eq!(TEN.cut(0.0, 3.9995), [(0.0, 4.0)]);
    assert_eq!(TEN.cut(5.0, 5.0), []);
}

#[test]
fn identity_depends_on_parent_and_span() {
    let id = window_id("parent", 0.0, 4.0);
    assert_eq!(id.len(), 32);
    assert_eq!(id, window_id("parent", 0.0, 4.0));
    assert_ne!(id, window_id("parent", 0.0, 5.0));
    assert_ne!(id, window_id("parent", 4.0, 4.0));
    assert_ne!(id, window_id("other", 0.0, 4.0));
}

fn make(folder: &Path, name: &str, arguments: &str) -> PathBuf {
    let path = folder.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2"]);
    assert!(command.args(arguments.split_whitespace()).arg(&path).status().unwrap().success());
    path
}

async fn split(config: SplitConfig, path: &Path, span: (Option<f64>, Option<f64>)) -> ClipBatch {
    let context = context();
    let schema = schema::clip_schema();
    let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let arrays = schema.fields().iter().map(|field| match field.name().as_str() {
        schema::URI => text(path.to_str().unwrap()),
        _ if field.is_nullable() => new_null_array(field.data_type(), 1),
        name => text(name),
    });
    let clip = ClipBatch::new(RecordBatch::try_new(Arc::clone(&schema), arrays.collect()).unwrap());
    let clip = clip
        .with_columns(
            &schema,
            vec![
                (schema::START_S, Arc::new(Float64Array::from(vec![span.0])) as ArrayRef),
                (schema::END_S, Arc::new(Float64Array::from(vec![span.1]))),
            ],
        )
        .unwrap();
    let operator = SplitStage::new(config).open(&context, &schema).unwrap();
    operator.process(clip, &StageTask::alone(context)).await.unwrap()
}

fn half_seconds() -> SplitConfig {
    SplitConfig { name: None, length_s: 0.5, stride_s: None, minimum_s: None, max_pixels: None, timeout_s: None }
}

#[tokio::test]
async fn one_clip_becomes_several() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let windows = split(half_seconds(), &path, (None, None)).await;
    assert_eq!(windows.rows(), 4);
    assert_eq!(windows.span(3).unwrap(), (Some(1.5), Some(2.0)));
    assert_eq!(windows.real(schema::DURATION_S).unwrap().value(1), 0.5);
    assert_eq!(windows.text(schema::CODEC).unwrap().value(1), "h264");
    assert!(windows.long(schema::FRAME_COUNT).unwrap().is_null(0));
    let ids: std::collections::HashSet<&str> = windows.text(schema::CLIP_ID).unwrap().iter().flatten().collect();
    assert_eq!(ids.len(), 4);
    let within = split(half_seconds(), &path, (Some(0.3), Some(1.4))).await;
    assert_eq!((within.rows(), within.span(1).unwrap()), (2, (Some(0.8), Some(1.3))));
}

#[tokio::test]
async fn a_window_that_comes_again_stays_the_clip_that_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let rest = SplitConfig { length_s: 0.3, minimum_s: Some(0.1), ..half_seconds() };
    for config in [half_seconds(), rest] {
        let windows = split(config.clone(), &path, (None, None)).await;
        for row in 0..windows.rows() {
            let span = windows.span(row).unwrap();
            let again = split(config.clone(), &path, span).await;
            assert_eq!((again.rows(), again.span(0).unwrap()), (1, span));
            assert_eq!(again.text(schema::CLIP_ID).unwrap().value(0), schema::CLIP_ID, "that of the row that came");
        }
    }
}

#[tokio::test]
async fn too_short_is_dropped_and_unreadable_failed() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mp4", "-c:v libx264 -pix_fmt yuv420p");
    let long = SplitConfig { length_s: 5.0, ..half_seconds() };
    let dropped = split(long, &path, (None, None)).await;
    assert_eq!(dropped.text(schema::FATE).unwrap().value(0), "dropped");
    assert_eq!(dropped.real(schema::FATE_VALUE).unwrap().value(0), 2.0);
    assert_eq!(dropped.text(schema::CLIP_ID).unwrap().value(0), schema::CLIP_ID);
    let failed = split(half_seconds(), &folder.path().join("nowhere.mp4"), (None, None)).await;
    assert_eq!(failed.text(schema::FATE).unwrap().value(0), "failed");
}

/// The bytes of a Matroska file whose header claims a length of 1,000,000 s.
fn claiming_days(path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.windows(3).position(|window| window == [0x44, 0x89, 0x88]).unwrap() + 3;
    bytes[at..at + 8].copy_from_slice(&1e9_f64.to_be_bytes());
    bytes
}

#[tokio::test]
async fn a_length_that_is_a_lie_makes_no_million_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = make(folder.path(), "clip.mkv", "-c:v libx264 -pix_fmt yuv420p");
    std::fs::write(&path, claiming_days(&path)).unwrap();
    let config = SplitConfig { length_s: 0.01, ..half_seconds() };
    let failed = split(config, &path, (None, None)).await;
    assert_eq!(failed.rows(), 1);
    assert_eq!(failed.text(schema::FATE).unwrap().value(0), "failed");
    let reason = failed.text(schema::FATE_REASON).unwrap().value(0);
    assert!(reason.contains("more than 100000 windows"), "{reason}");
}

#[tokio::test]
async fn pictures_beyond_max_pixels_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    // Its header has to be looked for in the pictures, so that they are decoded a little.
    let path = make(folder.path(), "clip.ts", "-c:v mpeg2video");
    let config = SplitConfig { max_pixels: Some(1000), ..half_seconds() };
    let failed = split(config, &path, (None, None)).await;
    assert_eq!(failed.text(schema::FATE).unwrap().value(0), "failed");
}

#[test]
fn windows_of_decoded_clips_are_refused() {
    let input = schema::with_fields(&schema::clip_schema(), [frames::field(schema::FRAMES, [None; 3])]);
    let error = SplitStage::new(half_seconds()).output_schema(&input).unwrap_err();
    assert!(error.to_string().contains("split before you decode"), "{error}");
}

#[test]
fn settings_are_checked() {
    let with = |config| SplitStage::new(config).output_schema(&schema::clip_schema()).unwrap_err().to_string();
    assert!(with(SplitConfig { stride_s: Some(0.0), ..half_seconds() }).contains("stride_s"));
    assert!(with(SplitConfig { minimum_s: Some(1.0), ..half_seconds() }).contains("minimum_s"));
}
