//! An S3 server of this process, over HTTP on a port of its own: buckets are folders. It can be made to answer badly.

use std::path::{Path, PathBuf};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;

use super::s3_faults::Faults;

/// The only bucket.
pub(crate) const BUCKET: &str = "data";
const KEY: &str = "test-key";
const SECRET: &str = "test-secret";

/// Serves until it is dropped.
pub(crate) struct S3Server {
    runtime: Option<tokio::runtime::Runtime>,
    endpoint: String,
    folder: tempfile::TempDir,
}

impl S3Server {
    pub(crate) fn start() -> Self {
        Self::start_with(Faults::none())
    }

    /// A server that answers as `faults` say.
    pub(crate) fn start_with(faults: Faults) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(KEY, SECRET));
        let service = service.build();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.handle().spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let (service, faults) = (service.clone(), faults.clone());
                connections.spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    let answer = service_fn(move |request| faults.clone().answer(service.clone(), request));
                    // A client that goes away is no concern of the server.
                    let _ = builder.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        Self { runtime: Some(runtime), endpoint, folder }
    }

    /// What a program needs to reach it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where an object lies.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(key)
    }

    /// Puts a file there.
    pub(crate) fn put(&self, key: &str, file: &Path) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(file, path).unwrap();
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
