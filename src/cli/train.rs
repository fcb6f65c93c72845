//! The verb train.

use std::fmt::Write;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::pipeline::{FINISHING, interrupts, message_and_help};
use super::{PipelineArgs, TrainArgs, print};
use crate::error::{Error, Result};
use crate::progress::display;
use crate::spec::{Diagnostics, Loaded, load};
use crate::train::progress::TrainProgress;
use crate::train::run::{self, TrainOutcome, TrainRequest};
use crate::train::spec::TrainSpec;
use crate::train::validate::Validation;

pub(super) async fn train(args: TrainArgs) -> Result<()> {
    let loaded: Loaded<TrainSpec> = load(&args.training, &args.sets, &|name| std::env::var(name).ok())?;
    let progress = Arc::new(TrainProgress::default());
    let (stop, cancel) = (CancellationToken::new(), CancellationToken::new());
    let request = TrainRequest {
        spec: loaded.spec,
        resume: args.resume,
        overwrite: args.overwrite,
        progress: Arc::clone(&progress),
        stop: stop.clone(),
    };
    // The first Ctrl-C ends the training behind its step, with a checkpoint; the second at once.
    let outcome = tokio::select! {
        outcome = Box::pin(run::run(request)) => outcome?,
        () = display::show_states(|| progress.snapshot(), args.progress) => {
            return Err(Error::internal("the display ended before the training"));
        }
        error = interrupts(&stop, &cancel, FINISHING) => return Err(error),
    };
    print(&summary(&outcome)?)
}

/// Opens what a training would open, reports all that is wrong, and says what there is.
pub(super) async fn validate(args: PipelineArgs) -> Result<()> {
    let loaded: Loaded<TrainSpec> = load(&args.pipeline, &args.sets, &|name| std::env::var(name).ok())?;
    let found = Validation::of(&loaded.spec).await;
    let mut report = format!("configuration  {} steps, {}\n", loaded.spec.steps, args.pipeline.display());
    for (name, text) in &found.lines {
        writeln!(report, "{name:<15}{text}").map_err(Error::internal)?;
    }
    print(&report)?;
    if found.problems.is_empty() {
        return print("valid\n");
    }
    let problems = found.problems.iter().map(|(field, error)| {
        let text = error.to_string();
        let (message, help) = message_and_help(&text);
        loaded.diagnose(field, message, help)
    });
    Err(problems.collect::<Diagnostics>().into())
}

fn summary(outcome: &TrainOutcome) -> Result<String> {
    let mut text = format!("{}: {} steps, {} of them now\n", outcome.output, outcome.steps, outcome.steps_now);
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<9}{value}").map_err(Error::internal);
    line("model", format!("{} numbers trained; {}/{}", outcome.trained_count, outcome.output, run::MODEL))?;
    line("clips", format!("{} to train on, {} held out", outcome.clips[0], outcome.clips[1]))?;
    if outcome.unusable > 0 {
        line("unusable", format!("{} draws gave clips that could not be used; see the log", outcome.unusable))?;
    }
    let held_out = outcome.validation_loss.map_or_else(String::new, |loss| format!(", held out {loss:.4}"));
    line("loss", format!("{:.4}{held_out}", outcome.loss))?;
    if outcome.steps_now > 0 {
        let waited = 100.0 * outcome.wait_share;
        line("rate", format!("{:.2} steps/s, waited {waited:.1} % of the time for data", outcome.steps_per_s))?;
    }
    let providers: Vec<String> = outcome.providers.iter().map(|(graph, name)| format!("{graph} on {name}")).collect();
    line("ran", providers.join(", "))?;
    Ok(text)
}
