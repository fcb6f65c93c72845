//! What the tasks of one executor share.
//!
//! Cores are shared by all. Models, stores and memory are shared by the tasks of one pipeline, over all slots: a model is
//! loaded once. Those of the pipeline that ran last stay loaded for its next task.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use datafusion::error::DataFusionError;

use super::executor::ExecutorOptions;
use crate::engine::prepare;
use crate::error::{Error, Result};
use crate::model::ModelRegistry;
use crate::plan::{RemoteSettings, SinkSpec};
use crate::spec::{ModelsSpec, Provider};
use crate::stage::StageContext;
use crate::stage::context::CpuPool;
use crate::storage::Storage;
use crate::video::{Isolation, Videos};

/// Makes the contexts of the pipelines that come by.
#[derive(Debug)]
pub(super) struct Contexts {
    cpu: CpuPool,
    memory: usize,
    slots: usize,
    providers: Option<Vec<Provider>>,
    device: Option<u32>,
    isolated: OnceLock<Videos>,
    pipelines: tokio::sync::Mutex<Pipelines>,
}

#[derive(Debug, Default)]
struct Pipelines {
    alive: HashMap<String, Weak<StageContext>>,
    last: Option<Arc<StageContext>>,
}

impl Contexts {
    pub(super) fn new(options: &ExecutorOptions) -> Self {
        Self {
            cpu: CpuPool::new(options.threads()),
            memory: options.memory(),
            slots: options.slots(),
            providers: (!options.providers.is_empty()).then(|| options.providers.clone()),
            device: options.device,
            isolated: OnceLock::new(),
            pipelines: tokio::sync::Mutex::default(),
        }
    }

    /// What the tasks of a pipeline share.
    pub(super) async fn of(&self, sink: &SinkSpec) -> Result<Arc<StageContext>> {
        let remote = settings(sink)?;
        let key = serde_json::to_string(&(&sink.fingerprint, remote)).map_err(Error::internal)?;
        // Whoever comes second waits until the first has looked at the files.
        let mut pipelines = self.pipelines.lock().await;
        let context = match pipelines.alive.get(&key).and_then(Weak::upgrade) {
            Some(context) => context,
            None => {
                let context = Arc::new(self.make(remote).await?);
                pipelines.alive.retain(|_, context| context.strong_count() > 0);
                pipelines.alive.insert(key, Arc::downgrade(&context));
                context
            }
        };
        pipelines.last = Some(Arc::clone(&context));
        Ok(context)
    }

    async fn make(&self, remote: &RemoteSettings) -> Result<StageContext> {
        let RemoteSettings { simdrop, storage: _, models, isolation, folder: _, files } = remote.clone();
        if simdrop != env!("CARGO_PKG_VERSION") {
            return Err(Error::State(format!(
                "the run was started by simdrop {simdrop} and the executor is {}: use the same version everywhere",
                env!("CARGO_PKG_VERSION")
            )));
        }
        let storage = storage(remote);
        let looked = storage.clone();
        tokio::task::spawn_blocking(move || prepare::check_files(&files, &looked)).await.map_err(Error::internal)??;
        let models = ModelsSpec {
            providers: self.providers.clone().unwrap_or(models.providers),
            require: models.require,
            device: self.device.unwrap_or(models.device),
        };
        let models = Arc::new(ModelRegistry::new(&models, self.cpu.clone()).with_storage(&storage));
        let context = StageContext::new(storage, models, self.cpu.clone(), self.memory);
        Ok(match isolation {
            Isolation::None => context,
            Isolation::Process => context.with_videos(self.isolated()?),
        })
    }

    fn isolated(&self) -> Result<Videos> {
        if let Some(videos) = self.isolated.get() {
            return Ok(videos.clone());
        }
        let videos = prepare::isolated(self.memory, self.slots)?;
        Ok(self.isolated.get_or_init(|| videos).clone())
    }
}

/// The stores as a pipeline reaches them.
pub(super) fn storage(remote: &RemoteSettings) -> Storage {
    Storage::new(&remote.storage).in_folder(remote.folder.clone())
}

/// What a sink carries of its pipeline.
pub(super) fn settings(sink: &SinkSpec) -> Result<&RemoteSettings, DataFusionError> {
    sink.remote.as_ref().ok_or_else(|| Error::internal("a plan without the settings of its pipeline").into())
}
