//! A client that reads again what came broken.
//!
//! Clients of object stores try requests again, and go on with a body that ends too soon where the store still names the
//! same version of the object. Here a body of bounded size is taken whole, and asked for anew where it does not come.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// Bodies up to this size are taken whole.
const WHOLE: u64 = 16 << 20;
/// How often one is asked for, and the first pause in milliseconds.
const TRIES: u32 = 6;
const PAUSE_MS: u64 = 50;

/// Waits before try number `attempt`, from 1: longer each time, and never as long as another process.
pub(super) async fn pause(attempt: u32) {
    use std::hash::{BuildHasher, Hasher};
    let most = PAUSE_MS << attempt.min(TRIES);
    let chance = std::hash::RandomState::new().build_hasher().finish();
    tokio::time::sleep(Duration::from_millis(most / 2 + chance % (most / 2))).await;
}

/// An error without the signature of an access token of Azure's, which its client prints with the address of a deletion, and of
/// nothing else.
fn unsigned(error: Error) -> Error {
    const SIGNATURE: &str = "sig=";
    let Error::Generic { store, source } = error else { return error };
    let text = source.to_string();
    if !text.contains(SIGNATURE) {
        return Error::Generic { store, source };
    }
    let mut parts = text.split(SIGNATURE);
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|sign: char| sign == '&' || sign.is_whitespace()).unwrap_or(part.len());
        clean += &format!("{SIGNATURE}…{}", &part[end..]);
    }
    Error::Generic { store, source: clean.into() }
}

/// A store whose small bodies are read again where they come broken.
#[derive(Debug)]
pub(super) struct PatientStore(pub(super) Arc<dyn ObjectStore>);

impl fmt::Display for PatientStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[async_trait]
impl ObjectStore for PatientStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut attempt = 0;
        loop {
            let opened = self.0.get_opts(location, options.clone()).await?;
            let length = opened.range.end - opened.range.start;
            if options.head || length > WHOLE {
                return Ok(opened);
            }
            let (meta, range, attributes) = (opened.meta.clone(), opened.range.clone(), opened.attributes.clone());
            let error = match opened.bytes().await {
                Ok(bytes) if bytes.len() as u64 == length => {
                    let payload = GetResultPayload::Stream(futures::stream::iter([Ok(bytes)]).boxed());
                    return Ok(GetResult { payload, meta, range, attributes });
                }
                Ok(bytes) => {
                    let source = format!("{} of {length} bytes came", bytes.len()).into();
                    Error::Generic { store: "storage", source }
                }
                Err(error) => error,
            };
            attempt += 1;
            if attempt == TRIES {
                return Err(error);
            }
            pause(attempt).await;
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let fetch = |range: Range<u64>| async move {
            let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
            self.get_opts(location, options).await?.bytes().await
        };
        object_store::coalesce_ranges(ranges, fetch, object_store::OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations).map_err(unsigned).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_not_told() {
        let told = |text: &str| unsigned(Error::Generic { store: "test", source: text.into() }).to_string();
        let text = told("POST http://host/data?comp=batch&sig=a%2Bb%3D&sp=rw in 2 s, http://host/?sig=secret failed");
        assert!(text.contains("comp=batch&sig=…&sp=rw in 2 s, http://host/?sig=… failed"), "{text}");
        assert!(told("POST http://host/ failed").ends_with("POST http://host/ failed"));
    }
}
