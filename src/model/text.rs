//! Captions as numbers: an encoder such as MiniLM with its tokenizer.
//!
//! Enters: a text. Leaves: the mean of the encoder's vectors over the text's tokens, of length 1. Texts are run one by
//! one: an encoder whose weights are 8-bit integers scales a whole batch alike, so a text's numbers would depend on its
//! neighbours.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use ort::value::Tensor;
use tokenizers::Tokenizer;

use super::runtime;
use crate::error::{Error, Result};
use crate::spec::{ModelsSpec, Provider};
use crate::storage::{self, Storage};

/// Longest text in tokens; what is beyond is left out.
const LONGEST: usize = 256;

/// A loaded encoder.
pub struct TextEncoder {
    model: String,
    tokenizer: Tokenizer,
    session: ort::session::Session,
    provider: Provider,
}

impl Debug for TextEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextEncoder").field("model", &self.model).finish_non_exhaustive()
    }
}

impl TextEncoder {
    /// The file of an encoder on this machine; of one in an object store the tokenizer is fetched as well. Blocking.
    pub fn file(model: &str, storage: &Storage) -> Result<String> {
        if storage::is_remote(model) {
            storage.file(&tokenizer_of(Path::new(model)).to_string_lossy())?;
        }
        Ok(storage.file(model)?.to_string_lossy().into_owned())
    }

    /// Loads an encoder and the tokenizer beside it; blocking.
    pub fn load(spec: &ModelsSpec, model: &str) -> Result<Self> {
        let path = Path::new(model);
        let wrong = |problem: String| Error::config(format!("encoder {model}: {problem}"));
        let tokens = tokenizer_of(path);
        std::fs::metadata(path).map_err(Error::io("open", path))?;
        std::fs::metadata(&tokens).map_err(Error::io("open", &tokens))?;
        let mut tokenizer = Tokenizer::from_file(&tokens)
            .map_err(|error| wrong(format!("tokenizer {} cannot be used: {error}", tokens.display())))?;
        let cut = tokenizers::TruncationParams { max_length: LONGEST, ..Default::default() };
        tokenizer.with_truncation(Some(cut)).map_err(|error| wrong(error.to_string()))?;
        tokenizer.with_padding(None);
        let mut loaded = None;
        let provider = super::first_provider(spec, model, |provider| {
            Ok(runtime::load(path, provider, spec.device)?.map(|session| loaded = Some(session)))
        })?;
        let session = loaded.ok_or_else(|| Error::internal("a provider took a model and left no session"))?;
        Ok(Self { model: model.to_owned(), tokenizer, session, provider })
    }

    /// The execution provider that runs it.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// A text as numbers.
    pub fn encode(&mut self, text: &str) -> Result<Vec<f32>> {
        let fault = |message: String| Error::Model { model: self.model.clone(), message };
        let encoding = self.tokenizer.encode(text, true).map_err(|error| fault(error.to_string()))?;
        let wide = |numbers: &[u32]| numbers.iter().map(|number| i64::from(*number)).collect::<Vec<_>>();
        let (ids, mask, types) =
            (wide(encoding.get_ids()), wide(encoding.get_attention_mask()), wide(encoding.get_type_ids()));
        let length = ids.len();
        let run = || -> ort::Result<Vec<f32>> {
            let row = |numbers: Vec<i64>| Tensor::from_array(([1, length], numbers));
            let outputs = self.session.run(ort::inputs![
                "input_ids" => row(ids)?, "attention_mask" => row(mask)?, "token_type_ids" => row(types)?,
            ])?;
            let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
            Ok(values.to_vec())
        };
        let values = run()
            .map_err(|error| Error::Model { model: self.model.clone(), message: error.message().trim().to_owned() })?;
        Ok(pooled(&values, length))
    }
}

/// `minilm.onnx` has its tokenizer in `minilm.tokenizer.json`.
fn tokenizer_of(model: &Path) -> PathBuf {
    model.with_extension("tokenizer.json")
}

/// The mean over `length` vectors, brought to length 1.
fn pooled(values: &[f32], length: usize) -> Vec<f32> {
    let width = values.len() / length.max(1);
    let mut mean = vec![0f64; width];
    for vector in values.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(vector).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let norm = mean.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
    mean.into_iter().map(|value| (value / norm) as f32).collect()
}
