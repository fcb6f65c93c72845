//! How remote storage is reached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How object stores are reached; nothing here changes what comes out. Credentials are never written here: they come
/// from the environment, as the tools of each store have it (`AWS_ACCESS_KEY_ID`, `AWS_SESSION_TOKEN`, web identity and
/// instance roles; `GOOGLE_APPLICATION_CREDENTIALS`; `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY`, …).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSpec {
    /// Address of an S3-compatible service, such as `http://localhost:9000`. Default: `AWS_ENDPOINT_URL`, else Amazon's. Those
    /// for `gs://` and `az://` come from the environment (docs/storage.md).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region of the buckets in `s3://`. Default: `AWS_REGION`, else `us-east-1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Profile in `~/.aws/credentials` and `~/.aws/config` whose keys, region and endpoint are used. Default: the keys of
    /// the environment, else the profile `AWS_PROFILE`, else the profile `default` where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Send requests without a signature, as public buckets take them.
    pub anonymous: bool,
    /// Put the bucket in `s3://` into the name of the host (`bucket.host`) instead of the path.
    pub virtual_hosted: bool,
    /// Seconds that one request may take.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_s: u64,
    /// How often a request is tried again that failed for a passing reason (a reset connection, 500, 503), with growing
    /// random pauses and for three minutes at most.
    #[schemars(range(min = 0, max = 100))]
    pub retries: usize,
}

impl Default for StorageSpec {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            profile: None,
            anonymous: false,
            virtual_hosted: false,
            timeout_s: 60,
            retries: 10,
        }
    }
}
