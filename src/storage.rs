//! Where bytes lie: object stores by URL, and the local disk as one of them.
//!
//! Enters: paths and URIs as users write them. Leaves: a store and a path within it. A local path is a path as it is
//! written, not a `file://` URL, wherever a person sees it.

mod fetched;
mod patient;
mod profile;
mod remote;
mod spec;
mod upload;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use tokio_util::task::TaskTracker;

use self::fetched::Fetched;
pub use self::spec::StorageSpec;
pub use self::upload::Upload;
use crate::error::{Error, Result};

/// How often a conditional put is tried again, which the stores' clients do not do.
const TRIES: u32 = 6;

/// The object stores of one process: a client for each bucket, made when it is first asked for.
#[derive(Debug, Clone, Default)]
pub struct Storage {
    spec: StorageSpec,
    /// Where relative paths are taken from; none where that is the working directory.
    folder: Option<PathBuf>,
    stores: Arc<Mutex<HashMap<String, Arc<dyn ObjectStore>>>>,
    /// Uploads that are being forgotten.
    aborts: TaskTracker,
    fetched: Arc<Fetched>,
}

/// A place in a store: an object, or a folder of objects.
#[derive(Debug, Clone)]
pub struct Location {
    uri: String,
    store: Arc<dyn ObjectStore>,
    path: StorePath,
    local: Option<PathBuf>,
    aborts: TaskTracker,
}

impl Storage {
    /// Storage that is reached as `spec` says.
    pub fn new(spec: &StorageSpec) -> Self {
        Self { spec: spec.clone(), ..Self::default() }
    }

    /// The same, with relative paths taken from `folder`: the working directory of whoever wrote them.
    pub fn in_folder(self, folder: PathBuf) -> Self {
        Self { folder: Some(folder), ..self }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.as_ref().map_or_else(|| PathBuf::from(path), |folder| folder.join(path))
    }

    /// The place that `uri` names: a local path (absolute, or from the working directory), a `file://` URL, an object or
    /// a folder of `s3://`, `gs://` or `az://`, or an address of the web.
    pub fn locate(&self, uri: &str) -> Result<Location> {
        let local = match uri.split_once("://") {
            None => self.path(uri),
            Some(("file", _)) => url::Url::parse(uri)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| Error::config(format!("{uri} is no valid file URL")))?,
            Some((scheme, rest)) => {
                let remote::Remote { base, path } = remote::parse(uri, scheme, rest)?;
                let uri = uri.trim_end_matches('/').to_owned();
                return Ok(Location { uri, store: self.store(&base)?, path, local: None, aborts: self.aborts.clone() });
            }
        };
        let absolute = std::path::absolute(&local).map_err(Error::io("resolve", &local))?;
        let absolute = without_parents(&absolute);
        let path = StorePath::from_absolute_path(&absolute)
            .map_err(|error| Error::config(format!("{uri} is no usable path: {error}")))?;
        Ok(Location {
            uri: uri.trim_end_matches('/').to_owned(),
            store: Arc::new(LocalFileSystem::new()),
            path,
            local: Some(absolute),
            aborts: self.aborts.clone(),
        })
    }

    /// A file on this machine with what `uri` names: a path as it is, an object fetched once for as long as this storage and
    /// its clones are used. Blocks, on a thread of a Tokio runtime of several threads.
    pub fn file(&self, uri: &str) -> Result<PathBuf> {
        if !is_remote(uri) {
            let path = uri.strip_prefix("file://").map_or_else(|| self.path(uri), PathBuf::from);
            return Ok(path);
        }
        self.fetched.get(uri, || {
            let location = self.locate(uri)?;
            let runtime = tokio::runtime::Handle::try_current().map_err(Error::internal)?;
            tokio::task::block_in_place(|| runtime.block_on(location.read()))
        })
    }

    /// Waits until the stores have forgotten the uploads that were not finished; the end of a run.
    pub async fn settle(&self) {
        upload::settle(&self.aborts).await;
    }

    fn store(&self, base: &str) -> Result<Arc<dyn ObjectStore>> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.get(base) {
            return Ok(Arc::clone(store));
        }
        let store: Arc<dyn ObjectStore> = Arc::new(patient::PatientStore(remote::open(base, &self.spec)?));
        stores.insert(base.to_owned(), Arc::clone(&store));
        Ok(store)
    }
}

/// Whether a URI names something that is not on this machine's disk.
pub fn is_remote(uri: &str) -> bool {
    uri.split_once("://").is_some_and(|(scheme, _)| scheme != "file")
}

/// What tells a version of an object from others: the store's ETag, or time and size where it has none.
pub fn object_version(object: &ObjectMeta) -> String {
    object.e_tag.clone().unwrap_or_else(|| dated_version(object))
}

/// Time and size of an object, to the second as every answer of a store has them.
fn dated_version(object: &ObjectMeta) -> String {
    format!("{:x}-{:x}", object.last_modified.timestamp(), object.size)
}

/// Whether an object is of the version that a listing named. Some listings have no ETags and some answers have, and Azure
/// puts quotes around them in answers, none in listings.
pub fn is_version(object: &ObjectMeta, listed: &str) -> bool {
    let bare = |etag: &str| etag.trim_matches('"').to_owned();
    object.e_tag.as_deref().is_some_and(|etag| bare(etag) == bare(listed)) || dated_version(object) == listed
}

/// What tells a version of a file of this machine from others: when it was changed, and its size.
pub fn file_version(file: &std::fs::Metadata) -> String {
    let modified = file.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{:x}-{:x}", modified.map_or(0, |since| since.as_nanos()), file.len())
}

/// Whether a store takes the credentials for expired or false, rather than this one object for forbidden.
pub fn is_refused(error: &std::io::Error) -> bool {
    const CODES: [&str; 8] = [
        "AuthenticationFailed",
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidAuthenticationInfo",
        "InvalidClientTokenId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    ];
    let error = error.get_ref().and_then(|error| error.downcast_ref::<object_store::Error>());
    error.is_some_and(|error| {
        let text = error.to_string();
        matches!(error, object_store::Error::Unauthenticated { .. }) || CODES.iter().any(|code| text.contains(code))
    })
}

/// An absolute path without `..`, as the system follows it: the parent of a link is that of where it leads to.
fn without_parents(path: &std::path::Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == std::path::Component::ParentDir {
            plain = std::fs::canonicalize(&plain).unwrap_or(plain);
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

impl Location {
    /// As the user wrote it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The path within the store.
    pub fn path(&self) -> &StorePath {
        &self.path
    }

    /// The path on this machine's disk, where it lies there.
    pub fn local(&self) -> Option<&std::path::Path> {
        self.local.as_deref()
    }

    /// A place below this one; `relative` uses `/`.
    pub fn join(&self, relative: &str) -> Self {
        let path = relative.split('/').fold(self.path.clone(), |path, part| path.join(part));
        Self {
            uri: format!("{}/{relative}", self.uri),
            store: Arc::clone(&self.store),
            path,
            local: self.local.as_ref().map(|local| local.join(relative)),
            aborts: self.aborts.clone(),
        }
    }

    /// All bytes of an object.
    pub async fn read(&self) -> Result<bytes::Bytes> {
        let result = self.store.get(&self.path).await.map_err(Error::storage("read", &self.uri))?;
        result.bytes().await.map_err(Error::storage("read", &self.uri))
    }

    /// All bytes of an object; none where there is no such object.
    pub async fn read_if_there(&self) -> Result<Option<bytes::Bytes>> {
        match self.read().await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::Storage { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an object in one step: readers see all of it or nothing of it.
    pub async fn write(&self, bytes: impl Into<bytes::Bytes>) -> Result<()> {
        let payload = PutPayload::from_bytes(bytes.into());
        self.store.put(&self.path, payload).await.map_err(Error::storage("write", &self.uri))?;
        Ok(())
    }

    /// Begins to write an object in parts of `part` bytes; smaller ones go in one request.
    pub fn upload(&self, part: usize) -> Upload {
        Upload::new(self, part, self.aborts.clone())
    }

    /// Writes an object only where there is none yet; false where there is another one.
    pub async fn create(&self, bytes: impl Into<bytes::Bytes>) -> Result<bool> {
        self.put_if(PutMode::Create, "create", bytes.into()).await
    }

    /// Replaces an object that `is_same` still knows by its bytes. False where it is another one, or gone.
    pub async fn replace(&self, is_same: impl Fn(&[u8]) -> bool, bytes: impl Into<bytes::Bytes>) -> Result<bool> {
        let bytes = bytes.into();
        for _ in 0..TRIES {
            let there = match self.store.get(&self.path).await {
                Ok(there) => there,
                Err(object_store::Error::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(Error::storage("read", &self.uri)(error)),
            };
            let version = UpdateVersion { e_tag: there.meta.e_tag.clone(), version: there.meta.version.clone() };
            if !is_same(&there.bytes().await.map_err(Error::storage("read", &self.uri))?) {
                return Ok(false);
            }
            if self.local.is_some() {
                // A disk has no conditional put; the lock on an output keeps other runs away between the look and this.
                return self.write(bytes).await.map(|()| true);
            }
            if self.put_if(PutMode::Update(version), "replace", bytes.clone()).await? {
                return Ok(true);
            }
            // Somebody else was faster, which the next look shows, or the store named a wrong version.
        }
        Ok(false)
    }

    /// Puts an object under a condition. A put whose answer is lost may have been done, and then fails its own condition
    /// when it is tried again: what lies there says so.
    async fn put_if(&self, mode: PutMode, action: &'static str, bytes: bytes::Bytes) -> Result<bool> {
        let mut tries = 0;
        loop {
            let payload = PutPayload::from_bytes(bytes.clone());
            match self.store.put_opts(&self.path, payload, mode.clone().into()).await {
                Ok(_) => return Ok(true),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    return Ok(self.local.is_none() && self.read_if_there().await?.is_some_and(|there| there == bytes));
                }
                Err(object_store::Error::Generic { .. }) if self.local.is_none() && tries < TRIES => {
                    tries += 1;
                    patient::pause(tries).await;
                }
                Err(error) => return Err(Error::storage(action, &self.uri)(error)),
            }
        }
    }

    /// The object's size and version; none where there is no such object.
    pub async fn stat(&self) -> Result<Option<ObjectMeta>> {
        match self.store.head(&self.path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::storage("look at", &self.uri)(error)),
        }
    }

    /// Whether what was found here is of the version that a listing named.
    pub fn is_version(&self, found: &ObjectMeta, listed: &str) -> bool {
        let nanoseconds = || found.last_modified.timestamp_nanos_opt().unwrap_or(0);
        match self.local {
            Some(_) => format!("{:x}-{:x}", nanoseconds(), found.size) == listed,
            None => is_version(found, listed),
        }
    }

    /// Everything below this folder, as it is listed.
    pub fn list(&self) -> BoxStream<'static, Result<ObjectMeta>> {
        let uri = self.uri.clone();
        self.store.list(Some(&self.path)).map_err(move |error| Error::storage("list", &uri)(error)).boxed()
    }

    /// Whether both are the same place.
    pub fn is(&self, other: &Self) -> bool {
        self.local.is_some() == other.local.is_some() && self.base() == other.base() && self.path == other.path
    }

    /// `s3://bucket`, `https://host`; empty on this machine's disk.
    pub fn base(&self) -> String {
        if self.local.is_some() { String::new() } else { self.uri.splitn(4, '/').take(3).collect::<Vec<_>>().join("/") }
    }

    /// URI of another object of the same store, which is not this machine's disk.
    pub fn uri_of(&self, path: &StorePath) -> String {
        format!("{}/{path}", self.base())
    }

    /// Deletes an object; it is no error where there is none.
    pub async fn delete(&self) -> Result<()> {
        match self.store.delete(&self.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::storage("delete", &self.uri)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_followed_as_the_system_does() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(root.join("c")).unwrap();
        std::os::unix::fs::symlink(root.join("a/b"), root.join("c/link")).unwrap();
        let local = |path: &str| {
            let location = Storage::default().locate(&root.join(path).display().to_string()).unwrap();
            location.local().unwrap().strip_prefix(&root).unwrap().display().to_string()
        };
        assert_eq!(local("c/../x.mp4"), "x.mp4");
        assert_eq!(local("not/there/../x.mp4"), "not/x.mp4");
        assert_eq!(local("c/link/../x.mp4"), "a/x.mp4");
    }

    #[test]
    fn quotes_make_no_other_version() {
        let object = |etag: &str| ObjectMeta {
            location: StorePath::from("a.mp4"),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 7,
            e_tag: Some(etag.to_owned()),
            version: None,
        };
        assert!(is_version(&object("\"0x8D\""), "0x8D"));
        assert!(is_version(&object("\"0x8D\""), "\"0x8D\""));
        assert!(is_version(&object("0x8D"), "0-7"));
        assert!(!is_version(&object("\"0x8D\""), "0x8E"));
    }

    #[test]
    fn relative_paths_are_taken_from_the_folder_of_whoever_wrote_them() {
        let storage = Storage::default().in_folder("/run/here".into());
        let local = |path: &str| storage.locate(path).unwrap().local().unwrap().display().to_string();
        assert_eq!(local("out/a"), "/run/here/out/a");
        assert_eq!(local("/out/a"), "/out/a");
        assert_eq!(local("file:///out/a"), "/out/a");
        assert_eq!(storage.file("m.onnx").unwrap(), PathBuf::from("/run/here/m.onnx"));
        assert_eq!(storage.file("/m.onnx").unwrap(), PathBuf::from("/m.onnx"));
    }
}
