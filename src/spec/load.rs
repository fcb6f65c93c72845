//! From a file to a pipeline (or another document of ours), or to everything that is wrong with it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::Segment;

use super::diagnostics::{self, Diagnostic, Diagnostics};
use super::environment::{self, Environment};
use super::tree::{Node, Place};
use super::{Mistake, PipelineSpec, check, overrides, path, schema, shape, yaml};

/// A kind of YAML file of ours.
pub trait Document: DeserializeOwned {
    /// What messages call it: `a pipeline`.
    const NAME: &'static str;
    /// What to do about an empty file.
    const MINIMUM: &'static str;

    /// Its JSON Schema.
    fn schema() -> Json;

    /// What is wrong with it beyond the types of its fields; no I/O.
    fn check(&self) -> Vec<Mistake>;
}

impl Document for PipelineSpec {
    const NAME: &'static str = "a pipeline";
    const MINIMUM: &'static str = "a pipeline has at least `name`, `sources` and `output`; see pipelines/demo.yaml";

    fn schema() -> Json {
        schema::pipeline()
    }

    fn check(&self) -> Vec<Mistake> {
        check(self)
    }
}

/// A pipeline with the text that it comes from.
pub type LoadedSpec = Loaded<PipelineSpec>;

/// A document with the text that it comes from.
#[derive(Debug, Clone)]
pub struct Loaded<T> {
    /// The document.
    pub spec: T,
    /// The file.
    pub path: PathBuf,
    tree: Node,
}

impl<T> Loaded<T> {
    /// Where `path` is written: the file's name (or `command line`), line and column, from 1, and the text there.
    ///
    /// A path is written as `run.threads`, `sources[0].path`, `stages[2].models.base` or `stages.decode.fps`: a stage's
    /// settings follow its number or name. Of what is not written down, the nearest thing around it is the place.
    pub fn locate(&self, path: &str) -> (String, usize, usize, String) {
        let place = path::locate(&self.tree, path);
        let (line, column) = place.line_column();
        (place.source.name().to_owned(), line, column, place.text().to_owned())
    }

    /// A mistake at `path` that shows only now, such as a file that is not there.
    pub fn diagnose(&self, path: &str, message: impl fmt::Display, help: impl fmt::Display) -> Diagnostic {
        Diagnostic::at(path::locate(&self.tree, path), message).help(help)
    }
}

/// Reads the document in the file at `path`, with `sets` (`KEY=VALUE`) put over it.
pub fn load<T: Document>(
    path: &Path,
    sets: &[String],
    environment: &Environment<'_>,
) -> Result<Loaded<T>, Diagnostics> {
    let name = path.display().to_string();
    let bytes = read(path).map_err(|error| Diagnostic::new(format!("cannot read {name}: {error}")))?;
    if bytes.len() > yaml::MOST_BYTES {
        let message = format!("{name} has more than {} bytes, which {} never has", yaml::MOST_BYTES, T::NAME);
        let help = "name the right file; a list of clips belongs into a CSV, JSONL or Parquet file";
        return Err(Diagnostic::new(message).help(help).into());
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = diagnostics::source(&name, text);
            let place = Place::new(&source, valid..valid + char::REPLACEMENT_CHARACTER.len_utf8());
            return Err(Diagnostic::at(place, "this is no UTF-8 text")
                .help(format!("is it {} at all?", T::NAME))
                .into());
        }
    };
    parse(path, text, sets, environment)
}

/// Whether the YAML file at `path` can be read and has this field at its top: what tells documents apart.
pub fn has_field(path: &Path, field: &str) -> bool {
    let text = read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let tree = text.and_then(|text| {
        let source = diagnostics::source(path.display().to_string(), text);
        let end = source.inner().len();
        yaml::parse(&source, 0..end).ok().flatten()
    });
    tree.is_some_and(|tree| tree.to_json().get(field).is_some())
}

/// The bytes of a file, or one more of them than a file may have.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(yaml::MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the document in `text`, which is called `path`, with `sets` (`KEY=VALUE`) put over it.
pub fn parse<T: Document>(
    path: &Path,
    text: String,
    sets: &[String],
    environment: &Environment<'_>,
) -> Result<Loaded<T>, Diagnostics> {
    let source = diagnostics::source(path.display().to_string(), text);
    let end = source.inner().len();
    let root = yaml::parse(&source, 0..end).map_err(Diagnostics::new)?;
    let Some(mut tree) = root else {
        return Err(Diagnostic::at(Place::new(&source, 0..0), "the file is empty").help(T::MINIMUM).into());
    };
    let mut mistakes = Vec::new();
    environment::substitute(&mut tree, environment, &mut mistakes);
    shape::spell_out_stages(&mut tree);
    for set in sets {
        if let Err(wrong) = overrides::apply(&mut tree, set) {
            mistakes.extend(wrong);
        }
    }
    shape::spell_out_stages(&mut tree);
    let shape = shape::check(&mut tree, T::NAME, &T::schema());
    let sound = mistakes.is_empty() && shape.all.is_empty();
    mistakes.extend(shape.all);
    let spec = serde_path_to_error::deserialize::<_, T>(tree.to_json());
    match spec {
        Ok(spec) => {
            // What follows from a field that is wrong, or that had an unknown name, would only confuse.
            let below = |path: &str, wrong: &str| {
                path.strip_prefix(wrong).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let follows = |path: &str| shape.paths.iter().any(|wrong| !wrong.is_empty() && below(path, wrong));
            let structural = spec.check().into_iter().filter(|mistake| !follows(&mistake.path));
            mistakes.extend(
                structural.map(|mistake| {
                    Diagnostic::at(path::locate(&tree, &mistake.path), mistake.message).help(mistake.help)
                }),
            );
            if mistakes.is_empty() {
                return Ok(Loaded { spec, path: path.to_owned(), tree });
            }
        }
        Err(error) if sound => {
            let place = path::locate(&tree, &written(error.path()));
            mistakes.push(Diagnostic::at(place, error.into_inner()));
        }
        Err(_) => {}
    }
    Err(Diagnostics::new(mistakes))
}

/// A path of serde's as users write it, without the kinds of stages.
fn written(path: &serde_path_to_error::Path) -> String {
    let mut text = String::new();
    let mut kind_follows = false;
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                text.push_str(&format!("[{index}]"));
                kind_follows = text.starts_with("stages[") && !text.contains('.');
            }
            Segment::Map { key } if !text.is_empty() => text.push_str(&format!(".{key}")),
            Segment::Map { key } => text.push_str(key),
            Segment::Enum { .. } if kind_follows => kind_follows = false,
            Segment::Enum { variant } => text.push_str(&format!(".{variant}")),
            Segment::Unknown => {}
        }
    }
    text
}
