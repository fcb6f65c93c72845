use std::sync::OnceLock;
use std::time::Duration;

use futures::future::join_all;

use super::*;

fn model(name: &str) -> String {
    format!("{}/data/models/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn small(name: &str) -> String {
    format!("{}/tests/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

fn registry(cores: usize) -> ModelRegistry {
    ModelRegistry::new(&ModelsSpec::default(), CpuPool::new(cores))
}

fn options(batch: usize, outputs: &[&str]) -> SessionOptions {
    SessionOptions { batch, outputs: outputs.iter().map(|&name| name.to_owned()).collect() }
}

fn denoiser(cores: usize, batch: usize) -> Arc<Session> {
    registry(cores).session(&model("denoiser/denoiser-base.onnx"), &options(batch, &["v"])).unwrap()
}

/// Rows of made-up numbers that depend on the row's number alone.
#[derive(Debug)]
struct MadeUp {
    first: usize,
    dims: Vec<Vec<usize>>,
    values: Vec<OnceLock<Vec<f32>>>,
    panics: bool,
}

impl MadeUp {
    fn new(session: &Session, rows: std::ops::Range<usize>) -> Arc<Self> {
        let dims = |input: &TensorSpec| input.row_dims().iter().map(|dim| dim.unwrap()).collect();
        let values = rows.clone().map(|_| OnceLock::new()).collect();
        let dims = session.graph().inputs.iter().map(dims).collect();
        Arc::new(Self { first: rows.start, dims, values, panics: false })
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        self.values.iter().map(|values| values.get().unwrap().iter().map(|value| value.to_bits()).collect()).collect()
    }
}

impl Rows for MadeUp {
    fn count(&self) -> usize {
        self.values.len()
    }

    fn inputs(&self) -> usize {
        self.dims.len()
    }

    fn dims(&self, input: usize) -> &[usize] {
        &self.dims[input]
    }

    fn fill(&self, row: usize, input: usize, into: RowMut<'_>) {
        let number = |at: usize| (at * 7919 + (self.first + row) * 104_729 + input * 31) % 2017;
        match into {
            RowMut::F32(into) => into.iter_mut().enumerate().for_each(|(at, to)| *to = number(at) as f32 / 2017.0),
            RowMut::I32(into) => into.iter_mut().enumerate().for_each(|(at, to)| *to = (number(at) % 256) as i32),
            other => panic!("not used here: {other:?}"),
        }
    }

    fn take(&self, row: usize, outputs: &[&[f32]]) {
        assert!(!self.panics, "asked to");
        self.values[row].set(outputs.concat()).unwrap();
    }
}

#[tokio::test]
async fn values_do_not_depend_on_the_batch() {
    let session = denoiser(2, 16);
    let alone: Vec<_> = (0..12).map(|row| MadeUp::new(&session, row..row + 1)).collect();
    for rows in &alone {
        session.infer(Arc::<MadeUp>::clone(rows)).await.unwrap();
    }
    let alone: Vec<_> = alone.iter().flat_map(|rows| rows.bits()).collect();

    let together: Vec<_> = [0..5, 5..6, 6..12].map(|rows| MadeUp::new(&session, rows)).into();
    let calls = together.iter().map(|rows| session.infer(Arc::<MadeUp>::clone(rows)));
    for busy in join_all(calls).await {
        assert!(busy.unwrap() > Duration::ZERO);
    }
    let together: Vec<_> = together.iter().flat_map(|rows| rows.bits()).collect();
    assert!(alone == together);
    assert_ne!(alone[0], alone[1]);
}

#[tokio::test]
async fn one_caller_may_bring_more_than_a_batch() {
    let (small, large) = (denoiser(2, 4), denoiser(1, 64));
    let (a, b) = (MadeUp::new(&small, 0..11), MadeUp::new(&large, 0..11));
    small.infer(Arc::<MadeUp>::clone(&a)).await.unwrap();
    large.infer(Arc::<MadeUp>::clone(&b)).await.unwrap();
    assert!(a.bits() == b.bits());
}

#[tokio::test]
async fn a_fixed_batch_axis_is_kept() {
    let session = registry(2).session(&small("fixed"), &options(16, &["sum"])).unwrap();
    assert_eq!(session.graph().inputs[0].to_string(), "numbers i32 [2, 3]");
    let rows = MadeUp::new(&session, 0..5);
    session.infer(Arc::<MadeUp>::clone(&rows)).await.unwrap();
    // The first row holds 0, 7919 mod 2017 mod 256 and 15838 mod 2017 mod 256.
    assert_eq!(rows.values[0].get().unwrap(), &[(7919 % 2017 % 256 + 15838 % 2017 % 256) as f32]);
    assert!(rows.bits().iter().all(|row| row.len() == 1));
}

#[tokio::test]
async fn rows_of_other_shapes_are_not_mixed() {
    let session = registry(1).session(&small("conditioned"), &options(8, &["v"])).unwrap();
    let sized = |side: usize| {
        let dims = vec![vec![2, side, side, 3], vec![], vec![4]];
        Arc::new(MadeUp { first: 0, dims, values: vec![OnceLock::new()], panics: false })
    };
    let all = [sized(4), sized(8), sized(4)];
    for result in join_all(all.iter().map(|rows| session.infer(Arc::<MadeUp>::clone(rows)))).await {
        result.unwrap();
    }
    assert_eq!(all.map(|rows| rows.bits()[0].len()), [96, 384, 96]);
}

#[tokio::test]
async fn a_caller_who_leaves_takes_its_rows_along() {
    let cpu = CpuPool::new(1);
    let registry = ModelRegistry::new(&ModelsSpec::default(), cpu.clone());
    let session = registry.session(&model("denoiser/denoiser-base.onnx"), &options(8, &["v"])).unwrap();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let mut busy = std::pin::pin!(cpu.run(move || wait.recv()));
    assert!(futures::poll!(&mut busy).is_pending());

    let stays = MadeUp::new(&session, 0..2);
    let mut leaving = Box::pin(session.infer(MadeUp::new(&session, 2..5)));
    let mut staying = Box::pin(session.infer(Arc::<MadeUp>::clone(&stays)));
    assert!(futures::poll!(&mut leaving).is_pending());
    assert!(futures::poll!(&mut staying).is_pending());
    assert_eq!(session.waiting_rows(), 5);
    drop(leaving);
    assert_eq!(session.waiting_rows(), 2);
    release.send(()).unwrap();
    busy.await.unwrap().0.unwrap();
    staying.await.unwrap();
    assert_eq!(stays.bits().len(), 2);
}

#[tokio::test]
async fn a_panic_is_an_error_for_all_who_wait() {
    let session = denoiser(1, 8);
    let broken = Arc::new(MadeUp { panics: true, ..Arc::into_inner(MadeUp::new(&session, 0..2)).unwrap() });
    let whole = MadeUp::new(&session, 2..3);
    let (first, second) = tokio::join!(session.infer(broken), session.infer(whole));
    assert!(first.is_err() && second.is_err());
    session.infer(MadeUp::new(&session, 0..1)).await.unwrap();
}

#[tokio::test]
async fn rows_of_a_wrong_shape_are_refused() {
    let session = denoiser(1, 8);
    let dims = vec![vec![8, 64, 64, 3], vec![], vec![384]];
    let error = session.infer(Arc::new(MadeUp { first: 0, dims, values: vec![OnceLock::new()], panics: false })).await;
    let message = error.unwrap_err().to_string();
    assert!(message.ends_with("a row of input x_t is [8, 32, 32, 3], [8, 64, 64, 3] was given"), "{message}");
}

#[test]
fn a_model_is_loaded_once() {
    let registry = registry(2);
    let [a, b, c] = [8, 8, 4].map(|batch| registry.session(&small("mixed"), &options(batch, &["sum"])).unwrap());
    assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &c));
}

#[test]
fn mistakes_say_what_to_do() {
    let registry = registry(1);
    let missing = registry.session("no/such.onnx", &options(1, &[])).unwrap_err();
    assert!(missing.to_string().starts_with("model no/such.onnx could not be opened"), "{missing}");
    let output = registry.session(&model("efficientnet-lite0.onnx"), &options(1, &["logit"])).unwrap_err();
    assert!(output.to_string().ends_with("has no output logit; did you mean logits?"), "{output}");
    let garbage = registry.session(&model("imagenet1k-names.json"), &options(1, &[])).unwrap_err();
    assert_eq!(garbage.exit_code(), 2, "{garbage}");
}

/// On a machine with CUDA's libraries the first provider is the one that is used.
#[test]
fn a_provider_that_is_required_is_never_replaced() {
    let spec = ModelsSpec { require: Some(Provider::Cuda), ..ModelsSpec::default() };
    let strict = ModelRegistry::new(&spec, CpuPool::new(1));
    let (path, options) = (small("fixed"), options(1, &["sum"]));
    let lenient = registry(1);
    lenient.session(&path, &options).unwrap();
    let used = lenient.providers_used()[&path].clone();
    match strict.session(&path, &options) {
        Ok(session) => assert_eq!((session.provider(), used.as_str()), (Provider::Cuda, "cuda")),
        Err(error) => {
            assert!(error.to_string().contains("models.require is cuda, which could not be used"), "{error}");
            assert_eq!(used, "cpu");
        }
    }
}

#[test]
fn the_limit_is_measured_where_it_can_be() {
    let rate = |path: String| raw::rows_per_s(&ModelsSpec::default(), &path, 4, 2, Duration::from_millis(1)).unwrap();
    assert!(rate(small("fixed")).unwrap() > 0.0);
    assert_eq!(rate(small("mixed")), None);
}
