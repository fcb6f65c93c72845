//! Criterion benches of the parts: decode, model, re-chunking, shard writing. `simdrop bench` measures whole pipelines.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::Schema;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use simdrop::bench::limits::decode_file;
use simdrop::model::ModelRegistry;
use simdrop::plan::rechunk;
use simdrop::schema;
use simdrop::spec::{ModelsSpec, StageSpec};
use simdrop::stage::context::CpuPool;
use simdrop::stage::frames::{self, ClipFrames};
use simdrop::stage::shards::sample::encode_sample;
use simdrop::stage::{ClipBatch, Limits, Operator, StageContext, StageTask};
use simdrop::storage::Storage;

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data").join(path)
}

fn stage(json: serde_json::Value) -> StageSpec {
    serde_json::from_value(json).expect("a stage")
}

/// Eight frames of a clip, as the decode stage asks for them, and all of them.
fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let file = data("clips/real/bikes.mp4");
    for (name, json) in [
        ("8 frames of bikes.mp4 at 32x32", serde_json::json!({"decode": {"frames": 8, "width": 32, "height": 32}})),
        ("every frame of bikes.mp4 at 32x32", serde_json::json!({"decode": {"width": 32, "height": 32}})),
    ] {
        let StageSpec::Decode(config) = stage(json) else { unreachable!("a decode stage") };
        group.bench_function(name, |b| b.iter(|| decode_file(&config, black_box(&file)).expect("frames")));
    }
    group.finish();
}

/// One clip in flight with grey frames of this size.
fn clip(side: usize) -> ClipBatch {
    let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let required = [schema::UNIT, schema::CLIP_ID, schema::URI, schema::SOURCE, schema::DATASET];
    let mut columns: Vec<(&str, ArrayRef)> = required.into_iter().map(|name| (name, text("x"))).collect();
    let data = (0..8 * side * side * 3).map(|index| (index * 31 % 251) as u8).collect::<Vec<_>>();
    let clip = ClipFrames { data: data.into(), shape: [8, side, side] };
    columns.push((schema::FRAMES, frames::column(Some(clip)).expect("a column")));
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("a batch");
    let schema = schema::with_fields(&schema::clip_schema(), [frames::field(schema::FRAMES, [None; 3])]);
    ClipBatch::new(empty).with_columns(&schema, columns).expect("a clip")
}

/// Sixteen clips at once through a stage, as they come from the decoder: one a batch.
fn operate(c: &mut Criterion, name: &str, side: usize, json: serde_json::Value) {
    const CLIPS: usize = 16;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let cpu = CpuPool::new(threads);
    let models = Arc::new(ModelRegistry::new(&ModelsSpec::default(), cpu.clone()));
    let context = Arc::new(StageContext::new(Storage::default(), models, cpu, 1 << 30));
    let clip = clip(side);
    let operator: Arc<dyn Operator> =
        stage(json).stage().open(&context, &clip.batch().schema()).expect("a stage opens");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("model");
    group.throughput(Throughput::Elements(CLIPS as u64)).sample_size(10);
    group.bench_function(name, |b| {
        b.to_async(&runtime).iter(|| async {
            let task = StageTask::alone(Arc::clone(&context));
            let calls = (0..CLIPS).map(|_| operator.process(clip.clone(), &task));
            futures::future::try_join_all(calls).await.expect("scored clips")
        });
    });
    group.finish();
}

fn model(c: &mut Criterion) {
    let model = |name: &str| data("models").join(name).display().to_string();
    operate(
        c,
        "score, two denoisers, six pairs",
        32,
        serde_json::json!({"score": {
            "models": {
                "clean": model("denoiser/denoiser-clean.onnx"),
                "artefact": model("denoiser/denoiser-artefact.onnx"),
            },
            "scores": {"simdrop_score": {"base": "clean", "reference": "artefact"}},
        }}),
    );
    operate(
        c,
        "efficientnet-lite0, eight frames",
        224,
        serde_json::json!({"model": {
            "model": model("efficientnet-lite0.onnx"),
            "inputs": [{"tensor": "image", "column": "frames", "mean": 127.0, "std": 128.0}],
            "outputs": [{"tensor": "embedding", "column": "embedding"}],
        }}),
    );
}

/// A batch of the manifest into chunks of a row, as the decode stage takes them.
fn rechunking(c: &mut Criterion) {
    let rows = 1024;
    let text = Arc::new(StringArray::from(vec!["some text"; rows])) as ArrayRef;
    let required = [schema::UNIT, schema::CLIP_ID, schema::URI, schema::SOURCE, schema::DATASET];
    let columns = required.into_iter().map(|name| (name, Arc::clone(&text))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("a batch");
    let clips = ClipBatch::new(empty).with_columns(&schema::clip_schema(), columns).expect("clips");
    let limits = Limits { rows: 1, bytes: 1 << 20, in_flight: 1 };
    let mut group = c.benchmark_group("rechunk");
    group.throughput(Throughput::Elements(rows as u64));
    group.bench_function("1024 rows, one by one", |b| {
        b.iter(|| rechunk::chunks(black_box(&clips), &limits).expect("chunks").len());
    });
    group.finish();
}

fn shard(c: &mut Criterion) {
    let media = std::fs::read(data("clips/real/big-buck-bunny.mp4")).expect("a clip");
    let mut group = c.benchmark_group("shard");
    group.throughput(Throughput::Bytes(media.len() as u64));
    group.bench_function("a sample of 1 MB", |b| {
        let members: [(&str, &[u8]); 3] = [("mp4", &media), ("txt", b"a rabbit"), ("json", b"{}")];
        b.iter(|| encode_sample("0123456789abcdef", black_box(&members)).expect("a sample").len());
    });
    group.finish();
}

criterion_group!(benches, decode, model, rechunking, shard);
criterion_main!(benches);
