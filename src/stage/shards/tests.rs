//! Tests of the sink over made-up clips: shards do not care what is in a video.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytesize::ByteSize;
use proptest::prelude::*;

use super::config::Payload;
use super::series::{Content, FileRange};
use super::testing::{Folders, Row, config, row, texts};
use super::*;
use crate::stage::context::CpuPool;
use crate::stage::frames::{self, ClipFrames};
use crate::stage::testing::context;
use crate::storage::Storage;

#[tokio::test]
async fn kept_clips_stand_in_the_shard_and_where_the_metadata_says() {
    let folders = Folders::new();
    let rows = [row("b", 700, None), row("a", 10, None), row("c", 10, Some("dropped"))];
    let receipt = folders.write(config(), vec![folders.batch(&rows)]).await;
    assert_eq!(folders.files(), ["clips/unit.parquet", "shards/test-unit-000000.tar"]);
    let members = folders.members("shards/test-unit-000000.tar");
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["id-b.mp4", "id-b.txt", "id-b.json", "id-a.mp4", "id-a.txt", "id-a.json"]);
    assert_eq!(members[0].1, 700);

    let table = folders.table(&receipt);
    assert_eq!(texts(&table, schema::CLIP_ID), ["id-a", "id-b", "id-c"]);
    assert_eq!(texts(&table, schema::FATE), ["kept", "kept", "dropped"]);
    assert_eq!(texts(&table, schema::SHARD)[1..], ["shards/test-unit-000000.tar", "-"]);
    let shard = folders.read("shards/test-unit-000000.tar");
    for row in 0..2 {
        let key = table.text(schema::KEY).unwrap().value(row);
        let offset = table.long(schema::OFFSET).unwrap().value(row) as usize;
        assert!(sample::begins_sample(&shard[offset..], key));
    }
    let ends: Vec<i64> = [schema::OFFSET, schema::SIZE]
        .iter()
        .map(|name| table.column(name).unwrap().as_primitive::<Int64Type>().value(0))
        .collect();
    assert_eq!(ends.iter().sum::<i64>() as usize + sample::END.len(), shard.len());
    assert_eq!(receipt.counts, Counts { clips: 3, kept: 2, dropped: 1, failed: 0 });
}

#[tokio::test]
async fn a_receipt_tells_sizes_and_hashes() {
    let folders = Folders::new();
    let receipt = folders.write(config(), vec![folders.batch(&[row("a", 300_000, None)])]).await;
    let shard = folders.read(&receipt.shards[0].path);
    assert_eq!(receipt.shards[0].blake3, blake3::hash(&shard).to_hex().as_str());
    assert_eq!((receipt.shards[0].bytes, receipt.shards[0].samples), (shard.len() as u64, 1));
    let table = folders.read(&receipt.clips.path);
    assert_eq!(receipt.clips.blake3, blake3::hash(&table).to_hex().as_str());
    assert_eq!((receipt.clips.bytes, receipt.clips.rows), (table.len() as u64, 1));
}

#[tokio::test]
async fn a_second_attempt_gives_the_same_bytes_under_the_same_names() {
    let folders = Folders::new();
    let rows = [row("a", 5000, None), row("b", 0, Some("failed")), row("c", 300_000, None)];
    let first = folders.write(config(), vec![folders.batch(&rows)]).await;
    let parts = vec![folders.batch(&rows[..1]), folders.batch(&rows[1..])];
    assert_eq!(folders.write(config(), parts).await, first);
    assert_eq!(folders.files().len(), 2);
}

#[tokio::test]
async fn a_full_shard_is_followed_by_the_next() {
    let folders = Folders::new();
    let rows: Vec<Row> = "abcde".chars().map(|name| row(&name.to_string(), 600, None)).collect();
    let by_samples = OutputSpec { max_samples: 2, ..config() };
    let receipt = folders.write(by_samples, vec![folders.batch(&rows)]).await;
    assert_eq!(receipt.shards.iter().map(|shard| shard.samples).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(receipt.shards[2].path, "shards/test-unit-000002.tar");

    let sample = (receipt.shards[2].bytes) - sample::END.len() as u64;
    let by_bytes = OutputSpec { max_bytes: ByteSize(2 * sample + 1024), ..config() };
    let receipt = folders.write(by_bytes, vec![folders.batch(&rows)]).await;
    assert_eq!(receipt.shards.iter().map(|shard| shard.samples).collect::<Vec<_>>(), [2, 2, 1]);

    let outsize = OutputSpec { max_bytes: ByteSize(1), ..config() };
    let receipt = folders.write(outsize, vec![folders.batch(&rows)]).await;
    assert_eq!(receipt.shards.len(), 5);
}

#[tokio::test]
async fn a_unit_that_keeps_nothing_has_no_shard() {
    let folders = Folders::new();
    let receipt = folders.write(config(), vec![folders.batch(&[row("a", 10, Some("dropped"))])]).await;
    assert_eq!(receipt.shards, []);
    assert_eq!(folders.files(), ["clips/unit.parquet"]);
}

#[tokio::test]
async fn a_clip_whose_file_is_not_as_it_was_fails_and_leaves_nothing_in_the_shard() {
    let folders = Folders::new();
    let rows = [row("a", 10, None), row("b", 10, None), row("c", 10, None), row("d", 0, None), row("e", 9, None)];
    let clips = folders.batch(&rows);
    std::fs::remove_file(folders.clips.path().join("a.mp4")).unwrap();
    std::fs::write(folders.clips.path().join("c.mp4"), b"longer than it was").unwrap();
    let receipt = folders.write(config(), vec![clips]).await;
    assert_eq!(folders.videos("shards/test-unit-000000.tar"), ["id-b", "id-e"]);
    let table = folders.table(&receipt);
    assert_eq!(texts(&table, schema::FATE), ["failed", "kept", "failed", "failed", "kept"]);
    assert_eq!(texts(&table, schema::FATE_STAGE), ["shards", "-", "shards", "shards", "-"]);
    let reasons = texts(&table, schema::FATE_REASON);
    assert_eq!(reasons[0], "the file is gone");
    assert_eq!(reasons[2], "the file changed: it had 10 bytes when it was listed and has 18 now");
    assert_eq!(reasons[3], "the file is empty");
}

#[tokio::test]
async fn two_clips_of_one_id_do_not_share_a_key() {
    let folders = Folders::new();
    let clips = folders.batch(&[row("a", 10, None)]);
    let receipt = folders.write(config(), vec![clips.clone(), clips]).await;
    assert_eq!(receipt.counts, Counts { clips: 2, kept: 1, dropped: 0, failed: 1 });
    assert_eq!(receipt.shards[0].samples, 1);
}

#[tokio::test]
async fn a_span_is_cut_out_and_a_file_that_cannot_be_cut_fails() {
    let folders = Folders::new();
    let clips = folders.batch(&[row("a", 1, None), row("b", 100, None)]);
    let source = folders.clips.path().join("a.mp4");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2"])
        .arg(&source)
        .status();
    assert!(made.unwrap().success());
    let times = |time: f64| Arc::new(arrow::array::Float64Array::from(vec![time; 2])) as ArrayRef;
    let spans = vec![(schema::START_S, times(0.5)), (schema::END_S, times(1.0))];
    let clips = clips.with_columns(&clips.batch().schema(), spans).unwrap();
    let receipt = folders.write(config(), vec![clips]).await;
    assert_eq!(texts(&folders.table(&receipt), schema::FATE), ["kept", "failed"]);
    let members = folders.members(&receipt.shards[0].path);
    assert_eq!(members[0].0, "id-a.mp4");
    let shard = folders.read(&receipt.shards[0].path);
    assert_eq!(&shard[512 + 4..512 + 8], b"ftyp");
}

#[tokio::test]
async fn large_files_are_streamed() {
    let folders = Folders::new();
    let large = 17 << 20;
    let rows = [row("a", 1000, None), row("b", large, None), row("c", 1000, None)];
    let receipt = folders.write(config(), vec![folders.batch(&rows)]).await;
    let members = folders.members(&receipt.shards[0].path);
    assert_eq!(
        members.iter().map(|(_, size)| *size).filter(|size| *size >= 1000).collect::<Vec<_>>(),
        [1000, large, 1000]
    );
    assert_eq!(receipt.shards[0].blake3, blake3::hash(&folders.read(&receipt.shards[0].path)).to_hex().as_str());
}

#[tokio::test]
async fn a_large_file_that_ends_early_is_taken_back() {
    let folders = Folders::new();
    let storage = Storage::default();
    let root = storage.locate(&folders.dataset.path().display().to_string()).unwrap();
    let limits = ShardLimits { samples: 100, bytes: 1 << 40 };
    let mut series = Series::new(root, SHARDS, "s".to_owned(), String::new(), limits, CpuPool::new(2));
    let path = folders.clips.path().join("large.mp4");
    std::fs::write(&path, vec![7; 20 << 20]).unwrap();
    let location = storage.locate(&path.display().to_string()).unwrap();
    let video = |end| Content::File(FileRange { location: location.clone(), start: 0, end, etag: None });
    let sample = |key: &str, content| Sample::Members {
        key: key.to_owned(),
        members: vec![("txt".to_owned(), Content::Owned("text".into())), ("mp4".to_owned(), content)],
    };
    // Nothing before it, then something before it: there are two ways back.
    assert!(series.append(sample("a", video(21 << 20))).await.unwrap().is_err());
    assert_eq!(series.append(sample("b", video(20 << 20))).await.unwrap().unwrap().offset, 0);
    assert!(series.append(sample("c", video(21 << 20))).await.unwrap().is_err());
    series.append(sample("d", Content::Owned("small".into()))).await.unwrap().unwrap();
    let shards = series.finish().await.unwrap();
    assert_eq!(folders.videos("shards/s-000000.tar"), ["b", "d"]);
    let bytes = folders.read("shards/s-000000.tar");
    assert_eq!((shards[0].samples, shards[0].bytes), (2, bytes.len() as u64));
    assert_eq!(shards[0].blake3, blake3::hash(&bytes).to_hex().as_str());
}

#[tokio::test]
async fn a_writer_that_is_dropped_leaves_nothing_to_see() {
    let folders = Folders::new();
    // Enough for parts of an upload to be on the disk.
    let rows: Vec<Row> = "abcdefgh".chars().map(|name| row(&name.to_string(), 4 << 20, None)).collect();
    let clips = folders.batch(&rows);
    let mut writer = folders.writer(config(), clips.batch().schema());
    writer.write(clips, &StageTask::alone(context())).await.unwrap();
    assert_eq!(folders.files(), ["shards/test-unit-000000.tar#1"]);
    drop(writer);
    assert!(!folders.files().iter().any(|name| name.ends_with(".tar")));
}

#[tokio::test]
async fn dropped_clips_are_stored_apart_where_that_is_asked_for() {
    let folders = Folders::new();
    let rows = [row("a", 10, None), row("b", 20, Some("dropped")), row("c", 30, Some("failed"))];
    let config = OutputSpec { keep_dropped: true, ..config() };
    let receipt = folders.write(config, vec![folders.batch(&rows)]).await;
    assert_eq!(receipt.dropped_shards[0].path, "shards/dropped/test-unit-000000.tar");
    assert_eq!(folders.videos("shards/test-unit-000000.tar"), ["id-a"]);
    assert_eq!(folders.videos("shards/dropped/test-unit-000000.tar"), ["id-b"]);
    let table = folders.table(&receipt);
    assert_eq!(texts(&table, schema::FATE), ["kept", "dropped", "failed"]);
    assert_eq!(texts(&table, schema::FATE_STAGE), ["-", "earlier", "earlier"]);
    assert_eq!(texts(&table, schema::SHARD)[1..], ["shards/dropped/test-unit-000000.tar", "-"]);
}

#[tokio::test]
async fn frames_are_stored_as_numpy_arrays() {
    let folders = Folders::new();
    let clips = folders.batch(&[row("a", 10, None)]);
    let shape = [2, 4, 5];
    let data: Vec<u8> = (0..120).collect();
    let column = frames::column(Some(ClipFrames { data: data.clone().into(), shape })).unwrap();
    let schema = schema::with_fields(&clips.batch().schema(), [frames::field("frames", [None; 3])]);
    let clips = clips.with_columns(&schema, vec![("frames", column)]).unwrap();
    let config = OutputSpec { payload: vec![Payload::Frames], ..config() };
    let receipt = folders.write(config, vec![clips]).await;
    let bytes = folders.read(&receipt.shards[0].path);
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap().to_str(), Some("id-a.frames.npy"));
    let array: ndarray::Array4<u8> = ndarray_npy::ReadNpyExt::read_npy(entry).unwrap();
    assert_eq!((array.shape(), array.iter().copied().collect::<Vec<_>>()), ([2, 4, 5, 3].as_slice(), data));
    assert!(folders.table(&receipt).column("frames").is_err());
}

#[test]
fn frames_that_no_stage_makes_are_a_mistake_of_the_configuration() {
    let config = OutputSpec { payload: vec![Payload::Frames], ..config() };
    let error = SampleMaker::new(&config, &schema::clip_schema()).unwrap_err();
    assert!(error.to_string().contains("there is no column frames"), "{error}");
    let config = OutputSpec { frames: vec!["uri".to_owned()], ..config };
    let error = SampleMaker::new(&config, &schema::clip_schema()).unwrap_err();
    assert_eq!(error.to_string(), "output: column uri holds no frames");
}

#[test]
fn writing_can_move_between_threads() {
    fn sendable<T: Send>(_: T) {}
    let _ = |mut writer: ShardWriter, clips: ClipBatch, task: StageTask| {
        sendable(async move {
            writer.write(clips, &task).await?;
            writer.finish().await
        });
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_row_ends_in_the_table_once(
        rows in prop::collection::vec((0..2000_usize, prop::option::of(prop_oneof![Just("dropped"), Just("failed")]), any::<bool>()), 1..20),
        cut in 1..20_usize,
        max_samples in 1..6_usize,
        keep_dropped: bool,
    ) {
        let folders = Folders::new();
        let all: Vec<Row> =
            rows.iter().enumerate().map(|(at, (size, fate, _))| row(&format!("{at:02}"), *size, *fate)).collect();
        let batches = all.chunks(cut).map(|rows| folders.batch(rows)).collect();
        for (Row(name, ..), (_, _, gone)) in all.iter().zip(&rows) {
            if *gone {
                std::fs::remove_file(folders.clips.path().join(format!("{name}.mp4"))).unwrap();
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let receipt = runtime.block_on(folders.write(OutputSpec { max_samples, keep_dropped, ..config() }, batches));

        let table = folders.table(&receipt);
        let ids: Vec<String> = all.iter().map(|Row(name, ..)| format!("id-{name}")).collect();
        prop_assert_eq!(texts(&table, schema::CLIP_ID), ids);
        prop_assert_eq!(receipt.counts, count(&table).unwrap());
        prop_assert_eq!(receipt.counts.clips, receipt.counts.kept + receipt.counts.dropped + receipt.counts.failed);
        let (shards, offsets) = (table.text(schema::SHARD).unwrap(), table.long(schema::OFFSET).unwrap());
        for (at, (size, fate, gone)) in rows.iter().enumerate() {
            let makeable = *size > 0 && !gone;
            let expected = fate.unwrap_or(if makeable { "kept" } else { "failed" });
            prop_assert_eq!(&texts(&table, schema::FATE)[at], expected);
            prop_assert_eq!(shards.is_valid(at), makeable && (fate.is_none() || keep_dropped && *fate == Some("dropped")));
            if shards.is_valid(at) {
                let shard = folders.read(shards.value(at));
                let (offset, key) = (offsets.value(at) as usize, format!("id-{at:02}"));
                prop_assert!(sample::begins_sample(&shard[offset..], &key));
            }
        }
        let stored = receipt.shards.iter().chain(&receipt.dropped_shards);
        let videos: usize = stored.clone().map(|shard| folders.videos(&shard.path).len()).sum();
        prop_assert_eq!(videos as u64, stored.map(|shard| shard.samples).sum::<u64>());
        prop_assert_eq!(videos, shards.len() - shards.null_count());
    }
}
