//! Checkpoints: the whole state of a training in one safetensors file, written whole or not at all.
//!
//! Tensors `params/…` (or `lora/…`), `m/…`, `v/…` and `ema/…`; the rest of the state is numbers in the file's metadata:
//! the step, which with the seed says where in the data the training is and what is drawn next.

use std::collections::HashMap;

use bytes::Bytes;
use futures::TryStreamExt;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::program::{Array, DeviceState};
use crate::storage::Location;

/// Folder of the checkpoints below the output.
pub(super) const FOLDER: &str = "checkpoints";
/// Where the description is in the metadata of the file.
const METADATA: &str = "simdrop";

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    /// Version of simdrop.
    pub(super) simdrop: String,
    /// Name of the training.
    pub(super) name: String,
    /// Size of the model.
    pub(super) model: String,
    /// Hash of everything that decides what comes out: another training does not go on from here.
    pub(super) fingerprint: String,
    /// Steps that are done.
    pub(super) step: u64,
    /// Samples that the data has given.
    pub(super) samples: u64,
    /// Running mean of the loss.
    #[serde(with = "digits")]
    pub(super) mean_loss: Option<f64>,
}

/// A number as text, which is read back as it was to the last bit; numbers of JSON are not.
mod digits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        number.map(|number| number.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

/// A checkpoint in memory.
#[derive(Debug)]
pub(super) struct Checkpoint {
    pub(super) description: Description,
    bytes: Bytes,
}

/// Where the checkpoint of a step is.
pub(super) fn place(root: &Location, step: u64) -> Location {
    root.join(&format!("{FOLDER}/step-{step:08}.safetensors"))
}

/// Writes the tensors of `state` in `groups`.
pub(super) fn pack(description: &Description, state: &DeviceState, groups: &[&str]) -> Result<Bytes> {
    let names = groups.iter().flat_map(|group| state.names(&format!("{group}/")));
    let arrays = names.map(|name| Ok((name.clone(), state.get(&name)?))).collect::<Result<Vec<_>>>()?;
    let json = serde_json::to_string(description).map_err(Error::internal)?;
    encode(&arrays, HashMap::from([(METADATA.to_owned(), json)]))
}

/// Tensors as a safetensors file.
pub(super) fn encode(arrays: &[(String, Array)], metadata: HashMap<String, String>) -> Result<Bytes> {
    let bytes: Vec<Vec<u8>> =
        arrays.iter().map(|(_, array)| array.values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = arrays
        .iter()
        .zip(&bytes)
        .map(|((name, array), bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, array.dims.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(Error::internal)?;
    safetensors::serialize(views, Some(metadata)).map(Bytes::from).map_err(Error::internal)
}

impl Checkpoint {
    /// Reads a checkpoint.
    pub(super) async fn read(place: &Location) -> Result<Self> {
        let bytes = place.read().await?;
        let wrong = |problem: &dyn std::fmt::Display| {
            Error::config(format!("{} is no checkpoint of simdrop: {problem}", place.uri()))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| wrong(&error))?;
        // Of a file that was cut off, too.
        SafeTensors::deserialize(&bytes).map_err(|error| wrong(&error))?;
        let text = header.metadata().as_ref().and_then(|metadata| metadata.get(METADATA));
        let text = text.ok_or_else(|| wrong(&"its metadata does not say what it is"))?;
        let description = serde_json::from_str(text).map_err(|error| wrong(&error))?;
        Ok(Self { description, bytes })
    }

    /// The newest checkpoint of an output that can be read; none where there is none.
    pub(super) async fn newest(root: &Location) -> Result<Option<(Location, Self)>> {
        for step in steps(root).await?.into_iter().rev() {
            let place = place(root, step);
            match Self::read(&place).await {
                Ok(checkpoint) => return Ok(Some((place, checkpoint))),
                Err(error @ Error::Config(_)) => tracing::warn!("{error}; the one before it is taken"),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The tensors in a group, by their names within it.
    pub(super) fn group(&self, group: &str) -> Result<HashMap<String, Array>> {
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(Error::internal)?;
        let prefix = format!("{group}/");
        let in_group = tensors.iter().filter_map(|(name, view)| Some((name.strip_prefix(&prefix)?.to_owned(), view)));
        Ok(in_group.map(|(name, view)| (name, array(&view))).collect())
    }
}

fn array(view: &TensorView<'_>) -> Array {
    let (numbers, _) = view.data().as_chunks::<4>();
    Array::new(view.shape().to_vec(), numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// Steps that have a checkpoint, in order.
pub(super) async fn steps(root: &Location) -> Result<Vec<u64>> {
    let listed: Vec<_> = root.join(FOLDER).list().try_collect().await?;
    let step = |name: &str| name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok();
    let mut steps: Vec<u64> = listed.iter().filter_map(|object| step(object.location.filename()?)).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Writes a checkpoint, then removes the oldest ones above `keep`.
pub(super) async fn write(root: &Location, step: u64, bytes: Bytes, keep: usize) -> Result<()> {
    place(root, step).write(bytes).await?;
    let steps = steps(root).await?;
    for old in &steps[..steps.len().saturating_sub(keep)] {
        let place = place(root, *old);
        place.delete().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Storage;

    fn description(step: u64) -> Description {
        Description {
            simdrop: "1".to_owned(),
            name: "test".to_owned(),
            model: "tiny".to_owned(),
            fingerprint: "f".to_owned(),
            step,
            samples: 16 * step,
            // JSON would make another number of it.
            mean_loss: Some(0.22562569959818296),
        }
    }

    fn packed(step: u64) -> Bytes {
        let arrays = [("params/a".to_owned(), Array::new([2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, 4.5]))];
        let json = serde_json::to_string(&description(step)).unwrap();
        encode(&arrays, HashMap::from([(METADATA.to_owned(), json)])).unwrap()
    }

    #[tokio::test]
    async fn the_newest_that_can_be_read_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let root = Storage::default().locate(&folder.path().display().to_string()).unwrap();
        assert!(Checkpoint::newest(&root).await.unwrap().is_none());
        for step in [10, 20, 30] {
            write(&root, step, packed(step), 2).await.unwrap();
        }
        assert_eq!(steps(&root).await.unwrap(), [20, 30]);
        let (_, newest) = Checkpoint::newest(&root).await.unwrap().unwrap();
        assert_eq!(newest.description, description(30));
        assert_eq!(newest.group("params").unwrap()["a"].values[2], f32::MIN_POSITIVE);
        // One that a full disk cut off.
        let whole = packed(30);
        std::fs::write(place(&root, 30).local().unwrap(), &whole[..whole.len() - 3]).unwrap();
        let (_, newest) = Checkpoint::newest(&root).await.unwrap().unwrap();
        assert_eq!(newest.description.step, 20);
    }
}
