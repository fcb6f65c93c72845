//! Runs a plan on a cluster of Apache Ballista.
//!
//! Scheduling, retries and the exchange of tasks are Ballista's. Ours are: a client that submits the plan of the local
//! engine and looks at what happens ([`Cluster`]), a scheduler process that can read our plan nodes ([`serve`]), and an
//! executor process that gives every task what a run in one process has ([`join`]). What is done is known by the
//! receipts of the work units in storage; what comes back through Ballista is a hint.

mod address;
mod client;
mod contexts;
mod executor;
mod pool;
mod queue;
mod scheduler;
mod tasks;
mod unread;
mod watch;

pub use self::address::Address;
pub use self::executor::{ExecutorOptions, join};
pub use self::scheduler::{SchedulerOptions, serve};

/// Most bytes of one message between the processes: a plan over 100,000 work units has 25 MB.
const MAX_MESSAGE: usize = 256 << 20;
