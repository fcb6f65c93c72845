//! Sources in object stores: one object, everything below a prefix, or what a glob matches there.

use std::future::Future;
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use glob::{MatchOptions, Pattern};
use object_store::ObjectMeta;
use object_store::path::Path as StorePath;

use super::walk::is_video;
use super::{Listed, Listing};
use crate::error::{Error, Result};
use crate::storage::{Location, Storage, object_version};

/// Requests at once when many objects are asked for their size and version.
const LOOKS: usize = 64;

/// A `*` stays within one folder, as it does on a disk.
const MATCH: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The videos that `uri` names, and the name of the folder that they are in.
pub(super) fn files(uri: &str, storage: &Storage) -> Result<(String, Listing)> {
    let is_web = uri.starts_with("http://") || uri.starts_with("https://");
    let unlisted = || Error::config(format!("source {uri}: there is no such file, and the web cannot be listed"));
    wait(async {
        if let Some(wildcard) = uri.find(['*', '?', '[']).filter(|_| !is_web) {
            let folder = uri[..wildcard].rfind('/').map_or(uri, |slash| &uri[..slash]);
            return Ok((last(folder), glob_objects(uri, &storage.locate(folder)?).await?));
        }
        let place = storage.locate(uri)?;
        // A name tells what it is likely to be; the other is tried where that is not there.
        let is_object = is_web || is_video(Path::new(place.path().as_ref()));
        if is_object && let Some(found) = object(&place).await? {
            return Ok(found);
        }
        if is_web {
            return Err(unlisted());
        }
        let videos = below(&place).try_filter(|(_, object)| {
            let is_video = is_video(Path::new(object.location.as_ref()));
            async move { is_video }
        });
        let files: Listing = collect(videos.map_ok(|(uri, object)| listed(uri, &object))).await?;
        if files.len() == 0 && !is_object && !uri.ends_with('/') && !place.path().as_ref().is_empty() {
            return Ok(object(&place).await?.unwrap_or_default());
        }
        Ok((last(place.uri()), files))
    })
}

/// An object, and the name of its folder.
async fn object(place: &Location) -> Result<Option<(String, Listing)>> {
    let folder = place.uri().rsplit_once('/').map_or(place.uri(), |(folder, _)| folder);
    let found = place.stat().await?;
    Ok(found.map(|object| {
        let mut files = Listing::default();
        files.extend([listed(place.uri().to_owned(), &object)]);
        (last(folder), files)
    }))
}

async fn glob_objects(uri: &str, folder: &Location) -> Result<Listing> {
    let whole = if uri.ends_with("**") { format!("{uri}/*") } else { uri.to_owned() };
    // Taken apart as all URIs are, so that the pattern is that of a key.
    let key = whole.splitn(4, '/').nth(3).unwrap_or_default();
    let pattern =
        Pattern::new(key).map_err(|error| Error::config(format!("source {uri} is no valid glob: {error}")))?;
    let matches = |path: &StorePath| pattern.matches_with(path.as_ref(), MATCH);
    let found = below(folder).try_filter(|(_, object)| {
        let is_match = matches(&object.location);
        async move { is_match }
    });
    collect(found.map_ok(|(uri, object)| listed(uri, &object))).await
}

async fn collect(files: impl futures::Stream<Item = Result<Listed>>) -> Result<Listing> {
    let mut listing = Listing::default();
    let mut files = std::pin::pin!(files);
    while let Some(file) = files.try_next().await? {
        listing.extend([file]);
    }
    Ok(listing)
}

/// Objects below a folder with their URIs, as they are listed.
fn below(folder: &Location) -> impl futures::Stream<Item = Result<(String, ObjectMeta)>> {
    let place = folder.clone();
    folder.list().map_ok(move |object| (place.uri_of(&object.location), object))
}

/// Sizes and versions of objects, in order; one that is not there has none, and fails where it is opened.
pub(super) fn stats(uris: &[String], storage: &Storage) -> Result<Listing> {
    let look = |uri: &String| {
        let (uri, storage) = (uri.clone(), storage.clone());
        async move {
            match storage.locate(&uri)?.stat().await {
                Ok(Some(object)) => Ok(listed(uri, &object)),
                Ok(None) => Ok(Listed { uri, ..Listed::default() }),
                Err(error) => Err(error),
            }
        }
    };
    wait(async { collect(futures::stream::iter(uris).map(look).buffered(LOOKS)).await })
}

/// All bytes of an object.
pub(super) fn read(uri: &str, storage: &Storage) -> Result<bytes::Bytes> {
    wait(async { storage.locate(uri)?.read().await })
}

/// Whether there is such an object.
pub(super) fn exists(uri: &str, storage: &Storage) -> Result<bool> {
    wait(async { Ok(storage.locate(uri)?.stat().await?.is_some()) })
}

fn listed(uri: String, object: &ObjectMeta) -> Listed {
    Listed { uri, size: i64::try_from(object.size).ok(), etag: Some(object_version(object)) }
}

fn last(uri: &str) -> String {
    uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned()
}

/// Waits for storage, on a thread for blocking work of a Tokio runtime.
fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Handle::try_current().map_err(Error::internal)?.block_on(work)
}
