//! One model, shared by everybody who wants rows run through it.
//!
//! **Who runs a batch.** There is no background task. Every caller queues its rows and lines up for a core; whoever
//! gets one takes the oldest rows of all callers, up to a batch, runs them, and tells their callers. So a run starts as
//! soon as a core is free and anything is pending, batches fill exactly when the machine is busy, and nothing goes on
//! when the callers are gone. A caller whose rows have been taken leaves the line.
//!
//! **Same values, whatever the batch.** ONNX Runtime uses other kernels for a batch of one, with differences in the
//! last bits; from two rows on, values do not depend on the batch. So a lone row is run twice over on the processor.
//! On a GPU, where kernels are chosen by shape, every batch is filled up to the same size; that also makes TensorRT
//! build one engine only.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use half::f16;

use super::graph::{DimsText, Graph, TensorSpec};
use super::queue::{Batch, Call, Queue, Ticket};
use super::worker::Worker;
use super::{SessionOptions, lock, runtime};
use crate::error::{Error, Result};
use crate::spec::Provider;
use crate::stage::context::CpuPool;

/// Fewest rows that a run on the processor is cut down to: below, a row gets slower (a denoiser takes 2.11 ms a row at 2
/// rows, 1.95 at 3, 1.87 from 5 on).
const WORTH_SPLITTING: usize = 4;

/// Most bytes of inputs in a run on the processor: above, what the graph computes in between falls out of the caches
/// (the denoiser, 96 KiB a row: 1.30 ms a row at 48 rows, 1.09 at 12 and at 6; efficientnet, 588 KiB a row: 14.9 ms at
/// 16 rows, 13.8 at 3 and at 5).
const CACHED_BYTES: usize = 640 << 10;

/// Runs of one model before a core looks for other work: what a run computes in between lies where the last one of the same
/// model left it, in the caches (two denoisers in turn: 0.88 to 0.95 of the rate of either alone).
const RUNS_IN_A_ROW: usize = 8;

/// Rows that a caller wants to be run; they are written straight into a batch and their values read from it, on a
/// thread that may block.
pub trait Rows: Debug + Send + Sync + 'static {
    /// Number of rows.
    fn count(&self) -> usize;

    /// Number of inputs, as the graph has.
    fn inputs(&self) -> usize;

    /// Axes of every row of the graph's input number `input`, without the batch axis.
    fn dims(&self, input: usize) -> &[usize];

    /// Writes a row of an input, row-major.
    fn fill(&self, row: usize, input: usize, into: RowMut<'_>);

    /// Receives the values of a row, row-major, for each output that the session was opened for; rows may come in any
    /// order and from several threads.
    fn take(&self, row: usize, outputs: &[&[f32]]);
}

/// A row to be written, in the type of the graph's input.
#[derive(Debug)]
pub enum RowMut<'a> {
    /// 32-bit floating point.
    F32(&'a mut [f32]),
    /// 16-bit floating point.
    F16(&'a mut [f16]),
    /// Unsigned bytes.
    U8(&'a mut [u8]),
    /// 32-bit integers.
    I32(&'a mut [i32]),
    /// 64-bit integers.
    I64(&'a mut [i64]),
}

/// What a session is loaded from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) model: String,
    pub(super) path: PathBuf,
    pub(super) provider: Provider,
    pub(super) device: u32,
}

/// A loaded model.
#[derive(Debug)]
pub struct Session {
    source: Source,
    graph: Graph,
    outputs: Vec<String>,
    /// Most rows in one run.
    capacity: usize,
    /// Fewest rows in one run; others are filled up.
    least: usize,
    /// As many runs at once as this lets through.
    gate: CpuPool,
    queue: Mutex<Queue>,
    /// A session of ONNX Runtime runs one batch at a time, so there is one for each run at once, made when needed.
    idle: Mutex<Vec<Worker>>,
}

impl Session {
    pub(super) fn new(
        source: Source,
        graph: Graph,
        options: SessionOptions,
        loaded: ort::session::Session,
        cpu: &CpuPool,
    ) -> Result<Self> {
        if let Some(scalar) = graph.inputs.iter().find(|input| input.dims.is_empty()) {
            return Err(Error::config(format!(
                "model {}: input {scalar} has no batch axis; export it with one",
                source.model
            )));
        }
        let on_cpu = source.provider == Provider::Cpu;
        let capacity = graph.fixed_batch().unwrap_or(options.batch.max(if on_cpu { 2 } else { 1 }));
        let least = if on_cpu && graph.fixed_batch().is_none() { 2 } else { capacity };
        let gate = if on_cpu { cpu.clone() } else { CpuPool::new(1) };
        let worker = Worker::new(loaded, &graph, &options.outputs).map_err(|message| model_error(&source, message))?;
        let outputs = options.outputs;
        let (queue, idle) = (Mutex::default(), Mutex::new(vec![worker]));
        Ok(Self { source, graph, outputs, capacity, least, gate, queue, idle })
    }

    /// The path of the model, as it was asked for.
    pub fn model(&self) -> &str {
        &self.source.model
    }

    /// The execution provider that runs it.
    pub fn provider(&self) -> Provider {
        self.source.provider
    }

    /// Its inputs and outputs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Runs rows, in batches with those of other callers; returns when all of them have their values, with the time
    /// that their runs took.
    ///
    /// Dropping the future gives up the rows that no run has begun with.
    pub async fn infer(self: &Arc<Self>, rows: Arc<dyn Rows>) -> Result<Duration> {
        if rows.count() == 0 {
            return Ok(Duration::ZERO);
        }
        self.check(&*rows)?;
        let Call { ticket, mut taken, done } = lock(&self.queue).push(rows);
        let _waiting = Waiting { session: self, ticket };
        loop {
            let session = Arc::clone(self);
            tokio::select! {
                biased;
                // An error is a panic of the run, and `done` tells.
                _ = &mut taken => break,
                led = self.gate.run(move || session.run_some()) => { led?; }
            }
        }
        match done.await {
            Ok(Ok(busy)) => Ok(busy),
            Ok(Err(message)) => Err(model_error(&self.source, message)),
            Err(_) => Err(Error::internal(format!("model {}: a run gave no answer", self.source.model))),
        }
    }

    /// Stages check shapes first and say which clip and what to do; what slips through ends the run here.
    fn check(&self, rows: &dyn Rows) -> Result<()> {
        if rows.inputs() != self.graph.inputs.len() {
            let (given, wanted) = (rows.inputs(), self.graph.inputs.len());
            return Err(model_error(&self.source, format!("it takes {wanted} inputs, {given} were given")));
        }
        match self.graph.inputs.iter().enumerate().find(|(index, input)| !input.takes(rows.dims(*index))) {
            Some((index, input)) => {
                let (takes, given) = (DimsText(input.row_dims()), rows.dims(index));
                let message = format!("a row of input {} is {takes}, {given:?} was given", input.name);
                Err(model_error(&self.source, message))
            }
            None => Ok(()),
        }
    }

    /// How many rows like these to take out of `pending`: the whole capacity of a GPU; on the processor no more than
    /// its caches hold, and a few rows are shared out among the cores that have nothing else to do.
    fn run_length(&self, rows: &dyn Rows, pending: usize) -> usize {
        if self.source.provider != Provider::Cpu {
            return self.capacity;
        }
        let bytes =
            |(index, input): (usize, &TensorSpec)| rows.dims(index).iter().product::<usize>() * input.element.bytes();
        let of_row = self.graph.inputs.iter().enumerate().map(bytes).sum();
        even_runs(pending, most_in_cache(of_row, self.capacity), 1 + self.gate.spare())
    }

    /// Runs the oldest rows, and some more; blocking.
    fn run_some(&self) {
        for _ in 0..RUNS_IN_A_ROW {
            let batch = lock(&self.queue).take(|rows, pending| self.run_length(rows, pending));
            let Some(batch) = batch else { return };
            let start = Instant::now();
            let result = self.run(&batch);
            batch.finish(&result, start.elapsed());
        }
    }

    fn run(&self, batch: &Batch) -> Result<(), String> {
        let idle = lock(&self.idle).pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.another_worker()?,
        };
        worker.run(batch, self.least.max(batch.count))?;
        // After an error the session is dropped: the run of the pipeline ends.
        lock(&self.idle).push(worker);
        Ok(())
    }

    fn another_worker(&self) -> Result<Worker, String> {
        let Source { path, provider, device, .. } = &self.source;
        let loaded = runtime::load(path, *provider, *device).map_err(|error| error.to_string())??;
        Worker::new(loaded, &self.graph, &self.outputs)
    }

    #[cfg(test)]
    pub(super) fn waiting_rows(&self) -> usize {
        lock(&self.queue).rows()
    }
}

/// Rows of the first of equally long runs that do `pending` rows: no longer than `most`, and a run for each of `cores`
/// while they are worth it. Full runs and one with the rest would leave a short one, which is slow.
fn even_runs(pending: usize, most: usize, cores: usize) -> usize {
    let runs = pending.div_ceil(most).max(cores.min(pending / WORTH_SPLITTING)).max(1);
    pending.div_ceil(runs)
}

/// Most rows of so many bytes of inputs in a run on the processor.
pub(super) fn most_in_cache(of_row: usize, capacity: usize) -> usize {
    (CACHED_BYTES / of_row.max(1)).max(WORTH_SPLITTING).min(capacity)
}

fn model_error(source: &Source, message: String) -> Error {
    Error::Model { model: source.model.clone(), message }
}

/// Takes a caller's rows out of the queue when it is dropped.
struct Waiting<'a> {
    session: &'a Session,
    ticket: Arc<Ticket>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.session.queue).remove(&self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use super::even_runs;

    #[test]
    fn runs_are_even_and_leave_no_short_rest() {
        // Six rows of a clip on one core, and of two clips: not ten and two.
        assert_eq!(even_runs(6, 10, 1), 6);
        assert_eq!(even_runs(12, 10, 1), 6);
        // A spare core gets its part as long as that is worth a run.
        assert_eq!(even_runs(8, 10, 2), 4);
        assert_eq!(even_runs(6, 10, 2), 6);
        assert_eq!(even_runs(1, 10, 8), 1);
        for pending in 1..200 {
            assert!((1..=10).contains(&even_runs(pending, 10, 3)));
        }
    }
}
