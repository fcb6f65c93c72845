use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch, new_null_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{Float32Type, Float64Type, Int64Type};

use super::config::{Normalize, OfWindows, Over, PairedScore, Windows};
use super::loss::{loss, noised, normalized};
use super::noise::epsilon;
use super::pairs::{Pair, pairs};
use super::*;
use crate::schema;
use crate::spec::ModelsSpec;
use crate::stage::context::CpuPool;
use crate::stage::frames::{self, ClipFrames};
use crate::stage::{ClipBatch, StageTask};
use crate::storage::Storage;

fn model(name: &str) -> String {
    format!("{}/data/models/denoiser/denoiser-{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

fn small(name: &str) -> String {
    format!("{}/tests/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

fn context(cores: usize) -> Arc<StageContext> {
    let cpu = CpuPool::new(cores);
    let models = Arc::new(ModelRegistry::new(&ModelsSpec::default(), cpu.clone()));
    Arc::new(StageContext::new(Storage::default(), models, cpu, 1 << 30))
}

fn paired(base: &str, reference: &str) -> PairedScore {
    PairedScore {
        base: base.to_owned(),
        reference: reference.to_owned(),
        t: vec![0.05, 0.12, 0.25],
        draws: 2,
        over: Over::Mean,
        of_windows: OfWindows::Largest,
    }
}

/// Both scores of the method, with seed 7.
fn config() -> ScoreConfig {
    ScoreConfig {
        name: None,
        column: schema::FRAMES.to_owned(),
        models: ["base", "clean", "artefact"].map(|name| (name.to_owned(), model(name))).into(),
        scores: BTreeMap::from([
            ("simdrop_score".to_owned(), paired("clean", "artefact")),
            ("domain_score".to_owned(), PairedScore { t: vec![0.3, 0.9], draws: 1, ..paired("base", "clean") }),
            ("transient_score".to_owned(), PairedScore { over: Over::Peak, ..paired("clean", "artefact") }),
        ]),
        seed: 7,
        normalize: Normalize::PerClip,
        condition: None,
        windows: None,
        batch: 48,
    }
}

fn input() -> SchemaRef {
    schema::with_fields(&schema::clip_schema(), [frames::field(schema::FRAMES, [None; 3])])
}

/// The same as `frames` of the numpy check.
fn made_up(clip: usize) -> ClipFrames {
    let bytes: Vec<u8> = (0..8 * 32 * 32 * 3).map(|i| ((i * 7919 + clip * 104_729) % (251 - clip)) as u8).collect();
    ClipFrames { data: Buffer::from(bytes), shape: [8, 32, 32] }
}

fn batch(clips: impl IntoIterator<Item = Option<ClipFrames>>) -> ClipBatch {
    let schema = input();
    let rows = clips.into_iter().map(|clip| {
        let frames = frames::column(clip).unwrap();
        let columns = schema.fields().iter().map(|field| match field.name().as_str() {
            schema::FRAMES => Arc::clone(&frames),
            _ if field.is_nullable() => new_null_array(field.data_type(), 1),
            _ => Arc::new(arrow::array::StringArray::from(vec!["x"])),
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap()
    });
    let rows: Vec<_> = rows.collect();
    ClipBatch::new(arrow::compute::concat_batches(&schema, &rows).unwrap())
}

async fn score(config: ScoreConfig, context: &Arc<StageContext>, clips: ClipBatch) -> ClipBatch {
    let operator = ScoreStage::new(config).open(context, &input()).unwrap();
    operator.process(clips, &StageTask::alone(Arc::clone(context))).await.unwrap()
}

fn values(clips: &ClipBatch, column: &str) -> Float64Array {
    clips.column(column).unwrap().as_primitive::<Float64Type>().clone()
}

fn near(have: f64, wanted: f64) {
    assert!((have / wanted - 1.0).abs() < 1e-5, "{have} is not {wanted}");
}

/// The numbers come from numpy and ONNX Runtime's Python package, with the lines of `schemas/denoiser.md`.
#[tokio::test]
async fn losses_are_those_of_numpy() {
    let made = score(config(), &context(2), batch([0, 1].map(|clip| Some(made_up(clip))))).await;
    for (column, wanted) in [
        ("simdrop_score_base_loss", [22.57085105387111, 8.28309528388572]),
        ("simdrop_score_reference_loss", [22.378171860523366, 6.899821362430352]),
        ("transient_score", [0.0007301138031303722, 0.0007024486730253798]),
        ("domain_score_base_loss", [1.4326292108224459, 1.2652905901558558]),
    ] {
        let have = values(&made, column);
        (0..2).for_each(|clip| near(have.value(clip), wanted[clip]));
    }
    let [score, base, reference] = columns("simdrop_score").map(|column| values(&made, &column).value(1));
    assert_eq!(score, base - reference);
}

#[test]
fn epsilon_is_that_of_numpy() {
    let near = |have: Vec<f32>, wanted: &[f32]| {
        assert_eq!(have.len(), wanted.len());
        assert!(have.iter().zip(wanted).all(|(have, wanted)| (have - wanted).abs() < 1e-6), "{have:?}");
    };
    near(epsilon(0, 0, 5), &[1.9549744, -0.3589196, 1.3099996, -0.9194413, -0.36399168]);
    near(epsilon(7, 3, 4), &[-1.3348625, 0.43829492, 2.2982593, 0.34677607]);
    near(epsilon(u64::MAX, 0, 2), &[-0.03965808, 0.17261292]);
    assert_eq!(epsilon(3, 1, 4), epsilon(3, 1, 100)[..4]);
}

#[tokio::test]
async fn scores_do_not_depend_on_batch_order_or_company() {
    let names = ["simdrop_score", "domain_score", "domain_score_reference_loss"];
    let together = score(config(), &context(2), batch((0..7).map(|clip| Some(made_up(clip))))).await;
    let context = context(1);
    for clip in (0..7).rev() {
        let alone = score(ScoreConfig { batch: 5, ..config() }, &context, batch([Some(made_up(clip))])).await;
        for name in names {
            let (alone, together) = (values(&alone, name).value(0), values(&together, name).value(clip));
            assert_eq!(alone.to_bits(), together.to_bits(), "{name} of clip {clip}");
        }
    }
}

#[tokio::test]
async fn a_clip_that_cannot_be_scored_fails_alone() {
    let small = ClipFrames { data: Buffer::from(vec![0u8; 8 * 16 * 32 * 3]), shape: [8, 16, 32] };
    let made = score(config(), &context(2), batch([None, Some(made_up(0)), Some(small)])).await;
    let reasons = made.text(schema::FATE_REASON).unwrap();
    assert_eq!(reasons.value(0), "the clip has no frames in column frames");
    assert!(reasons.is_null(1));
    assert_eq!(
        reasons.value(2),
        "its frames are [8, 16, 32] (frames, height, width), the denoisers take [8, 32, 32]; set frames, height and \
         width of the decode stage"
    );
    assert_eq!(made.text(schema::FATE_STAGE).unwrap().value(0), "score");
    let scores = values(&made, "simdrop_score");
    assert_eq!([0, 1, 2].map(|row| scores.is_valid(row)), [false, true, false]);
}

#[test]
fn no_model_sees_a_pair_twice() {
    let mut config = config();
    config.scores.insert("other".to_owned(), paired("base", "artefact"));
    let plan = Plan::of("score", &config).unwrap();
    let runs: BTreeMap<_, _> = plan.models.iter().map(|model| (model.path.clone(), model.pairs.len())).collect();
    let wanted = [("base", 8), ("clean", 8), ("artefact", 6)].map(|(name, pairs)| (model(name), pairs));
    assert_eq!(runs, wanted.into());
}

#[test]
fn pairs_go_by_level_then_draw() {
    let score = PairedScore { t: vec![0.1, 0.5], draws: 2, ..paired("a", "b") };
    let wanted = [(0, 0.1), (1, 0.1), (2, 0.5), (3, 0.5)].map(|(k, t)| Pair { k, t });
    assert_eq!(pairs(&score), wanted);
}

#[test]
fn x_is_normalised_per_clip() {
    let x = normalized(&[0, 255, 0, 255], Normalize::PerClip);
    assert_eq!(x, [-0.5, 0.5, -0.5, 0.5]);
    assert_eq!(normalized(&[7; 9], Normalize::PerClip), [0.0; 9]);
    assert_eq!(normalized(&[0, 51, 255], Normalize::None), [-1.0, -0.6, 1.0]);
}

#[test]
fn the_loss_counts_every_element_once() {
    let numbers: Vec<f32> = (0..21).map(|number| number as f32).collect();
    let (zeros, mut noisy) = (vec![0.0; 21], vec![0.0; 21]);
    assert_eq!(loss(&zeros, &numbers, &zeros), (0..21).map(|number| f64::from(number * number)).sum::<f64>() / 21.0);
    noised(&numbers, &[1.0; 21], 0.25, &mut noisy);
    assert_eq!(noisy[..3], [0.25, 1.0, 1.75]);
}

#[test]
fn mistakes_say_what_to_do() {
    let message = |config: ScoreConfig| ScoreStage::new(config).output_schema(&input()).unwrap_err().to_string();
    let with = |score: PairedScore| ScoreConfig { scores: BTreeMap::from([("s".to_owned(), score)]), ..config() };
    assert_eq!(
        message(with(paired("clean", "artifact"))),
        "stage score, score s: there is no model artifact under models; did you mean artefact?"
    );
    assert!(message(with(paired("clean", "clean"))).contains("the score is always 0"));
    let level = PairedScore { t: vec![1.5], ..paired("base", "clean") };
    assert!(message(with(level)).ends_with("noise level 1.5 is not between 0 and 1"));
    let column = ScoreConfig { column: "frame".to_owned(), ..config() };
    assert!(message(column).ends_with("there is no column frame; did you mean frames?"));
    let caption = ScoreConfig { column: "caption".to_owned(), ..config() };
    assert!(message(caption).ends_with("column caption is Utf8, decoded frames were expected"));
}

#[test]
fn models_that_are_no_denoisers_are_refused() {
    let context = context(1);
    let message =
        |config: ScoreConfig| ScoreStage::new(config).open(&context, &input()).map(drop).unwrap_err().to_string();
    let other = |path: String| {
        let mut config = config();
        config.models.insert("clean".to_owned(), path);
        message(config)
    };
    assert!(other(small("fixed")).ends_with("fixed.onnx has no output v; it has sum"));
    let fields = [Field::new("text_embedding", DataType::Float32, true)];
    let schema = schema::with_fields(&input(), fields);
    let mut conditioned = ScoreConfig { condition: Some("text_embedding".to_owned()), ..config() };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.onnx").display().to_string();
    std::fs::copy(small("unconditioned"), &copy).unwrap();
    conditioned.models =
        [("base", small("unconditioned")), ("clean", copy)].map(|(name, model)| (name.to_owned(), model)).into();
    conditioned.scores = BTreeMap::from([("s".to_owned(), paired("base", "clean"))]);
    let error = ScoreStage::new(conditioned).open(&context, &schema).map(drop).unwrap_err();
    assert!(error.to_string().contains("none of the denoisers has an input condition"), "{error}");
}

/// Of the graph v = x_t − mean(c) − t follows v − V = (1 − t)·ε − (2 − t)·x + mean(c) + t.
#[tokio::test]
async fn a_condition_reaches_the_denoiser() {
    let field = Field::new("mood", columns_of_numbers(), true);
    let schema = schema::with_fields(&input(), [field]);
    let mut config = ScoreConfig { condition: Some("mood".to_owned()), ..config() };
    config.models = [("base", small("conditioned")), ("clean", small("unconditioned"))]
        .map(|(name, model)| (name.to_owned(), model))
        .into();
    config.scores =
        BTreeMap::from([("s".to_owned(), PairedScore { t: vec![0.5], draws: 1, ..paired("base", "clean") })]);
    let context = context(1);
    let operator = ScoreStage::new(config).open(&context, &schema).unwrap();
    for (mood, mean) in [(Some([1.0f32, 2.0, 3.0, 6.0]), 3.0), (None, 0.0)] {
        let mood = arrow::array::ListArray::from_iter_primitive::<Float32Type, _, _>([mood.map(|mood| mood.map(Some))]);
        let clips = batch([Some(made_up(0))]).with_columns(&schema, vec![("mood", Arc::new(mood))]).unwrap();
        let made = operator.process(clips, &StageTask::alone(Arc::clone(&context))).await.unwrap();
        let x = normalized(&made_up(0).data, Normalize::PerClip);
        let squares = x.iter().zip(epsilon(7, 0, x.len())).map(|(x, epsilon)| {
            let error = f64::from(0.5 * epsilon - 1.5 * x) + mean + 0.5;
            error * error
        });
        near(values(&made, "s_base_loss").value(0), squares.sum::<f64>() / x.len() as f64);
    }
}

fn columns_of_numbers() -> DataType {
    crate::stage::model::columns::list_of(DataType::Float32)
}

#[test]
fn noise_is_exported_as_npy() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(clip_shape(&config(), &context(1).models).unwrap(), [8, 32, 32]);
    export_noise(&config(), [2, 3, 4], folder.path()).unwrap();
    let read = |name: &str| folder.path().join("simdrop_score").join(name);
    let all: ndarray::Array5<f32> = ndarray_npy::read_npy(read("epsilon.npy")).unwrap();
    let levels: ndarray::Array1<f32> = ndarray_npy::read_npy(read("t.npy")).unwrap();
    assert_eq!(all.shape(), [6, 2, 3, 4, 3]);
    assert_eq!(levels.to_vec(), [0.05, 0.05, 0.12, 0.12, 0.25, 0.25]);
    assert_eq!(all.index_axis(ndarray::Axis(0), 4).iter().copied().collect::<Vec<_>>(), epsilon(7, 4, 72));
}

/// A clip of the frames of all of `clips`, one behind the other.
fn in_a_row(clips: &[usize]) -> ClipFrames {
    let bytes: Vec<u8> = clips.iter().flat_map(|&clip| made_up(clip).data.to_vec()).collect();
    ClipFrames { data: Buffer::from(bytes), shape: [8 * clips.len(), 32, 32] }
}

#[tokio::test]
async fn a_clip_of_windows_has_the_scores_of_its_worst_one() {
    let windows = |stride| ScoreConfig { windows: Some(Windows { stride }), ..config() };
    let alone = score(config(), &context(2), batch([0, 1, 2].map(|clip| Some(made_up(clip))))).await;
    let long = || [in_a_row(&[1, 0, 2]), made_up(1)].map(Some);
    let made = score(windows(8), &context(2), batch(long())).await;
    for name in ["simdrop_score", "domain_score", "transient_score"] {
        let parts = values(&alone, name);
        let order = [1, 0, 2];
        let worst = (0..3).max_by(|&a, &b| parts.value(order[a]).total_cmp(&parts.value(order[b]))).unwrap();
        assert_eq!(values(&made, name).value(0), parts.value(order[worst]), "{name}");
        assert_eq!(values(&made, name).value(1), parts.value(1), "{name}");
        let loss = format!("{name}_base_loss");
        assert_eq!(values(&made, &loss).value(0), values(&alone, &loss).value(order[worst]), "{name}");
        let first = made.column(&format!("{name}_frame")).unwrap().as_primitive::<Int64Type>().clone();
        assert_eq!((first.value(0), first.value(1)), (8 * worst as i64, 0), "{name}");
    }
    // Or the mean of all.
    let mut of_all = windows(8);
    of_all.scores.values_mut().for_each(|score| score.of_windows = OfWindows::Mean);
    let mean = score(of_all, &context(2), batch(long())).await;
    let parts = values(&alone, "domain_score");
    near(values(&mean, "domain_score").value(0), (0..3).map(|clip| parts.value(clip)).sum::<f64>() / 3.0);
    // More windows find no less.
    let finer = score(windows(4), &context(2), batch(long())).await;
    for name in ["simdrop_score", "transient_score"] {
        assert!(values(&finer, name).value(0) >= values(&made, name).value(0), "{name}");
    }
    // A clip that is too short fails and says so.
    let short = ClipFrames { data: Buffer::from(vec![9u8; 5 * 32 * 32 * 3]), shape: [5, 32, 32] };
    let made = score(windows(4), &context(2), batch([Some(short)])).await;
    assert!(values(&made, "simdrop_score").is_null(0));
}

#[test]
fn windows_begin_and_end_with_their_clip() {
    let starts = |stride, frames| Windows { stride }.starts(frames, 8).collect::<Vec<_>>();
    assert_eq!(starts(4, 24), [0, 4, 8, 12, 16]);
    assert_eq!(starts(4, 22), [0, 4, 8, 12, 14]);
    assert_eq!(starts(4, 8), [0]);
    assert_eq!(starts(100, 24), [0, 16]);
}
