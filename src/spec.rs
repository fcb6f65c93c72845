//! The pipeline specification: what a user writes in YAML.
//!
//! Enters: text of one pipeline file. Leaves: a [`PipelineSpec`] whose every field is known and whose structure holds
//! without any I/O. The same types are the YAML, the JSON Schema under `schemas/` and the payload that travels to a
//! cluster, so the doc comments on the fields are the only documentation text.
//!
//! [`load`] in steps: text to a tree that knows its places (`yaml`), environment variables (`environment`), `--set`
//! (`overrides`), the shape against the JSON Schema (`shape`), the types, and the structure ([`check()`]). All mistakes
//! of a file are reported at once.

pub mod bytes;
mod check;
mod diagnostics;
mod environment;
mod fingerprint;
mod load;
mod overrides;
mod path;
pub mod schema;
mod shape;
pub mod suggest;
mod tree;
mod types;
mod yaml;

pub(crate) use check::Found;
pub use check::{Mistake, check, is_name};
pub use diagnostics::{Diagnostic, Diagnostics, Look};
pub use environment::Environment;
pub use fingerprint::fingerprint;
pub use load::{Document, Loaded, LoadedSpec, has_field, load, parse};
pub use types::{MaxFailures, ModelsSpec, Named, PipelineSpec, Provider, RunSpec, SourceKind, SourceSpec};

pub use crate::stage::StageSpec;
pub use crate::stage::shards::config::OutputSpec;

#[cfg(test)]
mod tests;
