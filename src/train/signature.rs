//! The graphs of a model size and what `signature.json` says of them (see `models/README.md`).

use std::borrow::Cow;

use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::clip::Shape;
use super::order::generator;
use crate::error::{Error, Result};
use crate::model::program::Array;
use crate::spec::suggest;
use crate::storage::Storage;

/// The files of a size that comes with simdrop.
macro_rules! shipped {
    ($($size:literal),+) => {
        [$(($size, [$crate::train::signature::shipped!(@file $size, "signature.json"),
            $crate::train::signature::shipped!(@file $size, "forward.onnx"),
            $crate::train::signature::shipped!(@file $size, "loss.onnx"),
            $crate::train::signature::shipped!(@file $size, "train_step.onnx"),
            $crate::train::signature::shipped!(@file $size, "gradients.onnx"),
            $crate::train::signature::shipped!(@file $size, "apply.onnx")])),+]
    };
    (@file $size:literal, $file:literal) => {
        ($file, include_bytes!(concat!("../../models/graphs/", $size, "/", $file)).as_slice())
    };
}
use shipped;

type Files = [(&'static str, &'static [u8]); 6];

/// The sizes that come with simdrop.
static SHIPPED: [(&str, Files); 5] = shipped!("tiny", "tiny-lora", "small", "small-lora", "base");

/// A model size: its signature, and where its graphs are.
#[derive(Debug)]
pub(super) struct Size {
    pub(super) signature: Signature,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Shipped(&'static Files),
    Folder(String, Storage),
}

/// What a trainer has to know of the graphs of a size.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Signature {
    /// Name of the size.
    pub(super) name: String,
    /// What it takes.
    pub(super) clip: ClipShape,
    /// Clips in one run of a graph that trains.
    pub(super) batch: usize,
    /// Length of a caption's embedding.
    pub(super) condition: usize,
    /// Numbers in all parameters.
    pub(super) parameter_count: u64,
    /// Numbers in those that are trained.
    pub(super) trained_count: u64,
    /// Floating-point operations.
    pub(super) flops: Flops,
    /// Group that the trained tensors are in: `params`, or `lora` for adapters.
    pub(super) trained_prefix: String,
    /// The parameters of the model in order.
    pub(super) parameters: Vec<Parameter>,
    /// The adapters, where those are trained.
    pub(super) lora: Option<Lora>,
}

/// Frames and pixels of a clip.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct ClipShape {
    pub(super) frames: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

/// Floating-point operations of the matrix products.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Flops {
    /// Of a step of training.
    pub(super) train_step: u64,
}

/// A tensor that makes up the model.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: String,
    /// Its axes.
    pub(super) shape: Vec<usize>,
    init: Init,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Init {
    Zeros,
    Ones,
    Normal { std: f64 },
}

/// Low-rank adapters: matrix `W` becomes W + scale · (A @ B), block by block.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Lora {
    /// What their product is multiplied by.
    pub(super) scale: f64,
    /// `<matrix>/a` and `<matrix>/b`.
    pub(super) parameters: Vec<Parameter>,
}

impl Size {
    /// The size of this name, or the one whose graphs lie in a folder, on disk or in an object store.
    pub(super) fn open(model: &str, storage: &Storage) -> Result<Self> {
        let shipped = SHIPPED.iter().find(|(name, _)| *name == model);
        let place = match shipped {
            Some((_, files)) => Place::Shipped(files),
            None if model.contains('/') || std::path::Path::new(model).is_dir() => {
                Place::Folder(model.trim_end_matches('/').to_owned(), storage.clone())
            }
            None => {
                let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
                let hint = suggest::nearest(model, names.iter().copied())
                    .map_or_else(|| format!("there are {}", names.join(", ")), |near| format!("did you mean {near}?"));
                return Err(Error::config(format!(
                    "there is no model size {model}; {hint}, and a folder of your own graphs is written with a `/`"
                )));
            }
        };
        let text = file(&place, "signature.json")?;
        let signature = serde_json::from_slice(&text)
            .map_err(|error| Error::config(format!("model {model}: signature.json cannot be used: {error}")))?;
        Ok(Self { signature, place })
    }

    /// A graph, `train_step` for example.
    pub(super) fn graph(&self, name: &str) -> Result<Cow<'static, [u8]>> {
        file(&self.place, &format!("{name}.onnx"))
    }
}

fn file(place: &Place, name: &str) -> Result<Cow<'static, [u8]>> {
    match place {
        Place::Shipped(files) => {
            let found = files.iter().find(|(file, _)| *file == name);
            found
                .map(|(_, bytes)| Cow::Borrowed(*bytes))
                .ok_or_else(|| Error::internal(format!("no file {name} comes with simdrop")))
        }
        Place::Folder(folder, storage) => {
            let path = storage.file(&format!("{folder}/{name}"))?;
            std::fs::read(&path).map(Cow::Owned).map_err(Error::io("open", &path))
        }
    }
}

impl Signature {
    /// Frames, height, width.
    pub(super) fn shape(&self) -> Shape {
        [self.clip.frames, self.clip.height, self.clip.width]
    }

    /// What training changes.
    pub(super) fn trained(&self) -> &[Parameter] {
        self.lora.as_ref().map_or(&self.parameters, |lora| &lora.parameters)
    }
}

impl Parameter {
    /// How many numbers it has.
    pub(super) fn length(&self) -> usize {
        self.shape.iter().product()
    }

    /// Nothing but zeros.
    pub(super) fn zeros(&self) -> Array {
        Array::new(self.shape.clone(), vec![0.0; self.length()])
    }

    /// The values that a seed gives it: the same on every machine.
    pub(super) fn first_values(&self, seed: u64) -> Array {
        let values = match self.init {
            Init::Zeros => return self.zeros(),
            Init::Ones => vec![1.0; self.length()],
            Init::Normal { std } => {
                let mut draws = generator(seed, &format!("weights {}", self.name), 0);
                let normal = |_| {
                    let value: f64 = StandardNormal.sample(&mut draws);
                    (value * std) as f32
                };
                (0..self.length()).map(normal).collect()
            }
        };
        Array::new(self.shape.clone(), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_sizes_are_whole() {
        for (name, files) in &SHIPPED {
            let size = Size::open(name, &Storage::default()).unwrap();
            assert_eq!(size.signature.name, *name);
            assert!(!size.signature.trained().is_empty());
            let count: usize = size.signature.parameters.iter().map(Parameter::length).sum();
            assert_eq!(count as u64, size.signature.parameter_count);
            assert!(files.iter().all(|(_, bytes)| bytes.len() > 100));
        }
        let error = Size::open("tinny", &Storage::default()).unwrap_err().to_string();
        assert!(error.contains("did you mean tiny?"), "{error}");
    }

    #[test]
    fn a_seed_gives_the_same_weights() {
        let size = Size::open("tiny", &Storage::default()).unwrap();
        let matrix = size.signature.parameters.iter().find(|parameter| parameter.name == "patch.weight").unwrap();
        let (first, again, other) = (matrix.first_values(1), matrix.first_values(1), matrix.first_values(2));
        assert_eq!(first, again);
        assert_ne!(first, other);
        let square =
            first.values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / first.values.len() as f64;
        let wanted = 1.0 / matrix.shape[0] as f64;
        assert!((square / wanted - 1.0).abs() < 0.1, "{square} {wanted}");
    }
}
