//! The executor process: Ballista's, with our tasks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::contexts::Contexts;
use super::tasks::TaskEngine;
use super::unread::Unread;
use super::{Address, MAX_MESSAGE};
use crate::engine::prepare;
use crate::error::{Error, Result};
use crate::plan::StageCodec;
use crate::spec::Provider;

/// How an executor is run.
#[derive(Debug, Clone, clap::Args)]
pub struct ExecutorOptions {
    /// The scheduler; it is waited for.
    #[arg(long, value_name = "HOST:PORT")]
    pub scheduler: Address,
    /// Address of this machine that the scheduler and other executors connect to. Nobody is asked who he is: whoever
    /// reaches it can run anything here.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Name by which others reach this machine. Default: the address that its connection to the scheduler comes from.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Port for the results of tasks.
    #[arg(long, default_value_t = 50051, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Port for the scheduler's calls.
    #[arg(long, default_value_t = 50052, value_parser = clap::value_parser!(u16).range(1..))]
    pub grpc_port: u16,
    /// Work units at once. Default: as many as threads, and two at least, so that the next unit begins while the last one
    /// is written.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: Option<u32>,
    /// CPU-bound tasks at once, over all slots. Default: the number of cores.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Most memory for clips in flight and decoders, over all slots, for each pipeline that runs at the time, such as
    /// `4GiB`; models come on top. Default: a quarter of RAM.
    #[arg(long)]
    pub memory: Option<bytesize::ByteSize>,
    /// Folder for what tasks exchange, which is little. Default: one that is removed when the executor ends.
    #[arg(long, value_name = "FOLDER")]
    pub work_folder: Option<PathBuf>,
    /// Execution providers of ONNX Runtime in order of preference, in place of the pipeline's.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub providers: Vec<Provider>,
    /// Number of the GPU that models and decoders use, in place of the pipeline's.
    #[arg(long, value_name = "NUMBER")]
    pub device: Option<u32>,
    /// Seconds between two heartbeats. Five that the scheduler does not answer end the executor.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub heartbeat: u64,
}

impl ExecutorOptions {
    pub(super) fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, |threads| threads as usize)
    }

    pub(super) fn slots(&self) -> usize {
        self.slots.map_or_else(|| self.threads().max(2), |slots| slots as usize)
    }

    pub(super) fn memory(&self) -> usize {
        let quarter = || prepare::total_memory() / 4;
        self.memory.map_or_else(quarter, |memory| usize::try_from(memory.0).unwrap_or(usize::MAX))
    }
}

/// Seconds that are longer than any wait for a scheduler: Ballista waits at all only where it is given some.
const WAIT_S: u16 = u16::MAX;
/// Pause between two looks for a scheduler.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that one look takes.
const LOOK: Duration = Duration::from_secs(5);

/// Takes tasks until the process is told to end, or the scheduler is gone.
pub async fn join(options: &ExecutorOptions) -> Result<()> {
    // Kept until the end: it is removed when dropped.
    let scratch = tempfile::Builder::new().prefix("simdrop-executor-").tempdir();
    let scratch = scratch.map_err(Error::io("create", std::env::temp_dir()))?;
    let folder = options.work_folder.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let files = folder.clone();
    let runtime = move |_: &_| {
        let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(Unread));
        runtime.with_temp_file_path(files.clone()).build_arc()
    };
    let config = ExecutorProcessConfig {
        bind_host: options.bind.to_string(),
        external_host: options.host.clone(),
        port: options.port,
        grpc_port: options.grpc_port,
        scheduler_host: options.scheduler.host().to_owned(),
        scheduler_port: options.scheduler.port(),
        scheduler_connect_timeout_seconds: WAIT_S,
        vcores: options.slots(),
        task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
        work_dir: Some(folder.display().to_string()),
        grpc_max_decoding_message_size: MAX_MESSAGE as u32,
        grpc_max_encoding_message_size: MAX_MESSAGE as u32,
        executor_heartbeat_interval_seconds: options.heartbeat,
        // Our nodes account for their memory themselves.
        memory_pool_size: Some(0),
        override_execution_engine: Some(Arc::new(TaskEngine::new(Contexts::new(options)))),
        override_runtime_producer: Some(Arc::new(runtime)),
        override_physical_codec: Some(Arc::new(StageCodec::default())),
        ..ExecutorProcessConfig::default()
    };
    let told = CancellationToken::new();
    let _watch = SpawnedTask::spawn(end_signal(told.clone()));
    // Ballista waits as well, but hears no signal meanwhile.
    tokio::select! {
        () = told.cancelled() => return Ok(()),
        () = scheduler_is_there(&options.scheduler) => {}
    }
    let ended = start_executor_process(Arc::new(config)).await;
    ended.map_err(|error| Error::State(format!("the executor cannot go on: {error}")))?;
    if told.is_cancelled() {
        return Ok(());
    }
    Err(Error::State(format!(
        "the scheduler at {} does not answer any more; start the executor again once it is there (a supervisor does)",
        options.scheduler
    )))
}

async fn scheduler_is_there(scheduler: &Address) {
    let look = || tokio::time::timeout(LOOK, TcpStream::connect(scheduler.to_string()));
    if matches!(look().await, Ok(Ok(_))) {
        return;
    }
    tracing::warn!("no scheduler answers at {scheduler} yet; waiting for it");
    while !matches!(look().await, Ok(Ok(_))) {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Notes that the process was told to end.
async fn end_signal(told: CancellationToken) {
    let Ok(mut terminated) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    told.cancel();
}
