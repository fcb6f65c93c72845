//! Sources that are files, folders and globs.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use super::{Listed, Listing, fixed_rows, remote};
use crate::error::{Error, Result};
use crate::spec::SourceSpec;
use crate::storage::{self, Storage, file_version};

/// Extensions that make a file of a folder a video.
pub const VIDEO_EXTENSIONS: &[&str] =
    &["3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv"];

/// The rows of a file, a folder or a glob.
pub(super) fn rows(path: &str, source: &SourceSpec, storage: &Storage) -> Result<RecordBatch> {
    let (folder, files) = if storage::is_remote(path) { remote::files(path, storage)? } else { local_files(path)? };
    if files.len() == 0 {
        let from = match storage::is_remote(path) {
            true => String::new(),
            false => format!(" (looked from {})", std::env::current_dir().unwrap_or_default().display()),
        };
        return Err(Error::config(format!(
            "source {path} holds no video{from}; known extensions: {}",
            VIDEO_EXTENSIONS.join(", ")
        )));
    }
    let named = Some(folder).filter(|name| !name.is_empty());
    let dataset = source.dataset.clone().or(named).unwrap_or_else(|| "clips".to_owned());
    fixed_rows(files, source, &dataset, Vec::new())
}

/// The videos that a path names, and the name of the folder that they are in.
fn local_files(path: &str) -> Result<(String, Listing)> {
    let path = path.strip_prefix("file://").unwrap_or(path);
    let (base, found) = if is_glob(path) { glob_files(path)? } else { plain_files(Path::new(path))? };
    let name = base.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut files = Listing::default();
    files.extend(found.iter().map(|file| stat(file)));
    Ok((name.unwrap_or_default(), files))
}

fn is_glob(path: &str) -> bool {
    !Path::new(path).exists() && path.contains(['*', '?', '['])
}

/// Every match but folders, and the folder that the pattern starts from. `**` at the end means all files below.
fn glob_files(pattern: &str) -> Result<(PathBuf, Vec<PathBuf>)> {
    let all = if pattern.ends_with("**") { format!("{pattern}/*") } else { pattern.to_owned() };
    let entries =
        glob::glob(&all).map_err(|error| Error::config(format!("source {pattern} is no valid glob: {error}")))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| Error::State(format!("source {pattern}: {error}")))?;
        if !path.is_dir() {
            found.push(path);
        }
    }
    let fixed = Path::new(pattern).components().take_while(|part| !is_glob(&part.as_os_str().to_string_lossy()));
    Ok((fixed.collect(), found))
}

/// The file itself, or the videos anywhere below the folder.
fn plain_files(path: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let kind = std::fs::metadata(path).map_err(|error| {
        let from = std::env::current_dir().unwrap_or_default();
        Error::config(format!("source {}: {error} (looked from {})", path.display(), from.display()))
    })?;
    if !kind.is_dir() {
        return Ok((path.parent().unwrap_or(Path::new("")).to_owned(), vec![path.to_owned()]));
    }
    let (mut found, mut folders) = (Vec::new(), vec![path.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let (kind, path) = (entry.file_type().map_err(Error::io("list", &folder))?, entry.path());
            // Folders behind links are not entered: a link to a parent would never end.
            if kind.is_dir() {
                folders.push(path);
            } else if is_video(&path) && !path.is_dir() {
                found.push(path);
            }
        }
    }
    Ok((path.to_owned(), found))
}

pub(super) fn is_video(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| VIDEO_EXTENSIONS.contains(&extension.as_str()))
}

/// Files and objects as the manifest knows them, in order.
pub(super) fn stats(uris: &[String], storage: &Storage) -> Result<Listing> {
    if uris.iter().any(|uri| storage::is_remote(uri)) {
        return remote::stats(uris, storage);
    }
    let mut files = Listing::default();
    files.extend(uris.iter().map(|uri| stat(Path::new(uri.strip_prefix("file://").unwrap_or(uri)))));
    Ok(files)
}

/// A file as the manifest knows it; one that is not there has no size, and fails where it is opened.
pub(super) fn stat(path: &Path) -> Listed {
    // A name that is not UTF-8 cannot be written down: its clip fails as one that is not there.
    let uri = path.to_string_lossy();
    let uri = uri.strip_prefix("./").unwrap_or(&uri).to_owned();
    match std::fs::metadata(path) {
        Ok(metadata) => Listed { uri, size: i64::try_from(metadata.len()).ok(), etag: Some(file_version(&metadata)) },
        Err(_) => Listed { uri, ..Listed::default() },
    }
}
