//! Files that programs open by their paths (models, labels, thresholds), fetched from object stores.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::error::{Error, Result};

/// A folder of this process with what was fetched; it goes when the last user is gone.
#[derive(Debug, Default)]
pub(super) struct Fetched(Mutex<Option<tempfile::TempDir>>);

impl Fetched {
    /// The file of `uri`, which `fetch` gets unless it is there. Objects of one folder lie in one folder, under their names.
    pub(super) fn get(&self, uri: &str, fetch: impl FnOnce() -> Result<Bytes>) -> Result<PathBuf> {
        // Held while it is fetched: whoever asks for the same waits for this one.
        let mut folder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if folder.is_none() {
            let made = tempfile::Builder::new().prefix("simdrop-files-").tempdir();
            *folder = Some(made.map_err(Error::io("make a folder in", std::env::temp_dir()))?);
        }
        let root = folder.as_ref().map(tempfile::TempDir::path).unwrap_or(std::path::Path::new("."));
        let (parent, name) = uri.rsplit_once('/').unwrap_or(("", uri));
        let place = root.join(&blake3::hash(parent.as_bytes()).to_hex()[..16]);
        let path = place.join(name);
        if !path.exists() {
            let bytes = fetch()?;
            std::fs::create_dir_all(&place).map_err(Error::io("make", &place))?;
            std::fs::write(&path, bytes).map_err(Error::io("write", &path))?;
        }
        Ok(path)
    }
}
