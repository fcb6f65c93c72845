//! Identity of what a pipeline makes: two pipelines with one fingerprint make the same shards of the same clips.

use serde_json::{Value, json};

use super::{PipelineSpec, RunSpec};
use crate::error::{Error, Result};
use crate::stage::StageSpec;
use crate::stage::shards::config::OutputSpec;

/// Hash (128 bits of BLAKE3, hexadecimal) over all of `spec` that changes what comes out, and over the content of the files that it
/// names: `files` gives each a name and a hash, in any order.
///
/// Not part of it: the sources, since work units carry their rows themselves; where the dataset goes; how models are
/// run and in what batches; how storage is reached; the rest of `run`.
pub fn fingerprint(spec: &PipelineSpec, files: impl IntoIterator<Item = (String, String)>) -> Result<String> {
    let PipelineSpec { name, description: _, sources: _, stages, output, models: _, run, storage: _ } = spec;
    let OutputSpec { path: _, payload, cut, frames, keep_dropped, max_samples, max_bytes } = output;
    let RunSpec { memory_limit: _, threads: _, clips_per_unit, max_failures: _, isolation: _, stall_timeout_s: _ } =
        run;
    let mut files: Vec<(String, String)> = files.into_iter().collect();
    files.sort();
    let identity = json!({
        "format": crate::dataset::FORMAT,
        "name": name,
        "stages": stages.iter().map(stage).collect::<Result<Vec<_>>>()?,
        "payload": payload,
        "cut": cut,
        "frames": frames,
        "keep_dropped": keep_dropped,
        "max_samples": max_samples,
        "max_bytes": max_bytes.as_u64(),
        "clips_per_unit": clips_per_unit,
        "files": files,
    });
    Ok(blake3::hash(canonical(identity).to_string().as_bytes()).to_hex()[..32].to_owned())
}

/// A stage without what only changes how fast it is.
fn stage(stage: &StageSpec) -> Result<Value> {
    let mut value = serde_json::to_value(stage).map_err(Error::internal)?;
    if let StageSpec::Model(_) | StageSpec::Score(_) = stage
        && let Some(config) = value.get_mut(stage.kind()).and_then(Value::as_object_mut)
    {
        config.shift_remove("batch");
    }
    Ok(value)
}

/// The same value with the fields of every object in the order of their names.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields.into_iter().collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            fields.into_iter().map(|(name, value)| (name, canonical(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        other => other,
    }
}
