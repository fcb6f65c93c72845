//! Helpers of the stages' tests.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{Field, SchemaRef};

use crate::error::Result;
use crate::model::ModelRegistry;
use crate::schema;
use crate::spec::ModelsSpec;
use crate::stage::context::CpuPool;
use crate::stage::{ClipBatch, Stage, StageContext, StageTask};
use crate::storage::Storage;

/// A context with nothing in it.
pub(crate) fn context() -> Arc<StageContext> {
    let cpu = CpuPool::new(2);
    let models = Arc::new(ModelRegistry::new(&ModelsSpec::default(), cpu.clone()));
    Arc::new(StageContext::new(Storage::default(), models, cpu, 1 << 30))
}

/// Clips in flight with these columns; the required ones are made up where they are not given.
pub(crate) fn clips(columns: Vec<(&str, ArrayRef)>) -> ClipBatch {
    let rows = columns[0].1.len();
    let made = |text: &str| -> ArrayRef {
        Arc::new(StringArray::from((0..rows).map(|row| format!("{text}{row}")).collect::<Vec<_>>()))
    };
    let mut all: Vec<(&str, ArrayRef)> = [schema::UNIT, schema::CLIP_ID, schema::URI, schema::SOURCE, schema::DATASET]
        .map(|name| (name, made(name)))
        .into();
    all.retain(|(name, _)| columns.iter().all(|(given, _)| given != name));
    all.extend(columns);
    let fixed = schema::clip_schema();
    let new = all.iter().filter(|(name, _)| fixed.index_of(name).is_err());
    let schema =
        schema::with_fields(&fixed, new.map(|(name, array)| Field::new(*name, array.data_type().clone(), true)));
    let empty = ClipBatch::new(
        arrow::record_batch::RecordBatch::try_new_with_options(
            Arc::new(arrow::datatypes::Schema::empty()),
            Vec::new(),
            &arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows)),
        )
        .unwrap(),
    );
    empty.with_columns(&schema, all).unwrap()
}

/// What `stage` makes of `clips`.
pub(crate) async fn process(stage: &dyn Stage, clips: ClipBatch) -> Result<ClipBatch> {
    let context = context();
    let input: SchemaRef = clips.batch().schema();
    assert_eq!(stage.output_schema(&input)?, input, "these stages add no column");
    let operator = stage.open(&context, &input)?;
    operator.process(clips, &StageTask::alone(context)).await
}

/// `fate: reason (value)` of every row; empty for a clip in flight.
pub(crate) fn fates(clips: &ClipBatch) -> Vec<String> {
    use arrow::array::Array;
    let text = |name: &str, row: usize| {
        let array = clips.text(name).unwrap();
        if array.is_valid(row) { array.value(row).to_owned() } else { String::new() }
    };
    let values = clips.real(schema::FATE_VALUE).unwrap();
    (0..clips.rows())
        .map(|row| {
            let fate = text(schema::FATE, row);
            let value = if values.is_valid(row) { format!(" ({})", values.value(row)) } else { String::new() };
            if fate.is_empty() { fate } else { format!("{fate}: {}{value}", text(schema::FATE_REASON, row)) }
        })
        .collect()
}
