//! The verb render.

use std::fmt::Write;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::pipeline::{FINISHING, interrupts};
use super::{RenderArgs, print};
use crate::error::{Error, Result};
use crate::manifest::scenes_of;
use crate::progress::display::ProgressMode;
use crate::render::progress::{self, RenderProgress};
use crate::render::run::{self, RenderOutcome, RenderRequest};
use crate::render::spec::ScenesSpec;
use crate::render::{draw, spec};
use crate::spec::{Loaded, PipelineSpec, load};

pub(super) async fn render(args: RenderArgs) -> Result<()> {
    let loaded: Loaded<ScenesSpec> = load(&args.scenes, &args.sets, &|name| std::env::var(name).ok())?;
    let mut spec = loaded.spec;
    spec.run.blender = args.blender.or(spec.run.blender);
    if args.list {
        for scene in draw::scenes(&spec) {
            print(&format!("{}\n", serde_json::to_string(&scene).map_err(Error::internal)?))?;
        }
        return Ok(());
    }
    let outcome = render_spec(spec.clone(), args.progress).await?;
    print(&summary(&spec, &outcome)?)
}

/// Renders what the sources of a pipeline want rendered and is not there yet.
pub(super) async fn render_sources(pipeline: &PipelineSpec, mode: ProgressMode) -> Result<()> {
    for scenes in pipeline.sources.iter().filter_map(|source| source.render.as_deref()) {
        let spec = scenes_of(scenes)?;
        let outcome = render_spec(spec.clone(), mode).await?;
        tracing::info!("{}", summary(&spec, &outcome)?.trim_end());
    }
    Ok(())
}

/// Renders with progress; the first Ctrl-C lets scenes under way finish, the second ends everything.
pub(super) async fn render_spec(spec: spec::ScenesSpec, mode: ProgressMode) -> Result<RenderOutcome> {
    let progress = Arc::new(RenderProgress::default());
    let (stop, cancel) = (CancellationToken::new(), CancellationToken::new());
    // Whatever ends this future ends the workers.
    let _guard = cancel.clone().drop_guard();
    let request = RenderRequest { spec, progress: Arc::clone(&progress), stop: stop.clone(), cancel: cancel.clone() };
    tokio::select! {
        outcome = run::run(request) => outcome,
        () = progress::show(progress, mode) => Err(Error::internal("the display ended before the render")),
        error = interrupts(&stop, &cancel, FINISHING) => Err(error),
    }
}

fn summary(spec: &ScenesSpec, outcome: &RenderOutcome) -> Result<String> {
    let mut text = format!("{}: {} clips, {} rendered now", spec.name, outcome.clips, outcome.rendered);
    let mut line = |line: std::fmt::Arguments<'_>| text.write_fmt(line).map_err(Error::internal);
    if outcome.rendered > 0 {
        let frames = outcome.rendered as f64 * f64::from(spec.render.frames);
        line(format_args!(
            "\n  frames   {:.3} s each, {:.1} % of it Blender's own rendering",
            outcome.total_s / frames,
            100.0 * outcome.render_s / outcome.total_s.max(1e-9)
        ))?;
    }
    line(format_args!("\n  failed   {}", outcome.failed.len()))?;
    for (id, reason) in outcome.failed.iter().take(5) {
        line(format_args!("\n    {id}: {reason}"))?;
    }
    line(format_args!("\n  list     {}\n", outcome.list))?;
    Ok(text)
}
