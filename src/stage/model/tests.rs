use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, new_null_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type};

use super::config::*;
use super::pixels::{FrameWriter, Pixels};
use super::*;
use crate::model::{ModelRegistry, RowMut};
use crate::spec::ModelsSpec;
use crate::stage::context::CpuPool;
use crate::stage::frames::{self, ClipFrames};
use crate::stage::{ClipBatch, StageTask};
use crate::storage::Storage;

fn path(name: &str) -> String {
    format!("{}/data/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn context() -> Arc<StageContext> {
    let cpu = CpuPool::new(2);
    let models = Arc::new(ModelRegistry::new(&ModelsSpec::default(), cpu.clone()));
    Arc::new(StageContext::new(Storage::default(), models, cpu, 1 << 30))
}

fn frames_input(tensor: &str, layout: Layout) -> ModelInput {
    ModelInput {
        tensor: tensor.to_owned(),
        column: schema::FRAMES.to_owned(),
        layout,
        dtype: None,
        resize: None,
        mean: PerColour::All(0.0),
        std: PerColour::All(1.0),
        colours: Colours::Rgb,
        frames: FrameChoice::All,
    }
}

fn output(tensor: &str, column: &str) -> ModelOutput {
    ModelOutput {
        tensor: tensor.to_owned(),
        column: column.to_owned(),
        kind: OutputType::List,
        reduce: Reduce::Mean,
        labels: None,
        top: 3,
        minimum: 0.0,
    }
}

/// Tags and an embedding of every frame.
fn tagger() -> ModelConfig {
    let image =
        ModelInput { mean: PerColour::All(127.0), std: PerColour::All(128.0), ..frames_input("image", Layout::NCHW) };
    let tags = ModelOutput { labels: Some(path("imagenet1k-names.json")), minimum: 0.02, ..output("logits", "tags") };
    let outputs =
        vec![output("embedding", "embedding"), tags, ModelOutput { reduce: Reduce::Max, ..output("logits", "logits") }];
    ModelConfig { name: None, model: path("efficientnet-lite0.onnx"), inputs: vec![image], outputs, batch: 16 }
}

fn input(more: impl IntoIterator<Item = Field>) -> SchemaRef {
    let fields = std::iter::once(frames::field(schema::FRAMES, [None; 3])).chain(more);
    schema::with_fields(&schema::clip_schema(), fields)
}

/// The same as `frames` of the numpy check.
fn made_up(count: usize, side: usize) -> ClipFrames {
    let bytes: Vec<u8> = (0..count * side * side * 3).map(|i| (i * 7919 % 251) as u8).collect();
    ClipFrames { data: Buffer::from(bytes), shape: [count, side, side] }
}

fn clip(schema: &SchemaRef, frames: Option<ClipFrames>, more: &[(&str, ArrayRef)]) -> ClipBatch {
    let frames = frames::column(frames).unwrap();
    let columns = schema.fields().iter().map(|field| {
        let name = field.name().as_str();
        match more.iter().find(|(have, _)| *have == name) {
            Some((_, array)) => Arc::clone(array),
            None if name == schema::FRAMES => Arc::clone(&frames),
            None if field.is_nullable() => new_null_array(field.data_type(), 1),
            None => Arc::new(StringArray::from(vec!["x"])),
        }
    });
    ClipBatch::new(RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap())
}

async fn run(config: ModelConfig, schema: &SchemaRef, clips: ClipBatch) -> ClipBatch {
    let context = context();
    let operator = ModelStage::new(config).open(&context, schema).unwrap();
    operator.process(clips, &StageTask::alone(context)).await.unwrap()
}

fn floats(clips: &ClipBatch, column: &str) -> Vec<f32> {
    clips.column(column).unwrap().as_list::<i32>().value(0).as_primitive::<Float32Type>().values().to_vec()
}

fn near(have: &[f32], wanted: &[f32]) {
    assert!(have.iter().zip(wanted).all(|(have, wanted)| (have - wanted).abs() < 1e-4), "{have:?} is not {wanted:?}");
}

/// The numbers come from numpy and ONNX Runtime's Python package.
#[tokio::test]
async fn frames_become_tags_and_embeddings() {
    let schema = input([]);
    let made = run(tagger(), &schema, clip(&schema, Some(made_up(2, 224)), &[])).await;
    let tags = made.column("tags").unwrap().as_list::<i32>().value(0);
    let tags: Vec<_> = tags.as_string::<i32>().iter().flatten().collect();
    assert_eq!(tags, ["wall clock", "electrical switch", "envelope"]);
    assert_eq!(floats(&made, "embedding").len(), 1280);
    near(&floats(&made, "embedding")[..4], &[0.01364021, 0.0, 2.1003628, 0.0]);
    near(&floats(&made, "logits")[..3], &[-1.3837562, 0.11997997, -0.35334635]);
}

#[tokio::test]
async fn frames_are_scaled_to_what_the_graph_says() {
    let schema = input([]);
    let bright = ClipFrames { data: Buffer::from(vec![200u8; 3 * 40 * 60 * 3]), shape: [3, 40, 60] };
    let exact = ClipFrames { data: Buffer::from(vec![200u8; 224 * 224 * 3]), shape: [1, 224, 224] };
    let scaled = run(tagger(), &schema, clip(&schema, Some(bright), &[])).await;
    let exact = run(tagger(), &schema, clip(&schema, Some(exact), &[])).await;
    assert_eq!(floats(&scaled, "embedding"), floats(&exact, "embedding"));
}

#[tokio::test]
async fn a_clip_without_frames_fails() {
    let schema = input([]);
    let made = run(tagger(), &schema, clip(&schema, None, &[])).await;
    assert_eq!(made.text(schema::FATE_REASON).unwrap().value(0), "the clip has no frames in column frames");
    assert_eq!(made.text(schema::FATE).unwrap().value(0), "failed");
    assert!(made.column("embedding").unwrap().is_null(0));
}

#[tokio::test]
async fn a_clip_of_another_shape_than_the_graph_fails() {
    let none = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.0); 384])]);
    let schema = input([Field::new("condition", none.data_type().clone(), true)]);
    let denoiser = ModelConfig {
        name: Some("denoise".to_owned()),
        model: path("denoiser/denoiser-base.onnx"),
        inputs: vec![
            frames_input("x_t", Layout::NTHWC),
            ModelInput { column: "fps".to_owned(), ..frames_input("t", Layout::NCHW) },
            ModelInput { column: "condition".to_owned(), ..frames_input("condition", Layout::NCHW) },
        ],
        outputs: vec![output("v", "v")],
        batch: 1,
    };
    let more =
        [("fps", Arc::new(Float64Array::from(vec![0.5])) as ArrayRef), ("condition", Arc::new(none) as ArrayRef)];
    let made = run(denoiser.clone(), &schema, clip(&schema, Some(made_up(5, 27)), &more)).await;
    assert_eq!(
        made.text(schema::FATE_REASON).unwrap().value(0),
        "column frames gives [5, 32, 32, 3] for an item, input x_t takes [8, 32, 32, 3]"
    );
    assert_eq!(made.text(schema::FATE_STAGE).unwrap().value(0), "denoise");
    let made = run(denoiser, &schema, clip(&schema, Some(made_up(8, 27)), &more)).await;
    assert_eq!(floats(&made, "v").len(), 8 * 32 * 32 * 3);
}

/// The graph gives the mean of each colour and the sum of the numbers times the weight.
#[tokio::test]
async fn columns_feed_a_model_beside_frames() {
    let tokens = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([4, 5, 6].map(Some))]);
    let schema = input([Field::new("tokens", tokens.data_type().clone(), true)]);
    let feed =
        |tensor: &str, column: &str| ModelInput { column: column.to_owned(), ..frames_input(tensor, Layout::NCHW) };
    let config = ModelConfig {
        name: None,
        model: format!("{}/tests/models/mixed.onnx", env!("CARGO_MANIFEST_DIR")),
        inputs: vec![feed("weight", "fps"), frames_input("image", Layout::NCHW), feed("numbers", "tokens")],
        outputs: vec![
            output("colour", "colour"),
            ModelOutput { kind: OutputType::Number, reduce: Reduce::First, ..output("total", "total") },
            ModelOutput { reduce: Reduce::Max, ..output("sum", "sum") },
        ],
        batch: 4,
    };
    let frames = ClipFrames {
        data: Buffer::from([[10u8, 20, 30].repeat(4), [30, 40, 60].repeat(4)].concat()),
        shape: [2, 2, 2],
    };
    let fps = Arc::new(Float64Array::from(vec![2.5]));
    let clips = clip(&schema, Some(frames), &[("tokens", Arc::new(tokens)), ("fps", fps)]);
    let made = run(config, &schema, clips).await;
    assert_eq!(floats(&made, "colour"), [20.0, 30.0, 45.0]);
    assert_eq!(floats(&made, "sum"), [15.0]);
    assert_eq!(made.column("total").unwrap().as_primitive::<Float32Type>().value(0), 37.5);
}

#[tokio::test]
async fn a_clip_without_a_number_fails() {
    let schema = input([Field::new("numbers", columns::list_of(DataType::Int32), true)]);
    let config = ModelConfig {
        name: None,
        model: format!("{}/tests/models/fixed.onnx", env!("CARGO_MANIFEST_DIR")),
        inputs: vec![ModelInput { column: "numbers".to_owned(), ..frames_input("numbers", Layout::NCHW) }],
        outputs: vec![output("sum", "sum")],
        batch: 4,
    };
    let made = run(config, &schema, clip(&schema, None, &[])).await;
    assert_eq!(made.text(schema::FATE_REASON).unwrap().value(0), "column numbers is null");
}

fn mistake(change: impl FnOnce(&mut ModelConfig)) -> String {
    let mut config = tagger();
    change(&mut config);
    ModelStage::new(config).open(&context(), &input([])).map(drop).unwrap_err().to_string()
}

#[test]
fn mistakes_say_what_to_do() {
    for (message, wanted) in [
        (mistake(|config| config.inputs[0].tensor = "images".to_owned()), "no input images; did you mean image?"),
        (mistake(|config| config.outputs[0].tensor = "logit".to_owned()), "no output logit; did you mean logits?"),
        (mistake(|config| config.inputs[0].layout = Layout::NHWC), "layout NHWC does not fit, its colours are not 3"),
        (mistake(|config| config.inputs[0].layout = Layout::NTCHW), "layout NTCHW has 5 axes"),
        (mistake(|config| config.inputs[0].dtype = Some(Dtype::U8)), "another type than the graph's f32; remove it"),
        (mistake(|config| config.inputs[0].resize = Some([256, 224])), "resize to 256 × 224 does not fit"),
        (mistake(|config| config.inputs[0].std = PerColour::Each([1.0, 0.0, 1.0])), "std is 0"),
        (mistake(|config| config.inputs.push(config.inputs[0].clone())), "is fed twice; name it once under inputs"),
        (
            mistake(|config| config.inputs[0].column = "caption".to_owned()),
            "a number or a list of numbers was expected",
        ),
        (
            mistake(|config| config.outputs[0].kind = OutputType::Number),
            "has 1280 elements an item, which is no number",
        ),
        (mistake(|config| config.outputs[0].column = "tags".to_owned()), "column tags is there already"),
        (mistake(|config| config.outputs[1].tensor = "embedding".to_owned()), "its labels are 1000"),
        (mistake(|config| config.outputs[2].column = "embedding".to_owned()), "column embedding is made twice"),
        (mistake(|config| config.model = "no.onnx".to_owned()), "model no.onnx could not be opened"),
    ] {
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn columns_follow_from_the_settings_alone() {
    let config = ModelConfig { model: "not here.onnx".to_owned(), ..tagger() };
    let made = ModelStage::new(config).output_schema(&input([])).unwrap();
    let kind = |name: &str| made.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(kind("embedding"), columns::list_of(DataType::Float32));
    assert_eq!(kind("tags"), columns::list_of(DataType::Utf8));
    let number = ModelOutput { kind: OutputType::Number, ..output("v", "v") };
    assert_eq!(outputs::field("model", &number).unwrap().data_type(), &DataType::Float32);
}

fn written(config: ModelInput, bytes: &[u8]) -> Vec<f32> {
    let mut into = vec![0.0; bytes.len()];
    FrameWriter::new(&config, Dtype::F32).write(bytes, 2, RowMut::F32(&mut into));
    into
}

#[test]
fn bytes_are_laid_out_as_asked() {
    let two_pixels = [1, 2, 3, 4, 5, 6];
    let of = |layout, colours| written(ModelInput { colours, ..frames_input("x", layout) }, &two_pixels);
    assert_eq!(of(Layout::NCHW, Colours::Rgb), [1., 4., 2., 5., 3., 6.]);
    assert_eq!(of(Layout::NHWC, Colours::Bgr), [3., 2., 1., 6., 5., 4.]);
    let two_frames = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let config = ModelInput {
        mean: PerColour::Each([1.0, 2.0, 3.0]),
        std: PerColour::All(2.0),
        colours: Colours::Bgr,
        ..frames_input("x", Layout::NTCHW)
    };
    assert_eq!(written(config, &two_frames), [1., 2.5, 0., 1.5, -1., 0.5, 4., 5.5, 3., 4.5, 2., 3.5]);
}

#[test]
fn integers_are_rounded_and_kept_in_range() {
    let config =
        ModelInput { mean: PerColour::All(100.0), std: PerColour::All(-0.5), ..frames_input("x", Layout::NHWC) };
    let mut into = [7u8; 3];
    FrameWriter::new(&config, Dtype::U8).write(&[0, 99, 255], 1, RowMut::U8(&mut into));
    assert_eq!(into, [200, 2, 0]);
}

#[test]
fn scaling_down_weighs_every_pixel() {
    let row: Vec<u8> = [0, 100, 200, 50].iter().flat_map(|&value| [value, 255 - value, 7]).collect();
    let column = frames::column(Some(ClipFrames { data: Buffer::from(row), shape: [1, 1, 4] })).unwrap();
    let view = frames::view(&column, 0).unwrap().unwrap();
    let pixels = Pixels::of(&column, 0, &view, FrameChoice::All).resized([1, 2]).unwrap();
    // A triangle as wide as two target pixels: (3·0 + 3·100 + 200) / 7 and (100 + 3·200 + 3·50) / 7.
    assert_eq!(pixels.all(), [71, 184, 7, 121, 134, 7]);
}

#[test]
fn frames_are_chosen() {
    let column = frames::column(Some(made_up(5, 2))).unwrap();
    let view = frames::view(&column, 0).unwrap().unwrap();
    let chosen = |choice| Pixels::of(&column, 0, &view, choice).all().to_vec();
    assert_eq!(chosen(FrameChoice::First), view.data[..12]);
    assert_eq!(chosen(FrameChoice::Middle), view.data[24..36]);
    assert_eq!(chosen(FrameChoice::Last), view.data[48..]);
    assert_eq!(chosen(FrameChoice::All), view.data);
}
