//! Captions as numbers: each is encoded once, and once only as long as the output is there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::checkpoint::encode;
use super::index::Source;
use super::spec::TrainSpec;
use crate::error::{Error, Result};
use crate::model::program::Array;
use crate::model::text::TextEncoder;
use crate::storage::{Location, Storage};

/// The encoded captions below the output.
const FILE: &str = "captions.safetensors";
/// Key of the encoder's hash in the file's metadata.
const ENCODER: &str = "encoder";

/// Captions and their numbers.
pub(super) type Embedded = HashMap<Arc<str>, Arc<[f32]>>;

/// Encodes the captions of all clips; none where the training has no encoder. `length` is what the model takes.
pub(super) async fn embed(
    spec: &TrainSpec,
    sources: &[Source],
    storage: &Storage,
    root: &Location,
    length: usize,
) -> Result<Embedded> {
    let Some(encoder) = &spec.condition.encoder else { return Ok(Embedded::new()) };
    let model = TextEncoder::file(encoder, storage)?;
    let texts: BTreeSet<Arc<str>> =
        sources.iter().flat_map(|source| &source.clips).filter_map(|clip| clip.caption.clone()).collect();
    let bytes = std::fs::read(&model).map_err(Error::io("open", &model))?;
    let encoder = blake3::hash(&bytes).to_hex().to_string();
    drop(bytes);
    let file = root.join(FILE);
    let mut known = read(&file, &encoder).await?;
    let missing: Vec<Arc<str>> = texts.iter().filter(|text| !known.contains_key(&key(text))).cloned().collect();
    if !missing.is_empty() {
        tracing::info!("{} captions to encode", missing.len());
        let models = spec.models.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut encoder = TextEncoder::load(&models, &model)?;
            missing.iter().map(|text| Ok((key(text), encoder.encode(text)?))).collect::<Result<Vec<_>>>()
        });
        known.extend(work.await.map_err(Error::internal)??);
        write(&file, &encoder, &known).await?;
    }
    texts
        .into_iter()
        .map(|text| {
            let numbers = known.get(&key(&text)).cloned().unwrap_or_default();
            if numbers.len() != length {
                return Err(Error::config(format!(
                    "condition.encoder gives {} numbers, the model takes {length}: use another encoder or size",
                    numbers.len()
                )));
            }
            Ok((text, numbers.into()))
        })
        .collect()
}

fn key(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..32].to_owned()
}

/// What an earlier run encoded; a file that cannot be read costs encoding again, nothing more.
async fn read(file: &Location, encoder: &str) -> Result<HashMap<String, Vec<f32>>> {
    let Some(bytes) = file.read_if_there().await? else { return Ok(HashMap::new()) };
    let known = || {
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).ok()?;
        let same = header.metadata().as_ref()?.get(ENCODER)? == encoder;
        let tensors = safetensors::SafeTensors::deserialize(&bytes).ok().filter(|_| same)?;
        let numbers = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        Some(tensors.iter().map(|(name, view)| (name.to_owned(), numbers(view.data()))).collect())
    };
    Ok(known().unwrap_or_default())
}

async fn write(file: &Location, encoder: &str, known: &HashMap<String, Vec<f32>>) -> Result<()> {
    let arrays: Vec<(String, Array)> =
        known.iter().map(|(key, numbers)| (key.clone(), Array::new([numbers.len()], numbers.clone()))).collect();
    file.write(encode(&arrays, HashMap::from([(ENCODER.to_owned(), encoder.to_owned())]))?).await
}
