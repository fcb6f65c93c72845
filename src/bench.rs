//! Measures a pipeline, stage by stage, beside the limits of this machine.
//!
//! Enters: a pipeline. Leaves: what it did on a repeated input, and what FFmpeg, ONNX Runtime and a tar writer do with
//! the same input in the same process with no engine around them. Limits are measured before and after the run, since
//! machines are noisy.

pub mod input;
pub mod limits;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use self::limits::Limits;
use crate::engine::{Engine, RunRequest, prepare, run};
use crate::error::{Error, Result};
use crate::progress::{Progress, StageView};
use crate::spec::PipelineSpec;

/// What a benchmark came to.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Clips that were run.
    pub clips: u64,
    /// Cores that were used.
    pub threads: usize,
    /// Seconds from the start of the run to the commit.
    pub seconds: f64,
    /// Clips a second.
    pub clips_per_s: f64,
    /// Clips a second that the bare parts would do one after another.
    pub limit_clips_per_s: f64,
    /// The one over the other.
    pub ratio: f64,
    /// Seconds until the first work unit was in its shard.
    pub first_shard_s: f64,
    /// Most resident memory of the process in bytes, models and the limits' own buffers included.
    pub peak_memory: u64,
    /// The stages.
    pub stages: Vec<StageReport>,
    /// The limits.
    pub limits: Vec<LimitReport>,
}

/// What a stage did.
#[derive(Debug, Clone, Serialize)]
pub struct StageReport {
    /// Name of the stage.
    pub stage: String,
    /// Rows a second of the run's time.
    pub rows_per_s: f64,
    /// Bytes of rows a second of the run's time.
    pub bytes_per_s: f64,
    /// Share of the processor time of all cores, 0 to 1.
    pub busy: f64,
    /// Rows inside on average: waiting and worked on.
    pub queue: f64,
}

/// What a bare part can do.
#[derive(Debug, Clone, Serialize)]
pub struct LimitReport {
    /// The part, and the stage that it stands for.
    pub part: String,
    /// Clips a second on all cores.
    pub clips_per_s: f64,
    /// In its own unit, for people.
    pub rate: String,
}

/// Runs the benchmark with `clips` clips, in `folder`, which may be removed afterwards.
pub async fn bench(spec: &PipelineSpec, clips: usize, folder: &std::path::Path) -> Result<Report> {
    let (spec, files) = input::repeat(spec, clips, folder)?;
    let measure = || {
        let (spec, files, folder) = (spec.clone(), files.clone(), folder.to_owned());
        tokio::task::spawn_blocking(move || limits::measure(&spec, &files, &folder))
    };
    let before = measure().await.map_err(Error::internal)??;
    let context = prepare::context(&spec)?;
    let progress = Arc::new(Progress::default());
    let request = RunRequest {
        spec: spec.clone(),
        engine: Engine::Local,
        overwrite: true,
        retry: None,
        context,
        progress: Arc::clone(&progress),
        stop: CancellationToken::new(),
    };
    let (outcome, queues) = with_queues(&progress, run::run(request)).await;
    let dataset = outcome?.dataset;
    let after = measure().await.map_err(Error::internal)??;
    let run = dataset.runs.last().ok_or_else(|| Error::internal("a dataset without a run"))?;
    let limits = Limits::mean(&before, &after);
    let threads = prepare::threads(&spec);
    let (clips_per_s, limit) = (run.counts.clips as f64 / run.seconds, limits.clips_per_s());
    let queue = |index: usize| queues.get(index).copied().unwrap_or(0.0);
    let views = progress.stages();
    let stages = views.iter().enumerate().map(|(index, stage)| report(stage, queue(index), run.seconds, threads));
    Ok(Report {
        clips: run.counts.clips,
        threads,
        seconds: run.seconds,
        clips_per_s,
        limit_clips_per_s: limit,
        ratio: clips_per_s / limit,
        first_shard_s: progress.first_unit().unwrap_or_default().as_secs_f64(),
        peak_memory: run.peak_memory,
        stages: stages.collect(),
        limits: limits.reports(),
    })
}

fn report(stage: &StageView, queue: f64, seconds: f64, threads: usize) -> StageReport {
    StageReport {
        stage: stage.name.clone(),
        rows_per_s: stage.handled as f64 / seconds,
        bytes_per_s: stage.bytes as f64 / seconds,
        busy: stage.busy.as_secs_f64() / (seconds * threads as f64),
        queue,
    }
}

/// Runs `work` and looks, now and then, how many rows are inside each stage.
async fn with_queues<T>(progress: &Progress, work: impl Future<Output = T>) -> (T, Vec<f64>) {
    let (mut sums, mut looks) = (Vec::<f64>::new(), 0.0);
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                let stages = progress.stages();
                sums.resize(stages.len(), 0.0);
                sums.iter_mut().zip(stages).for_each(|(sum, stage)| *sum += stage.inside as f64);
                looks += 1.0;
            }
        }
    };
    (done, sums.into_iter().map(|sum| sum / f64::max(looks, 1.0)).collect())
}
