//! Several Blender processes: scenes in, packed clips out. A process that fails is replaced, its scene is tried once more.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::blender::{self, Blender};
use super::elements::EnvironmentKind;
use super::pack;
use super::progress::RenderProgress;
use super::scene::Scene;
use super::spec::ScenesSpec;
use super::worker::{Bounds, Failure, Fault, Timing, Worker};
use crate::error::{Error, Result};
use crate::storage::Location;

/// Tries of a scene.
const TRIES: usize = 2;

/// What all workers of a run share.
pub(super) struct Pool<'a> {
    pub(super) spec: &'a ScenesSpec,
    pub(super) blender: &'a Blender,
    pub(super) root: &'a Location,
    pub(super) progress: &'a RenderProgress,
    /// No new scenes.
    pub(super) stop: &'a CancellationToken,
    /// Scenes under way end as well.
    pub(super) cancel: &'a CancellationToken,
    pub(super) runtime: Handle,
}

/// What became of a scene.
pub(super) enum Outcome {
    /// It is rendered.
    Rendered {
        timing: Timing,
        /// Seconds from the hand-over to the files.
        total_s: f64,
        /// Version of Blender.
        version: String,
    },
    /// It cannot be.
    Failed(Failure),
}

impl Pool<'_> {
    /// Renders `scenes` with `workers` processes; blocking. Calls `done` for every scene, from any thread.
    pub(super) fn render(
        &self,
        scenes: VecDeque<Scene>,
        workers: usize,
        done: &(dyn Fn(&Scene, Outcome) -> Result<()> + Sync),
    ) -> Result<()> {
        let scratch = tempfile::Builder::new().prefix("simdrop-render-").tempdir();
        let scratch = scratch.map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let scripts = scratch.path().join("scripts");
        std::fs::create_dir_all(&scripts).map_err(Error::io("create", &scripts))?;
        blender::unpack(&scripts)?;
        let queue = Mutex::new(scenes);
        let first_error = Mutex::new(None);
        std::thread::scope(|scope| {
            for number in 0..workers {
                let (queue, first_error, scripts) = (&queue, &first_error, scripts.as_path());
                let folder = scratch.path().join(format!("worker-{number}"));
                scope.spawn(move || {
                    if let Err(error) = self.work(queue, scripts, &folder, done) {
                        self.stop.cancel();
                        first_error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                });
            }
        });
        first_error.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn work(
        &self,
        queue: &Mutex<VecDeque<Scene>>,
        scripts: &Path,
        folder: &Path,
        done: &dyn Fn(&Scene, Outcome) -> Result<()>,
    ) -> Result<()> {
        let mut worker: Option<Worker> = None;
        while !self.stop.is_cancelled() {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(scene) = next else { return Ok(()) };
            match self.scene(&scene, &mut worker, scripts, folder)? {
                Some(outcome) => done(&scene, outcome)?,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Renders one scene, at the second try if need be; none where the run is being stopped.
    fn scene(
        &self,
        scene: &Scene,
        worker: &mut Option<Worker>,
        scripts: &Path,
        folder: &Path,
    ) -> Result<Option<Outcome>> {
        let start = std::time::Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let fresh = match worker.take() {
                Some(worker) if self.may_go_on(&worker) => worker,
                _ => match Worker::start(self.blender, scripts, self.cancel) {
                    Err(Error::Cancelled) => return Ok(None),
                    started => started?,
                },
            };
            let worker = worker.insert(fresh);
            let failure = match self.attempt(scene, worker, folder) {
                Ok(timing) => {
                    let (total_s, version) = (start.elapsed().as_secs_f64(), worker.version.clone());
                    return Ok(Some(Outcome::Rendered { timing, total_s, version }));
                }
                Err(Attempt::Fault(Fault::Stopped)) => return Ok(None),
                // Another try would say the same.
                Err(Attempt::Fault(Fault::Scene(failure))) if failure.kind == "configuration" => {
                    return Ok(Some(Outcome::Failed(failure)));
                }
                Err(Attempt::Fault(Fault::Scene(failure) | Fault::Process(failure))) => failure,
                Err(Attempt::Run(error)) => return Err(error),
            };
            tracing::debug!("scene {} failed at try {tries}: {}", scene.id, failure.message);
            self.progress.again(&scene.id);
            // Whatever happened may have left something behind.
            worker.scenes = usize::MAX;
            if tries == TRIES {
                return Ok(Some(Outcome::Failed(failure)));
            }
        }
    }

    fn may_go_on(&self, worker: &Worker) -> bool {
        let run = &self.spec.run;
        worker.scenes < run.recycle_after && worker.memory() < run.worker_memory.as_u64()
    }

    fn attempt(&self, scene: &Scene, worker: &mut Worker, folder: &Path) -> Result<Timing, Attempt> {
        // What a try before it left is not this one's.
        let _ = std::fs::remove_dir_all(folder);
        let output = folder.join("output");
        std::fs::create_dir_all(&output).map_err(Error::io("create", &output))?;
        let configuration = folder.join("scene.json");
        let text = serde_json::to_vec(&self.for_blender(scene)).map_err(Error::internal)?;
        std::fs::write(&configuration, text).map_err(Error::io("write", &configuration))?;
        let bounds = Bounds {
            scene: Duration::from_secs_f64(self.spec.run.timeout_s),
            memory: self.spec.run.worker_memory.as_u64(),
        };
        let frame = |_| self.progress.frame(&scene.id);
        let timing = worker.render(&configuration, &output, bounds, self.cancel, &frame)?;
        let packed = pack::pack(scene, &self.spec.output, &output)?;
        self.runtime.block_on(packed.store(self.root))?;
        let _ = std::fs::remove_dir_all(folder);
        Ok(timing)
    }

    /// The scene with the paths that it has on this machine.
    fn for_blender(&self, scene: &Scene) -> serde_json::Value {
        let mut value = serde_json::to_value(scene).unwrap_or_default();
        let assets = self.blender.assets();
        value["render"]["threads"] = 1.into();
        value["assets"] = assets.map(|assets| assets.display().to_string()).into();
        if let (EnvironmentKind::Hdri, Some(name)) = (scene.environment.kind, &scene.environment.file)
            && !name.contains(['.', '/'])
            && let Some(assets) = assets
        {
            value["environment"]["file"] = assets.join("hdri").join(format!("{name}.exr")).display().to_string().into();
        }
        value
    }
}

/// What ended a try: a fault of the scene, or one of the run.
enum Attempt {
    Fault(Fault),
    Run(Error),
}

impl From<Fault> for Attempt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Run(error)
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Fault(Fault::Scene(failure))
    }
}
