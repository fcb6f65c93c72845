//! The scheduler process: Ballista's, with our codec.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::default_session_builder;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::start_grpc_service_with_listener;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;

use super::MAX_MESSAGE;
use super::queue::Queue;
use super::unread::Unread;
use crate::error::{Error, Result};
use crate::plan::StageCodec;

/// How a scheduler is run.
#[derive(Debug, Clone, clap::Args)]
pub struct SchedulerOptions {
    /// Address of this machine that clients and executors connect to. Nobody is asked who he is: whoever reaches it can
    /// run anything on the cluster.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// Port; 0 takes a free one.
    #[arg(long, default_value_t = 50050)]
    pub port: u16,
    /// Name by which executors reach this machine. Default: the address that it is bound to.
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Seconds without a heartbeat after which an executor is taken for dead and its work units are given to others; more
    /// than twice the heartbeat of the executors.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub executor_timeout: u64,
    /// Seconds that a run waits for an executor once the last one is gone, before it fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub no_executors_timeout: u64,
    /// How often a work unit is tried that fails for a passing reason, such as a store that does not answer.
    #[arg(long, value_name = "TIMES", default_value_t = 4)]
    pub task_failures: usize,
}

/// Seconds between two looks for dead executors.
const CHECK_S: u64 = 2;

/// Serves until the process ends; `ready` is called with the address once clients can connect.
pub async fn serve(options: &SchedulerOptions, ready: impl FnOnce(SocketAddr) -> Result<()>) -> Result<()> {
    let listener = TcpListener::bind((options.bind, options.port)).await;
    let listener = listener.map_err(Error::io("listen on", format!("{}:{}", options.bind, options.port)))?;
    let address = listener.local_addr().map_err(Error::io("listen on", options.bind.to_string()))?;
    let config = SchedulerConfig {
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        external_host: options.host.clone().unwrap_or_else(|| host(address.ip())),
        // A cancelled job is only told to executors that are pushed to.
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        task_distribution: TaskDistributionPolicy::RoundRobin,
        executor_timeout_seconds: options.executor_timeout,
        expire_dead_executor_interval_seconds: CHECK_S,
        no_executors_grace_period_seconds: options.no_executors_timeout,
        task_max_failures: options.task_failures,
        grpc_server_max_decoding_message_size: MAX_MESSAGE as u32,
        grpc_server_max_encoding_message_size: MAX_MESSAGE as u32,
        grpc_client_max_message_size: MAX_MESSAGE as u32,
        override_session_builder: Some(Arc::new(session)),
        ..SchedulerConfig::default()
    };
    config.validate().map_err(Error::config)?;
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(failed)?;
    let codec = BallistaCodec::<LogicalPlanNode, PhysicalPlanNode>::new(
        Arc::new(BallistaLogicalExtensionCodec::default()),
        Arc::new(StageCodec::default()),
    );
    // As Ballista's `create_scheduler` does it, which takes no metrics of others.
    let queue = Arc::new(Queue::default());
    let endpoint = config.scheduler_endpoint();
    let mut scheduler = SchedulerServer::new(endpoint, cluster, codec, Arc::new(config), Arc::clone(&queue) as Arc<_>);
    queue.of(Arc::downgrade(&scheduler.state));
    scheduler.init().await.map_err(failed)?;
    ready(address)?;
    start_grpc_service_with_listener(listener, scheduler).await.map_err(failed)
}

/// An address as part of a URL.
fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::State(format!("the scheduler cannot go on: {error}"))
}

/// A session that can read plans, and nothing else.
fn session(config: SessionConfig) -> datafusion::error::Result<datafusion::execution::SessionState> {
    let runtime = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(Unread)).build_arc()?;
    Ok(SessionStateBuilder::new_from_existing(default_session_builder(config)?).with_runtime_env(runtime).build())
}
