//! The verbs over a pipeline: run, validate, explain, noise.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::physical_plan::display::DisplayableExecutionPlan;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::render::render_sources;
use super::{ExplainArgs, NoiseArgs, PipelineArgs, RunArgs, print};
use crate::commit;
use crate::engine::{Engine, Retry, RunOutcome, RunRequest, prepare, run as driver};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::plan;
use crate::progress::Progress;
use crate::progress::display::{self, ProgressMode};
use crate::schema;
use crate::spec::{self, Diagnostic, Diagnostics, LoadedSpec, PipelineSpec, StageSpec};
use crate::stage::{StageContext, score};
use crate::storage::Storage;

/// Reads the pipeline of a call.
pub(super) fn load(args: &PipelineArgs) -> Result<LoadedSpec> {
    Ok(spec::load(&args.pipeline, &args.sets, &|name| std::env::var(name).ok())?)
}

/// An error about a stage gets the place of the stage in the file.
pub(super) fn place(loaded: &LoadedSpec, error: Error) -> Error {
    match error {
        Error::Stage { .. } | Error::Source { .. } => diagnostic(loaded, &error).into(),
        other => other,
    }
}

/// What is wrong, where it stands, and what to do: our messages say the last behind a semicolon.
fn diagnostic(loaded: &LoadedSpec, error: &Error) -> Diagnostic {
    let text = error.to_string();
    let (message, help) = message_and_help(&text);
    match error {
        Error::Stage { index, .. } => loaded.diagnose(&format!("stages[{index}]"), message, help),
        Error::Source { index, .. } => loaded.diagnose(&format!("sources[{index}]"), message, help),
        _ => Diagnostic::new(message).help(help),
    }
}

/// Parts a message at the last semicolon that is not within quoted text.
pub(super) fn message_and_help(text: &str) -> (&str, &str) {
    let quoted = |at: usize| ['`', '"'].iter().any(|quote| text[..at].matches(*quote).count() % 2 == 1);
    let parted = text.rmatch_indices("; ").find(|(at, _)| !quoted(*at));
    parted.map_or((text, ""), |(at, between)| (&text[..at], &text[at + between.len()..]))
}

pub(super) async fn run(args: RunArgs) -> Result<()> {
    let loaded = load(&args.pipeline)?;
    render_sources(&loaded.spec, args.progress).await?;
    let retry = args.retry_failed.map(|reason| Retry { reason });
    let outcome = run_spec(loaded.spec.clone(), args.engine, args.overwrite, retry, args.progress).await;
    let outcome = outcome.map_err(|error| place(&loaded, error))?;
    if outcome.up_to_date {
        print("nothing to do: the dataset is up to date\n")?;
    }
    super::data::summarize(&Storage::new(&loaded.spec.storage), &loaded.spec.output.path).await
}

/// Runs a pipeline with progress; the first Ctrl-C lets what is under way finish, the second ends everything.
pub(super) async fn run_spec(
    spec: PipelineSpec,
    engine: Engine,
    overwrite: bool,
    retry: Option<Retry>,
    mode: ProgressMode,
) -> Result<RunOutcome> {
    let context = prepare::context(&spec)?;
    let (progress, stop) = (Arc::new(Progress::default()), CancellationToken::new());
    let note = match &engine {
        Engine::Local => FINISHING,
        Engine::Cluster(_) => "stopping: the tasks on the cluster are ended, the work units that are done are kept",
    };
    let request = RunRequest {
        spec,
        engine,
        overwrite,
        retry,
        context: Arc::clone(&context),
        progress: Arc::clone(&progress),
        stop: stop.clone(),
    };
    let show = display::show(progress, Arc::clone(&context), mode);
    let outcome = tokio::select! {
        outcome = driver::run(request) => outcome,
        () = show => Err(Error::internal("the display ended before the run")),
        error = interrupts(&stop, &context.cancel, note) => Err(error),
    };
    context.storage.settle().await;
    outcome
}

/// What is told at the first Ctrl-C where clips under way are finished.
pub(super) const FINISHING: &str = "stopping: clips under way are finished first; press Ctrl-C again to stop at once";

/// Waits for Ctrl-C, or for a supervisor's SIGTERM, twice; at the first it tells `note`, if that says anything.
pub(super) async fn interrupts(stop: &CancellationToken, cancel: &CancellationToken, note: &str) -> Error {
    let mut terminated = match signal(SignalKind::terminate()) {
        Ok(terminated) => terminated,
        Err(error) => return Error::io("wait for", "SIGTERM")(error),
    };
    for (token, last) in [(stop, false), (cancel, true)] {
        tokio::select! {
            pressed = tokio::signal::ctrl_c() => if let Err(error) = pressed {
                return Error::io("wait for", "Ctrl-C")(error);
            },
            _ = terminated.recv() => {}
        }
        token.cancel();
        if !last && !note.is_empty() {
            tracing::warn!("{note}");
        }
    }
    Error::Cancelled
}

/// Opens everything that a run would open, reports all that is wrong, and says what there is.
pub(super) async fn validate(args: PipelineArgs) -> Result<()> {
    // Trainings have a model of their own, pipelines name theirs in stages.
    if spec::has_field(&args.pipeline, "model") {
        return super::train::validate(args).await;
    }
    let loaded = load(&args)?;
    let spec = &loaded.spec;
    let context = prepare::context(spec)?;
    let mut report = format!("configuration  {} stages, {}\n", spec.stages.len(), args.pipeline.display());
    let mut problems = Vec::new();
    let manifest = driver::list(spec, "validate", &context).await;
    let columns = match &manifest {
        Ok(manifest) => Arc::clone(&manifest.schema),
        Err(_) => schema::clip_schema(),
    };
    let listed = manifest.is_ok();
    match manifest {
        Ok(manifest) => sources(&manifest, &mut report)?,
        Err(error) => {
            let (spec, storage) = (spec.clone(), context.storage.clone());
            let all = tokio::task::spawn_blocking(move || Manifest::problems(&spec, &storage)).await;
            let all = all.map_err(Error::internal)?;
            problems.extend(if all.is_empty() { vec![error] } else { all });
        }
    }
    // Lists bring columns of their own, which stages that follow may need.
    if listed || spec.sources.iter().all(|source| source.path.is_some()) {
        problems.extend(stages(spec, &columns, &context, &mut report).await);
    }
    let root = context.storage.locate(&spec.output.path)?;
    match output(spec, &root).await {
        Ok(line) => writeln!(report, "output         {line}").map_err(Error::internal)?,
        Err(error) => problems.push(error),
    }
    print(&report)?;
    if problems.is_empty() {
        return print("valid\n");
    }
    Err(problems.iter().map(|error| diagnostic(&loaded, error)).collect::<Diagnostics>().into())
}

fn sources(manifest: &Manifest, report: &mut String) -> Result<()> {
    let mut counts = std::collections::BTreeMap::<(String, String), usize>::new();
    for unit in &manifest.units {
        let clips = crate::stage::ClipBatch::new(unit.rows()?);
        let (datasets, kinds) = (clips.text(schema::DATASET)?, clips.text(schema::SOURCE)?);
        for row in 0..clips.rows() {
            *counts.entry((datasets.value(row).to_owned(), kinds.value(row).to_owned())).or_default() += 1;
        }
    }
    for ((dataset, kind), clips) in counts {
        writeln!(report, "source         {dataset}: {clips} {kind} clips").map_err(Error::internal)?;
    }
    Ok(())
}

/// Opens every stage whose columns are there.
async fn stages(
    spec: &PipelineSpec,
    columns: &arrow::datatypes::SchemaRef,
    context: &Arc<StageContext>,
    report: &mut String,
) -> Vec<Error> {
    let mut problems = Vec::new();
    let mut schema = Arc::clone(columns);
    for (index, entry) in spec.stages.iter().enumerate() {
        let stage = entry.stage();
        let next = match stage.output_schema(&schema) {
            Ok(next) => next,
            Err(error) => {
                problems.push(error.at_stage(index));
                break;
            }
        };
        let (input, shared) = (Arc::clone(&schema), Arc::clone(context));
        let opened = tokio::task::spawn_blocking(move || stage.open(&shared, &input).map(drop)).await;
        match opened.unwrap_or_else(|error| Err(Error::internal(error))) {
            Ok(()) => *report += &format!("stage          {}: {}\n", entry.name(), entry.kind()),
            Err(error) => problems.push(error.at_stage(index)),
        }
        schema = next;
    }
    for (model, provider) in context.models.providers_used() {
        *report += &format!("model          {model} on {provider}\n");
    }
    problems
}

/// What the output holds, and whether it can be written to.
async fn output(spec: &PipelineSpec, root: &crate::storage::Location) -> Result<String> {
    let fingerprint = prepare::fingerprint(spec, &Storage::new(&spec.storage))?;
    let held = commit::open_output(root, &fingerprint, false).await?;
    // A probe is the only honest answer to whether a store can be written to; it leaves nothing behind.
    let existed = root.local().is_some_and(std::path::Path::exists);
    let probe = root.join(&format!(".simdrop-validate-{}", std::process::id()));
    probe.write("probe").await?;
    probe.delete().await?;
    if let Some(folder) = root.local().filter(|_| !existed) {
        // Only an empty folder is removed, so one that somebody else has begun to fill stays.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(match held {
        None => format!("{}: empty, can be written to", root.uri()),
        Some(dataset) => format!("{}: this pipeline's dataset, {} clips", root.uri(), dataset.counts.clips),
    })
}

pub(super) async fn explain(args: ExplainArgs) -> Result<()> {
    let loaded = load(&args.pipeline)?;
    if args.analyze {
        return analyze(&loaded).await.map_err(|error| place(&loaded, error));
    }
    let spec = &loaded.spec;
    let context = prepare::context(spec)?;
    let fingerprint = prepare::fingerprint(spec, &context.storage).map_err(|error| place(&loaded, error))?;
    let manifest = driver::list(spec, &fingerprint, &context).await.map_err(|error| place(&loaded, error))?;
    let root = context.storage.locate(&spec.output.path)?;
    let files = manifest.units.iter().map(|unit| object_store::ObjectMeta {
        location: commit::unit_file(&root, &fingerprint, &unit.id).path().clone(),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: 0,
        e_tag: None,
        version: None,
    });
    let plan = plan::build(spec, &fingerprint, &manifest.schema, &root, files.collect(), None);
    let plan = plan.map_err(|error| place(&loaded, error))?;
    print(&format!(
        "{} clips in {} work units, {} threads, {} of memory\n{}",
        manifest.clips(),
        manifest.units.len(),
        prepare::threads(spec),
        bytesize::ByteSize(prepare::memory_limit(spec) as u64),
        DisplayableExecutionPlan::new(plan.as_ref()).indent(false)
    ))
}

/// Runs into a folder of its own, so that the output stays as it is.
async fn analyze(loaded: &LoadedSpec) -> Result<()> {
    let folder = Scratch::new("analyze")?;
    let mut spec = loaded.spec.clone();
    spec.output.path = folder.path().join("dataset").display().to_string();
    render_sources(&spec, ProgressMode::Auto).await?;
    let outcome = run_spec(spec, Engine::Local, false, None, ProgressMode::Auto).await?;
    let mut text = outcome.plan.unwrap_or_default();
    let run = outcome.dataset.runs.last().ok_or_else(|| Error::internal("a dataset without a run"))?;
    writeln!(
        text,
        "\n{:<20} {:>8} {:>8} {:>8} {:>12} {:>12} {:>10} {:>11}",
        "stage", "rows", "dropped", "failed", "bytes out", "frames held", "busy s", "rows/busy s"
    )
    .map_err(Error::internal)?;
    for stage in &run.stages {
        writeln!(
            text,
            "{:<20} {:>8} {:>8} {:>8} {:>12} {:>12} {:>10.3} {:>11}",
            stage.stage,
            stage.rows,
            stage.dropped,
            stage.failed,
            bytesize::ByteSize(stage.bytes).to_string(),
            bytesize::ByteSize(stage.memory).to_string(),
            stage.busy_s,
            if stage.busy_s > 0.0 { format!("{:.1}", stage.rows as f64 / stage.busy_s) } else { "-".to_owned() }
        )
        .map_err(Error::internal)?;
    }
    writeln!(text, "peak memory {}, {:.2} s", bytesize::ByteSize(run.peak_memory), run.seconds)
        .map_err(Error::internal)?;
    print(&text)
}

/// A folder that is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch(std::path::PathBuf);

impl Scratch {
    pub(super) fn new(what: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("simdrop-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!("{} could not be removed: {error}", self.0.display());
        }
    }
}

pub(super) async fn noise(args: NoiseArgs) -> Result<()> {
    let loaded = load(&args.pipeline)?;
    let context = prepare::context(&loaded.spec)?;
    let mut written = 0;
    for (index, stage) in loaded.spec.stages.iter().enumerate() {
        let StageSpec::Score(config) = stage.clone() else { continue };
        let (shared, folder) = (Arc::clone(&context), args.output.join(stage.name()));
        let export = move || {
            let shape = score::clip_shape(&config, &shared.models)?;
            score::export_noise(&config, shape, &folder).map(|()| (folder, config.scores))
        };
        let exported = tokio::task::spawn_blocking(export).await.map_err(Error::internal)?;
        let (folder, scores) = exported.map_err(|error| place(&loaded, error.at_stage(index)))?;
        for score in scores.keys() {
            print(&format!("{0}/{score}/epsilon.npy\n{0}/{score}/t.npy\n", folder.display()))?;
            written += 1;
        }
    }
    if written == 0 {
        let pipeline = args.pipeline.pipeline.display();
        return Err(Error::config(format!("{pipeline} has no score stage, so there is no noise")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::message_and_help;

    #[test]
    fn help_stands_behind_the_last_semicolon_that_is_not_quoted() {
        assert_eq!(message_and_help("a; b"), ("a", "b"));
        assert_eq!(message_and_help("a `x; y` is wrong"), ("a `x; y` is wrong", ""));
        assert_eq!(message_and_help("a `x; y` is wrong; mend it"), ("a `x; y` is wrong", "mend it"));
    }
}
