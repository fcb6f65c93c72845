//! The caption stage: gives every clip a text.
//!
//! Enters: clips. Leaves: the same clips with `caption` and `caption_source`. Origins are asked in order and the first
//! that has a text wins; white space around a text does not count, and neither does an empty one. What was in `caption`
//! before counts only where `column: caption` is among the origins. A fault of one clip's sidecar or template fails
//! that clip.

mod compositional;
pub mod config;
mod sidecar;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;

pub(crate) use self::compositional::SCENE;
use self::config::{CaptionConfig, CaptionOrigin, CompositionalCaption, MissingCaption, SidecarCaption};
pub(crate) use self::sidecar::beside;
use self::template::CaptionTemplate;
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::require_text;
use crate::stage::{ClipBatch, Fate, Operator, Stage, StageContext, StageTask};

/// Sidecars of one batch that are read at once: enough to hide the latency of an object store.
const READS: usize = 32;

/// More rows than this are rendered off the runtime's threads; a few are faster than the way there.
const INLINE: usize = 64;

/// The caption stage.
#[derive(Debug)]
pub struct CaptionStage {
    config: CaptionConfig,
}

impl CaptionStage {
    /// The stage with these settings.
    pub fn new(config: CaptionConfig) -> Self {
        Self { config }
    }

    fn origins(&self, input: &SchemaRef) -> Result<Vec<Origin>> {
        let wrong = |problem: &str| Err(Error::config(format!("stage {}: {problem}", self.name())));
        if self.config.from.is_empty() {
            return wrong("from is empty; name an origin: sidecar, column or template");
        }
        let origin = |origin: &CaptionOrigin| match origin {
            CaptionOrigin::Sidecar(sidecar) => {
                sidecar::check(self.name(), sidecar)?;
                Ok(Origin::Sidecar(sidecar.clone()))
            }
            CaptionOrigin::Compositional(settings) => Ok(Origin::Compositional(settings.clone())),
            CaptionOrigin::Column(column) => {
                require_text(self.name(), input, column)?;
                Ok(Origin::Column(column.clone()))
            }
            CaptionOrigin::Template(source) => {
                Ok(Origin::Template(Arc::new(CaptionTemplate::compile(self.name(), source, input)?)))
            }
        };
        self.config.from.iter().map(origin).collect()
    }
}

impl Stage for CaptionStage {
    fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or("caption")
    }

    fn output_schema(&self, input: &SchemaRef) -> Result<SchemaRef> {
        self.origins(input)?;
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        Ok(schema::with_fields(input, [text(schema::CAPTION), text(schema::CAPTION_SOURCE)]))
    }

    fn open(&self, context: &Arc<StageContext>, input: &SchemaRef) -> Result<Arc<dyn Operator>> {
        Ok(Arc::new(CaptionOperator {
            name: self.name().to_owned(),
            origins: self.origins(input)?,
            missing: self.config.missing,
            output: self.output_schema(input)?,
            context: Arc::clone(context),
        }))
    }
}

/// One origin, ready to be asked.
#[derive(Debug)]
enum Origin {
    Sidecar(SidecarCaption),
    Compositional(CompositionalCaption),
    Column(String),
    Template(Arc<CaptionTemplate>),
}

impl Origin {
    /// What `caption_source` says of it.
    fn source(&self) -> String {
        match self {
            Self::Sidecar(_) => "sidecar".to_owned(),
            Self::Compositional(_) => "compositional".to_owned(),
            Self::Column(column) => format!("column:{column}"),
            Self::Template(_) => "template".to_owned(),
        }
    }
}

/// How far a clip has come: nothing yet, a text of an origin, or what went wrong.
#[derive(Debug, Clone)]
enum Caption {
    None,
    Text { text: String, origin: usize },
    Wrong(String),
}

/// A running caption stage.
#[derive(Debug)]
struct CaptionOperator {
    name: String,
    origins: Vec<Origin>,
    missing: MissingCaption,
    output: SchemaRef,
    context: Arc<StageContext>,
}

#[async_trait]
impl Operator for CaptionOperator {
    async fn process(&self, clips: ClipBatch, task: &StageTask) -> Result<ClipBatch> {
        let mut captions = vec![Caption::None; clips.rows()];
        for number in 0..self.origins.len() {
            let open: Vec<usize> = (0..captions.len()).filter(|row| matches!(captions[*row], Caption::None)).collect();
            if open.is_empty() {
                break;
            }
            for (row, answer) in self.ask(number, &clips, open, task).await? {
                captions[row] = match answer {
                    Ok(Some(text)) if !text.trim().is_empty() => {
                        Caption::Text { text: text.trim().to_owned(), origin: number }
                    }
                    Ok(_) => Caption::None,
                    Err(problem) => Caption::Wrong(problem),
                };
            }
        }
        self.finish(&clips, &captions)
    }
}

/// What an origin says of a row: a text, none, or what is wrong with it.
type Answer = (usize, Result<Option<String>, String>);

impl CaptionOperator {
    /// Asks an origin for the captions of `rows`. An error ends the run.
    async fn ask(&self, origin: usize, clips: &ClipBatch, rows: Vec<usize>, task: &StageTask) -> Result<Vec<Answer>> {
        match &self.origins[origin] {
            Origin::Column(column) => {
                let texts = clips.text(column)?;
                let text = |row: usize| texts.is_valid(row).then(|| texts.value(row).to_owned());
                Ok(rows.into_iter().map(|row| (row, Ok(text(row)))).collect())
            }
            Origin::Sidecar(sidecar) => {
                let uris = clips.text(schema::URI)?;
                let reads: Vec<_> = rows.into_iter().map(|row| (row, uris.value(row).to_owned())).collect();
                let storage = &self.context.storage;
                let answers = futures::stream::iter(reads)
                    .map(|(row, uri)| async move { (row, sidecar::read(storage, &uri, sidecar).await) })
                    .buffered(READS)
                    .collect::<Vec<_>>()
                    .await;
                answers.into_iter().map(|(row, answer)| Ok((row, answer?))).collect()
            }
            Origin::Compositional(settings) => {
                let (uris, scenes) = (clips.text(schema::URI)?, clips.text(schema::SCENE)?);
                let scene = |row: usize| scenes.is_valid(row).then(|| scenes.value(row).to_owned());
                let reads: Vec<_> = rows.into_iter().map(|row| (row, uris.value(row).to_owned(), scene(row))).collect();
                let storage = &self.context.storage;
                let answers = futures::stream::iter(reads)
                    .map(|(row, uri, scene)| async move {
                        (row, compositional::read(storage, &uri, scene.as_deref(), settings).await)
                    })
                    .buffered(READS)
                    .collect::<Vec<_>>()
                    .await;
                answers.into_iter().map(|(row, answer)| Ok((row, answer?))).collect()
            }
            Origin::Template(template) => {
                let (template, clips, many) = (Arc::clone(template), clips.clone(), rows.len() > INLINE);
                let render = move || {
                    let batch = clips.batch();
                    rows.into_iter().map(|row| (row, template.render(batch, row).map(Some))).collect::<Vec<_>>()
                };
                if many {
                    return task.blocking(render).await;
                }
                let start = std::time::Instant::now();
                let answers = render();
                task.credit(start.elapsed());
                Ok(answers)
            }
        }
    }

    fn finish(&self, clips: &ClipBatch, captions: &[Caption]) -> Result<ClipBatch> {
        let sources: Vec<String> = self.origins.iter().map(Origin::source).collect();
        let (mut texts, mut by) = (StringBuilder::new(), StringBuilder::new());
        let mut fates = Vec::with_capacity(captions.len());
        for caption in captions {
            let fate = self.fate(caption);
            match caption {
                Caption::Text { text, origin } => {
                    texts.append_value(text);
                    by.append_value(&sources[*origin]);
                }
                _ => {
                    texts.append_option(fate.is_none().then_some(""));
                    by.append_null();
                }
            }
            fates.push(fate);
        }
        clips
            .with_columns(
                &self.output,
                vec![
                    (schema::CAPTION, Arc::new(texts.finish()) as ArrayRef),
                    (schema::CAPTION_SOURCE, Arc::new(by.finish())),
                ],
            )?
            .settle(&self.name, &fates)
    }

    fn fate(&self, caption: &Caption) -> Option<Fate> {
        match (caption, self.missing) {
            (Caption::Wrong(problem), _) => Some(Fate::failed(problem)),
            (Caption::Text { .. }, _) | (Caption::None, MissingCaption::Keep) => None,
            (Caption::None, MissingCaption::Drop) => Some(Fate::dropped("no caption", None)),
            (Caption::None, MissingCaption::Fail) => Some(Fate::failed("no caption: no origin has a text")),
        }
    }
}
