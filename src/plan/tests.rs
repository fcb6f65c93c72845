use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use proptest::prelude::*;

use super::*;
use crate::schema;
use crate::stage::{ClipBatch, Limits};

/// A batch in which row i has size i, and is settled where `settled` says so.
fn batch(settled: &[bool]) -> ClipBatch {
    let rows = settled.len();
    let same = |text: &str| Arc::new(StringArray::from(vec![text; rows])) as ArrayRef;
    let fates = settled.iter().map(|settled| settled.then_some("dropped"));
    let columns = vec![
        (schema::UNIT, same("u")),
        (schema::CLIP_ID, same("c")),
        (schema::URI, Arc::new(StringArray::from_iter_values((0..rows).map(|row| "x".repeat(row % 50)))) as ArrayRef),
        (schema::SOURCE, same("real")),
        (schema::DATASET, same("d")),
        (schema::SIZE_BYTES, Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef),
        (schema::FATE, Arc::new(StringArray::from_iter(fates)) as ArrayRef),
    ];
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows));
    let empty = RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::empty()), vec![], &options);
    ClipBatch::new(empty.unwrap()).with_columns(&schema::clip_schema(), columns).unwrap()
}

proptest! {
    #[test]
    fn rechunking_keeps_every_row_in_order_and_within_bounds(
        settled in proptest::collection::vec(any::<bool>(), 0..200),
        rows in 1_usize..20,
        bytes in 1_usize..4000,
    ) {
        let clips = batch(&settled);
        let limits = Limits { rows, bytes, in_flight: 1 };
        let chunks = rechunk::chunks(&clips, &limits).unwrap();
        let mut order = Vec::new();
        for chunk in &chunks {
            for row in 0..chunk.clips.rows() {
                prop_assert_eq!(chunk.settled, chunk.clips.is_settled(row).unwrap());
                order.push(chunk.clips.long(schema::SIZE_BYTES).unwrap().value(row));
            }
            let many = chunk.clips.rows() > 1 && !chunk.settled;
            prop_assert!(!many || chunk.clips.rows() <= rows && rechunk::bytes(&chunk.clips) <= bytes);
        }
        prop_assert_eq!(order, (0..settled.len() as i64).collect::<Vec<_>>());
    }
}

/// One of every stage.
const SPEC: &str = r#"{
    "name": "all", "sources": [{"path": "clips", "kind": "real"}], "output": {"path": "out"},
    "stages": [
        {"split": {"length_s": 2.0}},
        {"decode": {"frames": 8, "width": 32, "height": 32, "also": [{"column": "large", "width": 224, "height": 224}]}},
        {"caption": {"from": [{"column": "uri"}, {"template": "{{ uri }}"}]}},
        {"model": {"model": "m.onnx", "inputs": [{"tensor": "image", "column": "large"}],
                   "outputs": [{"tensor": "embedding", "column": "embedding"}]}},
        {"score": {"models": {"clean": "c.onnx", "artefact": "a.onnx"},
                   "scores": {"simdrop_score": {"base": "clean", "reference": "artefact"}}}},
        {"filter": {"name": "large", "keep": "width >= 256"}},
        {"simdrop": {"threshold": 0.1, "only": "source = 'synthetic'"}}
    ]
}"#;

fn spec() -> crate::spec::PipelineSpec {
    serde_json::from_str(SPEC).unwrap()
}

fn plan() -> Arc<dyn ExecutionPlan> {
    let unit = ObjectMeta {
        location: "units/0123456789abcdef.parquet".into(),
        last_modified: chrono::DateTime::UNIX_EPOCH,
        size: 100,
        e_tag: None,
        version: None,
    };
    let root = crate::storage::Storage::default().locate("/out").unwrap();
    let files = vec![("m.onnx".to_owned(), "0123".to_owned())];
    let remote = RemoteSettings::new(&spec(), files).unwrap();
    build(&spec(), "fingerprint", &schema::clip_schema(), &root, vec![unit.clone(), unit], Some(remote)).unwrap()
}

fn text(plan: &Arc<dyn ExecutionPlan>) -> String {
    DisplayableExecutionPlan::new(plan.as_ref()).indent(true).to_string()
}

#[test]
fn every_stage_makes_the_round_trip_of_the_codec() {
    let plan = plan();
    let bytes = physical_plan_to_bytes_with_extension_codec(Arc::clone(&plan), &StageCodec::default()).unwrap();
    let task = SessionContext::new().task_ctx();
    let back = physical_plan_from_bytes_with_extension_codec(&bytes, &task, &StageCodec::default()).unwrap();
    assert_eq!(text(&plan), text(&back));
    for (before, after) in stages(&plan).iter().zip(stages(&back)) {
        assert_eq!(before.schema(), after.schema());
        let nodes = (before.downcast_ref::<StageExec>(), after.downcast_ref::<StageExec>());
        assert_eq!(nodes.0.map(StageExec::node), nodes.1.map(StageExec::node));
        let sinks = (before.downcast_ref::<SinkExec>(), after.downcast_ref::<SinkExec>());
        assert_eq!(sinks.0.map(SinkExec::spec), sinks.1.map(SinkExec::spec));
    }
}

#[test]
fn a_partition_is_named_after_the_file_of_its_unit() {
    assert_eq!(unit_of(&plan(), 1).unwrap(), "0123456789abcdef");
    assert!(unit_of(&plan(), 2).is_err());
}

#[test]
fn the_plan_is_a_chain_over_one_scan_with_a_partition_a_unit() {
    use datafusion::physical_plan::ExecutionPlanProperties;
    let plan = plan();
    let chain = stages(&plan);
    assert_eq!(chain.len(), spec().stages.len() + 2);
    assert_eq!(chain[0].name(), "DataSourceExec");
    assert_eq!(plan.output_partitioning().partition_count(), 2);
}

#[test]
fn a_stage_that_wants_a_column_too_early_is_named_with_its_place() {
    let mut spec = spec();
    spec.stages.rotate_left(5);
    let error = schemas(&spec, &schema::clip_schema()).unwrap_err();
    assert!(matches!(error, crate::error::Error::Stage { index: 1, .. }), "{error:?}");
    assert_eq!(error.exit_code(), 2);
}
