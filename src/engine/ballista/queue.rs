//! How many tasks there are to do, for whatever starts and ends executors by it.
//!
//! Ballista serves what is told here under `/api/metrics`. Its own numbers are of jobs, and a run is one job, however long.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError, Weak};

use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_scheduler::metrics::SchedulerMetricsCollector;
use ballista_scheduler::state::SchedulerState;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};

type State = SchedulerState<LogicalPlanNode, PhysicalPlanNode>;

/// Of the text format of Prometheus.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The tasks of all jobs of a scheduler.
#[derive(Default)]
pub(super) struct Queue {
    /// Known once the scheduler is made, which is after it is given this.
    state: OnceLock<Weak<State>>,
    /// What was seen last: a job that is being changed is not waited for.
    seen: Mutex<HashMap<JobId, Tasks>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Tasks {
    waiting: usize,
    running: usize,
}

impl Queue {
    pub(super) fn of(&self, state: Weak<State>) {
        // A scheduler is made once.
        let _ = self.state.set(state);
    }

    fn tasks(&self) -> Tasks {
        let Some(state) = self.state.get().and_then(Weak::upgrade) else { return Tasks::default() };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs = state.task_manager.get_running_job_cache();
        *seen = jobs
            .iter()
            .map(|(id, job)| {
                let now = job.execution_graph.try_read().ok();
                let now = now.map(|job| Tasks { waiting: job.available_tasks(), running: job.running_tasks().len() });
                (id.clone(), now.or_else(|| seen.get(id).copied()).unwrap_or_default())
            })
            .collect();
        seen.values().fold(Tasks::default(), |sum, job| Tasks {
            waiting: sum.waiting + job.waiting,
            running: sum.running + job.running,
        })
    }
}

/// The metrics in the text format of Prometheus.
fn text(tasks: Tasks) -> String {
    let gauge = |name: &str, help: &str, value: usize| {
        format!("# HELP simdrop_{name} {help}\n# TYPE simdrop_{name} gauge\nsimdrop_{name} {value}\n")
    };
    [
        gauge(
            "open_tasks",
            "Tasks that wait or run, over all runs; a work unit is one.",
            tasks.waiting + tasks.running,
        ),
        gauge("running_tasks", "Tasks that run.", tasks.running),
    ]
    .concat()
}

impl SchedulerMetricsCollector for Queue {
    fn record_submitted(&self, _job_id: &JobId, _queued_at: u64, _submitted_at: u64) {}

    fn record_completed(&self, _job_id: &JobId, _queued_at: u64, _completed_at: u64) {}

    fn record_failed(&self, _job_id: &JobId, _queued_at: u64, _failed_at: u64) {}

    fn record_cancelled(&self, _job_id: &JobId) {}

    fn set_pending_tasks_queue_size(&self, _value: u64) {}

    fn gather_metrics(&self) -> Result<Option<(Vec<u8>, String)>> {
        Ok(Some((text(self.tasks()).into_bytes(), CONTENT_TYPE.to_owned())))
    }
}
