//! The command line: parse, dispatch, print.
//!
//! Results go to standard output, everything else to standard error.

mod bench;
mod cluster;
mod data;
mod evaluate;
mod pipeline;
mod render;
mod train;
mod verify;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::progress::display::ProgressMode;

/// A streaming data engine that turns real and synthetic video into training shards, and shows why each clip was kept.
#[derive(Debug, Parser)]
#[command(name = "simdrop", version, about, max_term_width = 120)]
pub struct Cli {
    /// What to log: error, warn, info, debug, trace, or a filter such as `simdrop=debug`.
    #[arg(long, global = true, env = "SIMDROP_LOG", default_value = "warn")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline: clips in, shards out. Run it again after an interruption and it goes on.
    Run(RunArgs),
    /// Check a pipeline, or a training, without running it: configuration, models and their tensors, sources, output.
    Validate(PipelineArgs),
    /// Show the plan of a pipeline.
    Explain(ExplainArgs),
    /// Ask questions of a dataset in SQL; without a query, a prompt.
    Sql(SqlArgs),
    /// Write new shards from a dataset by what is stored of its clips: no decoding, no scoring.
    Repack(RepackArgs),
    /// Check a dataset: every file, every row and every sample against what its dataset.json says.
    Verify(VerifyArgs),
    /// Measure a pipeline stage by stage, beside the limits of this machine.
    Bench(BenchArgs),
    /// Render synthetic clips and their ground truth with Blender. Run it again and what is missing is rendered.
    Render(RenderArgs),
    /// Start the scheduler of a cluster that `simdrop run --engine df://HOST:PORT` runs on.
    Scheduler(crate::engine::ballista::SchedulerOptions),
    /// Start an executor of a cluster.
    Executor(crate::engine::ballista::ExecutorOptions),
    /// Train a denoiser on datasets, with ONNX Runtime.
    Train(TrainArgs),
    /// Judge a score by clips with labels.
    Evaluate(EvaluateArgs),
    /// Make a file of thresholds from the scores of a dataset, for the simdrop stage.
    Calibrate(CalibrateArgs),
    /// Write the noise that the score stages of a pipeline use, as .npy files.
    Noise(NoiseArgs),
    /// Print a JSON Schema, or write all of them.
    Schema(SchemaArgs),
    /// Open videos for a run with `run.isolation: process`; only such a run calls it.
    #[command(hide = true)]
    VideoWorker(VideoWorkerArgs),
}

#[derive(Debug, Args)]
struct VideoWorkerArgs {
    /// Most bytes of memory. Default: no limit.
    #[arg(long)]
    memory: Option<u64>,
}

#[derive(Debug, Args)]
struct PipelineArgs {
    /// The pipeline, YAML.
    pipeline: PathBuf,
    /// Replace a value, such as `stages.decode.frames=4` or `run.memory_limit=2GiB`; may be given again.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// What runs it: `local`, this machine, or `df://HOST:PORT`, the cluster of that scheduler.
    #[arg(long, default_value_t)]
    engine: crate::engine::Engine,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressMode,
    /// Replace the dataset of another pipeline at the output.
    #[arg(long)]
    overwrite: bool,
    /// Run the clips of a finished dataset that have failed again, and nothing else of it: all of them, or those that
    /// failed at the stage REASON or with REASON in their reason.
    #[arg(long, value_name = "REASON", num_args = 0..=1, require_equals = true, conflicts_with = "overwrite")]
    retry_failed: Option<Option<String>>,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Run it, into a folder that is removed afterwards, and show rows, bytes, time and memory of each stage.
    #[arg(long)]
    analyze: bool,
}

#[derive(Debug, Args)]
struct SqlArgs {
    /// Folder of the dataset.
    dataset: String,
    /// The query; several are separated by semicolons.
    #[arg(conflicts_with = "file")]
    query: Option<String>,
    /// A file of queries, or the name of one of simdrop's own (see `sql/`), such as `drop-reasons`.
    #[arg(short, long, value_name = "FILE")]
    file: Option<String>,
    /// Format of the results.
    #[arg(long, value_enum, default_value_t)]
    format: crate::sql::Format,
    /// Write the results there instead of to standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RepackArgs {
    /// Folder of the dataset.
    dataset: String,
    /// Folder of the new dataset.
    #[arg(short, long, value_name = "FOLDER")]
    output: String,
    /// Name of the new dataset. Default: that of the old one.
    #[arg(long)]
    name: Option<String>,
    /// A SQL predicate over the clips, such as `simdrop_score < 0.02 or source = 'real'`.
    #[arg(long = "where", value_name = "PREDICATE", default_value = "fate = 'kept'")]
    keep: String,
    /// Shuffle the samples over all shards with this seed. Default: the order is kept.
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Shares of real and synthetic clips, such as `3:1`; of the kind that there is too much of, some are left out.
    #[arg(long, value_name = "REAL:SYNTHETIC")]
    mix: Option<crate::repack::Mix>,
    /// Most clips.
    #[arg(long)]
    limit: Option<u64>,
    /// Most samples in a shard.
    #[arg(long, default_value_t = 10_000)]
    max_samples: usize,
    /// Most bytes in a shard.
    #[arg(long, default_value = "3GB")]
    max_bytes: bytesize::ByteSize,
    /// Replace the dataset at the output.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// Folder of the dataset.
    dataset: String,
    /// Format of the result.
    #[arg(long, value_enum, default_value_t)]
    format: verify::VerifyFormat,
}

#[derive(Debug, Args)]
struct BenchArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Clips to run; those of the sources are taken again and again.
    #[arg(long, default_value_t = 64)]
    clips: usize,
    /// Format of the result.
    #[arg(long, value_enum, default_value_t)]
    format: bench::BenchFormat,
}

#[derive(Debug, Args)]
struct RenderArgs {
    /// The file of scenes, YAML.
    scenes: PathBuf,
    /// Replace a value, such as `seed=7` or `render.samples=8`; may be given again.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Blender's executable, or a Python that has `bpy`. Default: what `make blender` installed, else `blender`.
    #[arg(long, value_name = "PATH")]
    blender: Option<String>,
    /// Print the configurations of the scenes, one JSON object a line, and render nothing.
    #[arg(long)]
    list: bool,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressMode,
}

#[derive(Debug, Args)]
struct TrainArgs {
    /// The training, YAML.
    training: PathBuf,
    /// Replace a value, such as `steps=500` or `optimizer.learning_rate=0.0005`; may be given again.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Go on from the last checkpoint at the output.
    #[arg(long)]
    resume: bool,
    /// Replace what an earlier training left at the output.
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressMode,
}

#[derive(Debug, Args)]
struct EvaluateArgs {
    #[command(subcommand)]
    what: Evaluate,
}

#[derive(Debug, Subcommand)]
enum Evaluate {
    /// How well a score finds labelled clips: areas under the ROC curve with intervals over scenes, pairs, a threshold,
    /// and a simple baseline beside it.
    Filter(EvaluateFilterArgs),
}

#[derive(Debug, Args)]
struct EvaluateFilterArgs {
    /// Folder of a dataset with scores and labels.
    dataset: String,
    /// Columns of scores; larger means more likely defective. Several are judged each and together.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS", default_value = "simdrop_score")]
    score: Vec<String>,
    /// Column of the label; null in clean clips.
    #[arg(long, default_value = "defect")]
    label: String,
    /// Column of what belongs together. Default: the scene, else the file.
    #[arg(long)]
    group: Option<String>,
    /// Column of what several rows are parts of, such as `uri` for the windows of a file: they count once, with the
    /// largest of their scores.
    #[arg(long, value_name = "COLUMN")]
    worst_of: Option<String>,
    /// Labels that are judged together as well. Default: all.
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    together: Vec<String>,
    /// Labels of clips that are fine, such as recompressed ones.
    #[arg(long, value_delimiter = ',', value_name = "LABELS")]
    neutral: Vec<String>,
    /// Columns of the baseline. Default: those that a measure stage made.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    features: Option<Vec<String>>,
    /// Clips with a larger score are dropped; one for each score. Default: what drops 5 % of the clean clips.
    #[arg(long, value_delimiter = ',', value_name = "NUMBERS")]
    threshold: Vec<f64>,
    /// A SQL predicate over the clips that are judged.
    #[arg(long = "where", value_name = "PREDICATE", default_value = "true")]
    keep: String,
    /// Seed of the resampled intervals.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Format of the result.
    #[arg(long, value_enum, default_value_t)]
    format: evaluate::ReportFormat,
}

#[derive(Debug, Args)]
struct CalibrateArgs {
    /// Folder of a dataset with scores.
    dataset: String,
    /// The file to write.
    #[arg(short, long, value_name = "FILE", default_value = "thresholds.json")]
    output: PathBuf,
    /// Column of the score.
    #[arg(long, default_value = "simdrop_score")]
    score: String,
    /// Keep this share of the clips.
    #[arg(long, value_name = "SHARE", required_unless_present = "precision", conflicts_with = "precision")]
    quantile: Option<f64>,
    /// Drop as many clips as possible of which this share is defective.
    #[arg(long, value_name = "SHARE")]
    precision: Option<f64>,
    /// Column of the label, for a precision; null in clean clips.
    #[arg(long, default_value = "defect")]
    label: String,
    /// A threshold for each value of this column, such as `source`.
    #[arg(long, value_name = "COLUMN")]
    by: Option<String>,
    /// A SQL predicate over the clips that are looked at.
    #[arg(long = "where", value_name = "PREDICATE", default_value = "true")]
    keep: String,
}

#[derive(Debug, Args)]
struct NoiseArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Folder for the files.
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct SchemaArgs {
    /// Which one.
    #[arg(value_parser = ["pipeline", "clips", "dataset", "scenes", "scene", "truth", "train"])]
    name: Option<String>,
    /// Write all of them into this folder.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, default_missing_value = "schemas")]
    write: Option<PathBuf>,
}

impl Cli {
    /// The log filter.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Does what was asked, on a runtime of its own; blocking.
    ///
    /// The runtime is here and not in the program, so that all of this is compiled once, with the library.
    pub fn run(self) -> Result<()> {
        if let Command::VideoWorker(args) = &self.command {
            // Needs no runtime, and has one thread less to share a limited memory with.
            return crate::video::serve(args.memory);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("start", "the runtime"))?;
        let done = runtime.block_on(self.execute());
        // Threads that still compute when a run is broken off are not waited for: they look at the signal and end.
        runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        done
    }

    async fn execute(self) -> Result<()> {
        match self.command {
            Command::Run(args) => pipeline::run(args).await,
            Command::Validate(args) => pipeline::validate(args).await,
            Command::Explain(args) => pipeline::explain(args).await,
            Command::Sql(args) => data::sql(args).await,
            Command::Repack(args) => data::repack(args).await,
            Command::Verify(args) => verify::verify(args).await,
            Command::Bench(args) => bench::bench(args).await,
            Command::Render(args) => render::render(args).await,
            Command::Scheduler(options) => cluster::scheduler(options).await,
            Command::Executor(options) => cluster::executor(options).await,
            Command::Train(args) => train::train(args).await,
            Command::Evaluate(args) => match args.what {
                Evaluate::Filter(args) => evaluate::filter(args).await,
            },
            Command::Calibrate(args) => evaluate::calibrate(args).await,
            Command::Noise(args) => pipeline::noise(args).await,
            Command::Schema(args) => data::schema(args),
            Command::VideoWorker(args) => crate::video::serve(args.memory),
        }
    }
}

/// Writes to standard output; a reader that has gone away (`| head`) ends the program quietly.
pub(crate) fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        done => done.map_err(crate::error::Error::io("write", "standard output")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The calls of the program that a manifest makes.
    fn calls(value: &Value, found: &mut Vec<Vec<String>>) {
        let Value::Object(fields) = value else {
            return value.as_array().into_iter().flatten().for_each(|item| calls(item, found));
        };
        for (name, value) in fields {
            match (name.as_str(), value) {
                ("args" | "command", Value::Array(words)) => {
                    found.push(words.iter().map(|word| word.as_str().unwrap_or_default().to_owned()).collect());
                }
                _ => calls(value, found),
            }
        }
    }

    #[test]
    fn the_calls_in_the_manifests_are_understood() {
        for (file, expected) in [("kubernetes.yaml", 2), ("kubernetes-gpu.yaml", 1), ("compose.yaml", 2)] {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
            let mut found = Vec::new();
            for document in std::fs::read_to_string(path).unwrap().split("\n---\n") {
                calls(&serde_saphyr::from_str(document).unwrap(), &mut found);
            }
            assert_eq!(found.len(), expected, "{file}");
            for words in found {
                let call = std::iter::once("simdrop".to_owned()).chain(words.clone());
                assert!(Cli::try_parse_from(call).is_ok(), "{file}: {words:?}");
            }
        }
    }
}
