//! The client of a scheduler: submits a plan, looks at how it gets on, and ends it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ballista_core::config::BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK;
use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use ballista_core::ids::new_instance_id;
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::execute_query_result::Result as Submitted;
use ballista_core::serde::protobuf::job_status::Status as JobState;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{CancelJobParams, ExecuteQueryParams, GetJobStatusParams, RemoveSessionParams};
use ballista_core::version;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::watch::ReceiptWatch;
use super::{Address, MAX_MESSAGE};
use crate::dataset::Receipt;
use crate::engine::{Pending, local};
use crate::error::{Error, Result};
use crate::plan::StageCodec;
use crate::progress::{ClusterView, Progress};
use crate::spec::Named;

/// Pause between two looks at a job.
const PAUSE: Duration = Duration::from_millis(250);
/// Pause between two looks at the executors.
const EXECUTORS_PAUSE: Duration = Duration::from_secs(2);
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for an answer, but to a plan, which takes time to read.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a scheduler that does not answer is asked again before it is taken for dead.
const TRIES: u32 = 3;

/// A cluster that a run has been admitted to.
#[derive(Debug)]
pub(in crate::engine) struct Cluster {
    address: Address,
    scheduler: SchedulerGrpcClient<Channel>,
    http: reqwest::Client,
    session: String,
    slots: usize,
    job: Mutex<Option<String>>,
    providers: Mutex<Named<String>>,
}

/// An executor, as the scheduler tells.
#[derive(Debug, Deserialize)]
struct Executor {
    specification: Specification,
}

#[derive(Debug, Deserialize)]
struct Specification {
    vcores: u32,
}

impl Address {
    /// Looks whether there is a scheduler, with executors.
    pub(in crate::engine) async fn join(&self, progress: &Progress) -> Result<Cluster> {
        let endpoint = Endpoint::from_shared(self.url()).map_err(Error::config)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ANSWER_TIMEOUT)
            .keep_alive_timeout(ANSWER_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(|error| {
            Error::State(format!(
                "no scheduler answers at df://{self} ({}); start one with `simdrop scheduler`, or look at the address",
                root_cause(&error)
            ))
        })?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
        let mut cluster = Cluster {
            address: self.clone(),
            scheduler: SchedulerGrpcClient::new(channel)
                .max_encoding_message_size(MAX_MESSAGE)
                .max_decoding_message_size(MAX_MESSAGE),
            http: http.map_err(Error::internal)?,
            session: new_instance_id(),
            slots: 0,
            job: Mutex::default(),
            providers: Mutex::default(),
        };
        let executors = cluster.executors().await?;
        if executors.executors == 0 {
            return Err(Error::State(format!(
                "the scheduler at df://{self} has no executors; start some with `simdrop executor --scheduler {self}`"
            )));
        }
        cluster.slots = executors.slots as usize;
        progress.show_cluster(executors);
        Ok(cluster)
    }
}

impl Cluster {
    /// Has the plan executed, until it is done or is to stop; the receipts of the units that are done.
    pub(in crate::engine) async fn execute(
        &self,
        work: &Pending<'_>,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Vec<Receipt>> {
        let job = self.submit(work).await?;
        let mut receipts = ReceiptWatch::new(work, progress);
        let (mut looked, mut most) = (Instant::now(), 0);
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.cancel().await;
                    return self.end(receipts).await;
                }
                () = tokio::time::sleep(PAUSE) => {}
            }
            match self.state(&job).await? {
                // What it finds is shown, and looked for again at the end.
                JobState::Queued(_) | JobState::Running(_) => {
                    if let Err(error) = receipts.look_now_and_then().await {
                        tracing::debug!("the receipts cannot be looked at for now: {error}");
                    }
                }
                JobState::Successful(_) => break,
                JobState::Failed(failed) => {
                    self.lose_job();
                    return Err(Error::State(format!(
                        "the cluster gave up: {}; what is done is kept: mend the cause and run the same command again",
                        readable(failed.error.trim())
                    )));
                }
            }
            if looked.elapsed() >= EXECUTORS_PAUSE {
                looked = Instant::now();
                self.look_at_executors(progress, &mut most).await;
            }
        }
        self.forget().await;
        self.end(receipts).await
    }

    async fn end(&self, mut receipts: ReceiptWatch<'_>) -> Result<Vec<Receipt>> {
        let all = receipts.all().await?;
        *self.providers.lock().unwrap_or_else(PoisonError::into_inner) = receipts.providers();
        Ok(all)
    }

    /// What the models ran on, as far as the tasks told.
    pub(in crate::engine) fn providers_used(&self) -> Named<String> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the job, if there is one: its tasks stop within moments.
    pub(in crate::engine) async fn cancel(&self) {
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(job_id) = job else { return };
        let mut scheduler = self.scheduler.clone();
        let cancelled = tokio::time::timeout(ANSWER_TIMEOUT, scheduler.cancel_job(CancelJobParams { job_id })).await;
        if !matches!(cancelled, Ok(Ok(_))) {
            tracing::warn!("the scheduler at df://{} could not be told to end the job", self.address);
        }
        self.forget().await;
    }

    /// The scheduler need not remember our session.
    async fn forget(&self) {
        let (mut scheduler, session_id) = (self.scheduler.clone(), self.session.clone());
        let asked = scheduler.remove_session(RemoveSessionParams { session_id });
        if !matches!(tokio::time::timeout(ANSWER_TIMEOUT, asked).await, Ok(Ok(_))) {
            tracing::debug!("the session {} was not removed", self.session);
        }
    }

    /// There is no job any more that could be ended.
    fn lose_job(&self) {
        self.job.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn submit(&self, work: &Pending<'_>) -> Result<String> {
        let mut bytes = Vec::new();
        PhysicalPlanNode::try_from_physical_plan(Arc::clone(work.plan), &StageCodec::default())?
            .try_encode(&mut bytes)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(Error::config(format!(
                "a plan over {} work units is too large for a scheduler; raise run.clips_per_unit",
                work.units.len()
            )));
        }
        let config = SessionConfig::new_with_ballista()
            .with_target_partitions(self.slots)
            .with_batch_size(local::BATCH_SIZE)
            .set_bool(local::WORK_STEALING, false)
            // From a mebibyte on the scheduler would cut the files of the units anew, and one task would get several units.
            .with_repartition_file_scans(false)
            // A failure costs one unit.
            .set_usize(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, 1)
            .with_ballista_job_name(&work.spec.name);
        let mut request = tonic::Request::new(ExecuteQueryParams {
            query: Some(Query::PhysicalPlan(bytes)),
            settings: config.to_key_value_pairs(),
            session_id: self.session.clone(),
            operation_id: new_instance_id(),
        });
        version::insert_version_header(request.metadata_mut());
        let answer = self.scheduler.clone().execute_query(request).await.map_err(|error| self.gone(&error))?;
        version::check_compatibility(
            Some(ballista_core::BALLISTA_VERSION),
            version::version_from_metadata(answer.metadata()),
        )
        .map_err(Error::State)?;
        match answer.into_inner().result {
            Some(Submitted::Success(success)) => {
                *self.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(success.job_id.clone());
                Ok(success.job_id)
            }
            refused => Err(Error::State(format!(
                "the scheduler at df://{} does not take the plan ({refused:?}); is it `simdrop scheduler`, of this version?",
                self.address
            ))),
        }
    }

    async fn state(&self, job: &str) -> Result<JobState> {
        let mut tries = 0;
        loop {
            tries += 1;
            let asked = GetJobStatusParams { job_id: job.to_owned() };
            let mut scheduler = self.scheduler.clone();
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, scheduler.get_job_status(asked)).await;
            let error = match answer {
                Ok(Ok(answer)) => {
                    return answer.into_inner().status.and_then(|status| status.status).ok_or_else(|| {
                        self.lose_job();
                        Error::State(format!(
                            "the scheduler at df://{} does not know this run any more: it was started anew; what is done is \
                             kept: run the same command again",
                            self.address
                        ))
                    });
                }
                Ok(Err(error)) => error,
                Err(_) => tonic::Status::deadline_exceeded("no answer"),
            };
            if tries >= TRIES {
                self.lose_job();
                return Err(self.gone(&error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn gone(&self, error: &tonic::Status) -> Error {
        Error::State(format!(
            "the scheduler at df://{} is gone ({}); what is done is kept: start it and run the same command again",
            self.address,
            error.message()
        ))
    }

    async fn executors(&self) -> Result<ClusterView> {
        let uri = format!("{}/api/executors", self.address.url());
        let failed = |error: reqwest::Error| {
            Error::State(format!(
                "the scheduler at df://{} does not tell its executors ({}); is it `simdrop scheduler`, with its REST interface?",
                self.address,
                root_cause(&error)
            ))
        };
        let answer = self.http.get(uri).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let executors: Vec<Executor> =
            serde_json::from_slice(&answer.bytes().await.map_err(failed)?).map_err(Error::internal)?;
        let slots = executors.iter().map(|executor| u64::from(executor.specification.vcores)).sum();
        Ok(ClusterView { executors: executors.len() as u64, slots, ..ClusterView::default() })
    }

    async fn look_at_executors(&self, progress: &Progress, most: &mut u64) {
        // A scheduler that is gone shows when it is asked for the job.
        let Ok(view) = self.executors().await else { return };
        if view.executors == 0 && *most > 0 {
            tracing::warn!("no executor is left; waiting for one");
        } else if view.executors < *most {
            tracing::warn!("an executor is gone, {} are left; its work units are done again", view.executors);
        }
        *most = view.executors;
        progress.show_cluster(view);
    }
}

/// What an executor said, out of what Ballista made of it; all of it where that is not found.
fn readable(error: &str) -> String {
    let said = error.split_once("Execution(\"").and_then(|(_, rest)| rest.rsplit_once("\")"));
    said.map_or_else(|| error.to_owned(), |(said, _)| said.replace("\\\"", "\"").replace("\\n", "\n"))
}

/// The last of the causes of an error, which says most.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn what_an_executor_said_is_found_in_what_ballista_says() {
        let error = "Job failed due to stage 1 failed: Task failed due to runtime execution error: \
                     DataFusionError(Execution(\"model a.onnx: no \\\"x\\\"; mend it\"))";
        assert_eq!(readable(error), "model a.onnx: no \"x\"; mend it");
        assert_eq!(readable("no executor is left"), "no executor is left");
    }
}
