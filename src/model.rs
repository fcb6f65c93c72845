//! The boundary to ONNX Runtime: sessions shared by all partitions, and batches filled across clips.
//!
//! Enters: the path of an ONNX file, and rows that stages want to be run through it. Leaves: the values of the graph's
//! outputs, row by row. What a row's values are depends on the row alone: never on the rows that it shared a batch
//! with, nor on its place among them (see [`session`]).

pub mod graph;
pub mod program;
mod queue;
pub mod raw;
mod runtime;
pub mod session;
pub mod text;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::graph::{Element, Graph, TensorSpec};
pub use self::session::{RowMut, Rows, Session};
use self::text::TextEncoder;
use crate::error::{Error, Result};
use crate::spec::{ModelsSpec, Provider, suggest};
use crate::stage::context::CpuPool;
use crate::storage::Storage;

/// How a model is run; sessions are shared by those who ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionOptions {
    /// Most rows in one run; a graph with a fixed batch axis overrides it.
    pub batch: usize,
    /// Outputs that are wanted, in this order.
    pub outputs: Vec<String>,
}

/// ONNX Runtime sessions, shared by all partitions.
///
/// ONNX Runtime itself is loaded with the first model, so that a pipeline without models needs none.
#[derive(Debug)]
pub struct ModelRegistry {
    spec: ModelsSpec,
    cpu: CpuPool,
    storage: Storage,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<(PathBuf, SessionOptions), Arc<Session>>,
    encoders: HashMap<String, Arc<Mutex<TextEncoder>>>,
    used: BTreeMap<String, String>,
    reported: HashSet<(Provider, String)>,
}

impl ModelRegistry {
    /// A registry that follows `spec`; models on the processor take turns with all other work of `cpu`.
    pub fn new(spec: &ModelsSpec, cpu: CpuPool) -> Self {
        Self { spec: spec.clone(), cpu, storage: Storage::default(), state: Mutex::default() }
    }

    /// The same, with models that lie in object stores fetched by `storage`.
    pub fn with_storage(self, storage: &Storage) -> Self {
        Self { storage: storage.clone(), ..self }
    }

    /// Where models are fetched from that lie in object stores.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The session of a model, loaded by the first who asks; blocking.
    ///
    /// A file that is not there, is no ONNX model or has no such output is a configuration error.
    pub fn session(&self, model: &str, options: &SessionOptions) -> Result<Arc<Session>> {
        let path = self
            .storage
            .file(model)?
            .canonicalize()
            .map_err(|error| Error::config(format!("model {model} could not be opened: {error}")))?;
        let key = (path, options.clone());
        // Held while the model is loaded: whoever asks for the same model waits for this one and takes it.
        let mut state = lock(&self.state);
        if let Some(session) = state.sessions.get(&key) {
            return Ok(Arc::clone(session));
        }
        let (loaded, provider) = self.load(model, &key.0, &mut state)?;
        let graph = Graph::of(&loaded);
        for wanted in &options.outputs {
            graph.output(wanted).ok_or_else(|| no_such_tensor(model, "output", wanted, &graph.outputs))?;
        }
        let session = Arc::new(Session::new(
            session::Source { model: model.to_owned(), path: key.0.clone(), provider, device: self.spec.device },
            graph,
            options.clone(),
            loaded,
            &self.cpu,
        )?);
        tracing::info!(model, provider = provider.as_str(), "model loaded");
        state.used.insert(model.to_owned(), provider.as_str().to_owned());
        state.sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// The encoder of texts in a file, loaded by the first who asks; blocking.
    pub fn text_encoder(&self, model: &str) -> Result<Arc<Mutex<TextEncoder>>> {
        let mut state = lock(&self.state);
        if let Some(encoder) = state.encoders.get(model) {
            return Ok(Arc::clone(encoder));
        }
        let encoder = TextEncoder::load(&self.spec, &TextEncoder::file(model, &self.storage)?)?;
        state.used.insert(model.to_owned(), encoder.provider().as_str().to_owned());
        let encoder = Arc::new(Mutex::new(encoder));
        state.encoders.insert(model.to_owned(), Arc::clone(&encoder));
        Ok(encoder)
    }

    /// The execution provider that each model was loaded with, by the path of the model.
    pub fn providers_used(&self) -> BTreeMap<String, String> {
        lock(&self.state).used.clone()
    }

    fn load(&self, model: &str, path: &Path, state: &mut State) -> Result<(ort::session::Session, Provider)> {
        let mut loaded = None;
        let provider = first_provider(&self.spec, model, |provider| {
            let tried = runtime::load(path, provider, self.spec.device)?.map(|session| loaded = Some(session));
            if let Err(reason) = &tried
                && provider != Provider::Cpu
                && state.reported.insert((provider, first_line(reason)))
            {
                tracing::info!(provider = provider.as_str(), reason = first_line(reason), "provider not used");
            }
            Ok(tried)
        })?;
        let session = loaded.ok_or_else(|| Error::internal("a provider took a model and left no session"))?;
        Ok((session, provider))
    }
}

fn first_line(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().to_owned()
}

/// Tries the providers in order, the whole way: one that registers may still refuse the graph or find no device. The
/// inner error of `load` says why it did.
fn first_provider(
    spec: &ModelsSpec,
    model: &str,
    mut load: impl FnMut(Provider) -> Result<Result<(), String>>,
) -> Result<Provider> {
    let providers = spec.require.as_ref().map_or(spec.providers.as_slice(), std::slice::from_ref);
    let mut reasons = Vec::new();
    for &provider in providers {
        match load(provider)? {
            Ok(()) => return Ok(provider),
            Err(reason) => reasons.push(format!("{}: {}", provider.as_str(), first_line(&reason))),
        }
    }
    let reasons = reasons.join(", ");
    Err(match spec.require {
        Some(Provider::Cpu) => Error::config(format!("model {model} could not be loaded: {reasons}")),
        Some(provider) => Error::Model {
            model: model.to_owned(),
            message: format!(
                "models.require is {}, which could not be used ({reasons}); install its libraries beside ONNX Runtime's, \
                 or remove models.require",
                provider.as_str()
            ),
        },
        None if providers.is_empty() => Error::config("models.providers is empty; name at least cpu"),
        None if !providers.contains(&Provider::Cpu) => Error::Model {
            model: model.to_owned(),
            message: format!("no provider could be used ({reasons}); add cpu to models.providers"),
        },
        None => Error::config(format!("model {model} could not be loaded: {reasons}")),
    })
}

/// The error for a tensor that a graph does not have; it names the nearest one.
pub fn no_such_tensor(model: &str, kind: &str, wanted: &str, tensors: &[TensorSpec]) -> Error {
    let names = || tensors.iter().map(|tensor| tensor.name.as_str());
    let hint = match suggest::nearest(wanted, names()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
    };
    Error::config(format!("model {model} has no {kind} {wanted}; {hint}"))
}

/// A lock that outlives a panic of its holder: what it guards is whole between statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
