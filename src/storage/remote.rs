//! Clients of the object stores that are not this machine's disk.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::http::HttpBuilder;
use object_store::path::Path as StorePath;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider};

use super::StorageSpec;
use super::profile::{self, Profile};
use crate::error::{Error, Result};

/// Longest time that a request is tried again; what it was signed with does not live much longer.
const RETRY_TIMEOUT: Duration = Duration::from_secs(180);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A URI, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// What a client is made for: `s3://bucket`, `https://host:8080`.
    pub(super) base: String,
    /// The object, or the folder of objects.
    pub(super) path: StorePath,
}

/// Takes a URI of the form `scheme://rest` apart. Keys of buckets are taken as they are written; addresses of the web are
/// URLs.
pub(super) fn parse(uri: &str, scheme: &str, rest: &str) -> Result<Remote> {
    let wrong = |problem: &dyn std::fmt::Display| Error::config(format!("{uri}: {problem}"));
    match scheme {
        "s3" | "gs" | "az" => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong(&format!("the bucket is missing; write {scheme}://BUCKET/KEY")));
            }
            let path = StorePath::parse(key).map_err(|error| wrong(&format!("it is no usable key: {error}")))?;
            Ok(Remote { base: format!("{scheme}://{bucket}"), path })
        }
        "http" | "https" => {
            let url = url::Url::parse(uri).map_err(|error| wrong(&format!("it is no valid URL: {error}")))?;
            if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
                return Err(wrong(&"addresses with a query, a fragment or a user are not supported"));
            }
            let path = StorePath::from_url_path(url.path()).map_err(|error| wrong(&error))?;
            Ok(Remote { base: url.origin().ascii_serialization(), path })
        }
        _ => Err(wrong(&format!(
            "storage {scheme}:// is not supported; there are local paths, s3://, gs://, az://, http:// and https://"
        ))),
    }
}

/// A client for everything under `base`.
pub(super) fn open(base: &str, spec: &StorageSpec) -> Result<Arc<dyn ObjectStore>> {
    let opened: Result<Arc<dyn ObjectStore>, object_store::Error> = match base.split("://").next() {
        Some("s3") => amazon(base, spec, &profile::find(spec.profile.as_deref(), &|name| std::env::var(name).ok())?),
        Some("gs") => google(base, spec),
        Some("az") => azure(base, spec),
        _ => HttpBuilder::new()
            .with_url(base)
            .with_client_options(client(spec, true))
            .with_retry(retry(spec))
            .build()
            .map(|store| Arc::new(store) as _),
    };
    opened.map_err(|error| {
        let text = error.to_string();
        let hint = if text.contains("Account must be specified") { "; set AZURE_STORAGE_ACCOUNT_NAME" } else { "" };
        Error::config(format!("{base} cannot be used as storage: {text}{hint}"))
    })
}

fn amazon(base: &str, spec: &StorageSpec, profile: &Profile) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = AmazonS3Builder::from_env().with_url(base);
    let missing = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_none();
    if let Some(region) = profile.region.as_ref().filter(|_| missing(&builder, AmazonS3ConfigKey::Region)) {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = profile.endpoint.as_ref().filter(|_| missing(&builder, AmazonS3ConfigKey::Endpoint)) {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some((id, secret, token)) = &profile.keys {
        let (key_id, secret_key, token) = (id.clone(), secret.clone(), token.clone());
        let keys = StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token });
        builder = builder.with_credentials(Arc::new(keys));
    }
    if let Some(endpoint) = &spec.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    if let Some(region) = &spec.region {
        builder = builder.with_region(region);
    }
    if spec.anonymous {
        builder = builder.with_skip_signature(true);
    }
    if spec.virtual_hosted {
        builder = builder.with_virtual_hosted_style_request(true);
    }
    // Whoever writes an address that begins with http:// wants it so.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let store = builder.with_client_options(client(spec, plain)).with_retry(retry(spec)).build()?;
    Ok(Arc::new(store))
}

fn google(base: &str, spec: &StorageSpec) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = GoogleCloudStorageBuilder::from_env().with_url(base);
    if spec.anonymous {
        // Writes are sent with a token all the same; without this one it would be looked for on a server of Google's.
        let nothing = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(nothing));
    }
    // Google's own address is https; another one stands in a file of keys or in the environment, and is meant as it is written.
    let store = builder.with_client_options(client(spec, true)).with_retry(retry(spec)).build()?;
    Ok(Arc::new(store))
}

fn azure(base: &str, spec: &StorageSpec) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_url(base);
    if spec.anonymous {
        builder = builder.with_skip_signature(true);
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let store = builder.with_client_options(client(spec, plain)).with_retry(retry(spec)).build()?;
    Ok(Arc::new(store))
}

fn client(spec: &StorageSpec, allow_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout(Duration::from_secs(spec.timeout_s))
}

fn retry(spec: &StorageSpec) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: spec.retries, retry_timeout: RETRY_TIMEOUT }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(uri: &str) -> Result<(String, String)> {
        let (scheme, rest) = uri.split_once("://").unwrap();
        parse(uri, scheme, rest).map(|remote| (remote.base, remote.path.to_string()))
    }

    #[test]
    fn keys_are_taken_as_they_are_written() {
        for (uri, base, path) in [
            ("s3://bucket/a b/c#1%.mp4", "s3://bucket", "a b/c#1%.mp4"),
            ("s3://bucket", "s3://bucket", ""),
            ("s3://bucket/folder/", "s3://bucket", "folder"),
            ("gs://bucket/ü.mp4", "gs://bucket", "ü.mp4"),
            ("az://container/x", "az://container", "x"),
            ("http://host:8080/a%20b.mp4", "http://host:8080", "a b.mp4"),
            ("https://host/x", "https://host", "x"),
        ] {
            assert_eq!(parsed(uri).unwrap(), (base.to_owned(), path.to_owned()), "{uri}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (uri, part) in [
            ("s3:///key", "the bucket is missing"),
            ("s3://bucket/a//b", "no usable key"),
            ("s3://bucket/../b", "no usable key"),
            ("https://host/x?signature=1", "not supported"),
            ("ftp://host/x", "storage ftp:// is not supported"),
        ] {
            let error = parsed(uri).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
