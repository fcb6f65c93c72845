//! What a training would open, opened before it is begun.

use super::checkpoint::{self, Checkpoint};
use super::index;
use super::model::TrainModel;
use super::signature::Size;
use super::spec::TrainSpec;
use crate::error::{Error, Result};
use crate::model::text::TextEncoder;
use crate::storage::Storage;

/// What there is, as lines of a name and a text, and everything that is wrong with a field of the YAML.
#[derive(Debug, Default)]
pub struct Validation {
    /// What was found.
    pub lines: Vec<(&'static str, String)>,
    /// The fields that a training would stop at.
    pub problems: Vec<(String, Error)>,
}

impl Validation {
    /// Opens graphs, datasets, first weights, encoder and output; nothing is written.
    pub async fn of(spec: &TrainSpec) -> Self {
        let mut found = Self::default();
        let storage = Storage::new(&spec.storage);
        let init = found.init(spec, &storage).await;
        found.model(spec, &storage, init).await;
        found.data(spec, &storage).await;
        found.encoder(spec, &storage).await;
        if let Err(error) = found.output(spec, &storage).await {
            found.problem("output.path", error);
        }
        found
    }

    fn problem(&mut self, field: impl Into<String>, error: Error) {
        self.problems.push((field.into(), error));
    }

    async fn init(&mut self, spec: &TrainSpec, storage: &Storage) -> Option<Checkpoint> {
        let init = spec.init.as_ref()?;
        let read = async { Checkpoint::read(&storage.locate(init)?).await };
        match read.await {
            Ok(checkpoint) => {
                let description = &checkpoint.description;
                self.lines.push(("weights", format!("{} of {}, step {}", init, description.name, description.step)));
                Some(checkpoint)
            }
            Err(error) => {
                self.problem("init", error);
                None
            }
        }
    }

    async fn model(&mut self, spec: &TrainSpec, storage: &Storage, init: Option<Checkpoint>) {
        let size = match Size::open(&spec.model, storage) {
            Ok(size) => size,
            Err(error) => return self.problem("model", error),
        };
        let signature = &size.signature;
        let clip = &signature.clip;
        self.lines.push((
            "model",
            format!(
                "{}, {} of {} numbers trained, batches of {} clips of {}x{}x{}",
                signature.name,
                signature.trained_count,
                signature.parameter_count,
                signature.batch,
                clip.frames,
                clip.height,
                clip.width
            ),
        ));
        let (spec, first) = (spec.clone(), init);
        let load = move || TrainModel::load(&spec, size, None, first.as_ref()).map(|model| model.providers());
        match tokio::task::spawn_blocking(load).await.map_err(Error::internal).flatten() {
            Ok(providers) => {
                let text = providers.iter().map(|(graph, provider)| format!("{graph} on {}", provider.as_str()));
                self.lines.push(("graphs", text.collect::<Vec<_>>().join(", ")));
            }
            Err(error) => self.problem("model", error),
        }
    }

    async fn data(&mut self, spec: &TrainSpec, storage: &Storage) {
        for (number, data) in spec.data.iter().enumerate() {
            let alone = TrainSpec { data: vec![data.clone()], ..spec.clone() };
            match index::sources(&alone, storage).await {
                Ok(sources) => self.lines.extend(sources.iter().map(|source| {
                    let (train, held_out) = (source.count(false), source.count(true));
                    let captions = source.clips.iter().filter(|clip| clip.caption.is_some()).count();
                    let text = format!("{train} clips to train on, {held_out} held out, {captions} with a caption");
                    ("data", format!("{}: {text}", source.uri))
                })),
                Err(error) => self.problem(format!("data[{number}]"), error),
            }
        }
    }

    async fn encoder(&mut self, spec: &TrainSpec, storage: &Storage) {
        let Some(encoder) = spec.condition.encoder.clone() else { return };
        let (models, path, storage) = (spec.models.clone(), encoder.clone(), storage.clone());
        let load = move || TextEncoder::load(&models, &TextEncoder::file(&path, &storage)?)?.encode("a clip");
        match tokio::task::spawn_blocking(load).await.map_err(Error::internal).flatten() {
            Ok(numbers) => self.lines.push(("captions", format!("{encoder}, {} numbers", numbers.len()))),
            Err(error) => self.problem("condition.encoder", error),
        }
    }

    async fn output(&mut self, spec: &TrainSpec, storage: &Storage) -> Result<()> {
        let root = storage.locate(&spec.output.path)?;
        let steps = checkpoint::steps(&root).await?;
        self.lines.push(match steps.iter().max() {
            Some(step) => {
                ("output", format!("{}: a training at step {step}; --resume or --overwrite", spec.output.path))
            }
            None => ("output", format!("{}: no training yet", spec.output.path)),
        });
        Ok(())
    }
}
