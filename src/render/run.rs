//! Renders whatever of a file of scenes is not rendered yet.
//!
//! A clip is there when its configuration lies beside it, which is written last: what was under way at a crash is
//! rendered again. A scene that fails is recorded under `failed/` with the log of Blender, and tried again by the next
//! run.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::blender::Blender;
use super::elements::EnvironmentKind;
use super::progress::RenderProgress;
use super::scene::Scene;
use super::spec::ScenesSpec;
use super::workers::{Outcome, Pool};
use super::{draw, list, pack};
use crate::error::{Error, Result};
use crate::storage::{Location, Storage};

/// Memory that a Blender process is taken to need where nothing is said.
const WORKER_MEMORY: usize = 2 << 30;

/// What is to be rendered.
#[derive(Debug, Clone)]
pub struct RenderRequest {
    /// The scenes.
    pub spec: ScenesSpec,
    /// Where it is counted.
    pub progress: Arc<RenderProgress>,
    /// No new scenes.
    pub stop: CancellationToken,
    /// Scenes under way end as well.
    pub cancel: CancellationToken,
}

/// What a render came to.
#[derive(Debug, Clone, Default)]
pub struct RenderOutcome {
    /// Clips of the file that are there now.
    pub clips: usize,
    /// Clips that this run rendered.
    pub rendered: usize,
    /// Clips that failed: their ids and why.
    pub failed: Vec<(String, String)>,
    /// Blender's own seconds and all seconds of the clips that were rendered, added up over the workers.
    pub render_s: f64,
    /// See `render_s`.
    pub total_s: f64,
    /// The list of clips.
    pub list: String,
}

/// What the workers have done so far.
#[derive(Debug, Default)]
struct Done {
    rendered: HashSet<String>,
    failed: Vec<(String, String)>,
    render_s: f64,
    total_s: f64,
    /// Version of Blender.
    version: Option<String>,
}

/// Renders what is missing and writes the list of clips.
pub async fn run(request: RenderRequest) -> Result<RenderOutcome> {
    let RenderRequest { spec, progress, stop, cancel } = request;
    let root = Storage::new(&spec.storage).locate(&spec.output.path)?;
    let there = rendered(&root).await?;
    let scenes: Vec<Scene> = draw::scenes(&spec).collect();
    let missing: VecDeque<Scene> = scenes.iter().filter(|scene| !there.contains(&scene.id)).cloned().collect();
    let mut done = Done::default();
    if !missing.is_empty() {
        let blender = Blender::find(spec.run.blender.as_deref())?;
        check_assets(&missing, &blender)?;
        progress.expect(missing.len() as u64, u64::from(spec.render.frames));
        let workers = workers(&spec).min(missing.len());
        tracing::info!("{} of {} clips to render, {workers} workers", missing.len(), scenes.len());
        let shared = Arc::new(Mutex::new(Done::default()));
        let (counts, place, runtime) = (Arc::clone(&shared), root.clone(), tokio::runtime::Handle::current());
        let (counted, limits, stopped) = (Arc::clone(&progress), spec.clone(), stop.clone());
        let work = tokio::task::spawn_blocking(move || {
            let pool = Pool {
                spec: &limits,
                blender: &blender,
                root: &place,
                progress: &counted,
                stop: &stopped,
                cancel: &cancel,
                runtime,
            };
            pool.render(missing, workers, &|scene, outcome| settle(&pool, scene, outcome, &counts))
        });
        work.await.map_err(Error::internal)??;
        done = std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
    }
    let Done { rendered: fresh, failed, render_s, total_s, version } = done;
    let here: Vec<Scene> =
        scenes.into_iter().filter(|scene| there.contains(&scene.id) || fresh.contains(&scene.id)).collect();
    write_list(&spec, &root, &here, version).await?;
    if stop.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let list = root.join(&list::file_name(&spec)).uri().to_owned();
    Ok(RenderOutcome { clips: here.len(), rendered: fresh.len(), failed, render_s, total_s, list })
}

/// Counts and records what became of a scene.
fn settle(pool: &Pool<'_>, scene: &Scene, outcome: Outcome, done: &Mutex<Done>) -> Result<()> {
    let record = pool.root.join(&format!("failed/{}.json", scene.id));
    let failed = match outcome {
        Outcome::Rendered { timing, total_s, version } => {
            pool.runtime.block_on(record.delete())?;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.rendered.insert(scene.id.clone());
            done.render_s += timing.render_s;
            done.total_s += total_s;
            done.version = Some(version);
            false
        }
        Outcome::Failed(failure) => {
            let text =
                serde_json::to_vec_pretty(&json!({"failure": failure, "scene": scene})).map_err(Error::internal)?;
            pool.runtime.block_on(record.write(text))?;
            tracing::warn!("scene {} failed: {} (see {})", scene.id, failure.message, record.uri());
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.failed.push((scene.id.clone(), failure.message));
            let count = done.failed.len() as u64;
            if let Some(limit) = pool.spec.run.max_failures.filter(|limit| count > *limit) {
                return Err(Error::State(format!(
                    "{count} scenes have failed, run.max_failures allows {limit}; their records are under {}/failed",
                    pool.root.uri()
                )));
            }
            true
        }
    };
    pool.progress.settle(&scene.id, failed);
    Ok(())
}

/// Ids of the clips that are there.
async fn rendered(root: &Location) -> Result<HashSet<String>> {
    let objects = root.store().list_with_delimiter(Some(root.path()));
    let objects = match objects.await {
        Ok(listed) => listed.objects,
        Err(object_store::Error::NotFound { .. }) => Vec::new(),
        Err(error) => return Err(Error::storage("list", root.uri())(error)),
    };
    let id =
        |object: &object_store::ObjectMeta| object.location.filename()?.strip_suffix(pack::SCENE).map(str::to_owned);
    Ok(objects.iter().filter_map(id).collect())
}

/// Writes the list where it says something new.
async fn write_list(spec: &ScenesSpec, root: &Location, scenes: &[Scene], version: Option<String>) -> Result<()> {
    let place = root.join(&list::file_name(spec));
    let before = place.read_if_there().await?;
    // A run that renders nothing starts no Blender, so it takes the version from the ground truth.
    let version = match (version, scenes.first()) {
        (Some(version), _) => version,
        (None, Some(scene)) => {
            let truth = root.join(&format!("{}.truth.json", scene.id)).read().await?;
            let truth: super::truth::Truth = serde_json::from_slice(&truth).map_err(Error::internal)?;
            truth.blender
        }
        (None, None) => String::new(),
    };
    let list: Bytes = list::parquet(spec, scenes, &version)?;
    if before.as_ref() != Some(&list) {
        place.write(list).await?;
    }
    Ok(())
}

/// Blender processes at once.
fn workers(spec: &ScenesSpec) -> usize {
    spec.run.workers.unwrap_or_else(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        cores.min(crate::engine::prepare::total_memory() / WORKER_MEMORY).max(1)
    })
}

/// Panoramas of ours and people need what `make blender` sets up.
fn check_assets(scenes: &VecDeque<Scene>, blender: &Blender) -> Result<()> {
    let ours = |scene: &Scene| {
        let panorama = scene.environment.file.as_deref().is_some_and(|name| !name.contains(['.', '/']));
        scene.person.is_some() || scene.environment.kind == EnvironmentKind::Hdri && panorama
    };
    if blender.assets().is_none() && scenes.iter().any(ours) {
        return Err(Error::config(
            "people and panoramas are not there; run `make blender`, or set SIMDROP_BLENDER_ASSETS to the folder that it made",
        ));
    }
    for file in scenes.iter().flat_map(|scene| {
        let models = scene.objects.iter().filter_map(|object| object.file.as_deref());
        models.chain(scene.environment.file.as_deref().filter(|name| name.contains(['.', '/'])))
    }) {
        std::fs::metadata(file).map_err(Error::io("open", file))?;
    }
    Ok(())
}
