//! What the stages measured on a cluster, back in the counters of a run.

use std::collections::{BTreeMap, BTreeSet};

use ballista_core::serde::protobuf::operator_metric::Metric;
use ballista_core::serde::protobuf::{JobStageMetrics, OperatorWithMetrics};

use crate::plan::sink_exec::{PROVIDER, STAGE};
use crate::plan::stage_exec::{BUSY, BYTES_OUT, DROPPED, FAILED, MEMORY_PEAK, ROWS_IN};
use crate::progress::Progress;
use crate::spec::StageSpec;

/// Counts what the operators of a job tell; the providers that the models ran on, by model.
pub(super) fn take(
    job: &[JobStageMetrics],
    stages: &[StageSpec],
    progress: &Progress,
) -> BTreeMap<String, BTreeSet<String>> {
    let operators = || job.iter().flat_map(|stage| &stage.operators);
    let of_type = |name: &'static str| operators().filter(move |operator| operator.operator_type == name);
    // They come from the root of the plan to its leaf.
    for ((index, stage), operator) in stages.iter().enumerate().rev().zip(of_type("StageExec")) {
        count(operator, index, stage.name(), stage.kind(), progress);
    }
    let mut providers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for sink in of_type("SinkExec") {
        count(sink, stages.len(), STAGE, STAGE, progress);
        for (name, _) in named(sink) {
            if let Some((provider, model)) = name.strip_prefix(PROVIDER).and_then(|rest| rest.split_once(' ')) {
                providers.entry(model.to_owned()).or_default().insert(provider.to_owned());
            }
        }
    }
    providers
}

fn count(operator: &OperatorWithMetrics, index: usize, name: &str, kind: &str, progress: &Progress) {
    let sum = |wanted: &str| named(operator).filter(|(name, _)| *name == wanted).map(|(_, value)| value).sum::<u64>();
    let counters = progress.stage(index, name, kind);
    let rows = usize::try_from(sum(ROWS_IN)).unwrap_or(usize::MAX);
    counters.enter(rows, false);
    counters.leave(rows, usize::try_from(sum(BYTES_OUT)).unwrap_or(usize::MAX), sum(BUSY));
    counters.settle(sum(DROPPED), sum(FAILED));
    counters.hold(named(operator).filter(|(name, _)| *name == MEMORY_PEAK).map(|(_, value)| value).max().unwrap_or(0));
}

/// The metrics that have a name of ours.
fn named(operator: &OperatorWithMetrics) -> impl Iterator<Item = (&str, u64)> {
    operator.metrics.iter().filter_map(|metric| match metric.metric.as_ref()? {
        Metric::Count(count) => Some((count.name.as_str(), count.value)),
        Metric::Gauge(gauge) => Some((gauge.name.as_str(), gauge.value)),
        Metric::Time(time) => Some((time.name.as_str(), time.value)),
        _ => None,
    })
}
