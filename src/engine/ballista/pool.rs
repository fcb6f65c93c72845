//! Connections to other executors, used again.
//!
//! Ballista has one of these and keeps it to itself. Without any, every file that a task fetches opens a connection, and a
//! run over thousands of work units runs out of ports.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;

/// A connection that nobody has used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

type Peer = (String, u16, GrpcClientConfig);
type Idle = HashMap<Peer, Vec<(Instant, BallistaClient)>>;

/// Idle connections, by the executor that they lead to.
#[derive(Clone, Default)]
pub(super) struct ConnectionPool {
    idle: Arc<Mutex<Idle>>,
}

impl std::fmt::Debug for ConnectionPool {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("ConnectionPool").finish_non_exhaustive()
    }
}

impl ConnectionPool {
    fn take(&self, peer: &Peer) -> Option<BallistaClient> {
        self.close_idle();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.get_mut(peer)?.pop().map(|(_, client)| client)
    }

    fn give_back(&self, peer: Peer, client: BallistaClient) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.entry(peer).or_default().push((Instant::now(), client));
    }

    fn close_idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, clients| {
            clients.retain(|(since, _)| since.elapsed() < IDLE);
            !clients.is_empty()
        });
    }
}

#[async_trait]
impl BallistaClientPool for ConnectionPool {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize_endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let peer = (host.to_owned(), port, config.clone());
        let client = match self.take(&peer) {
            Some(client) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    customize_endpoint,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let pool = self.clone();
        Ok(PooledClient::new(client, Box::new(move |client| pool.give_back(peer, client))))
    }

    async fn evict_idle(&self) {
        self.close_idle();
    }
}
