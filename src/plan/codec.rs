//! Our plan nodes on the wire: JSON of what they are made from.
//!
//! All others are Ballista's, whose codec is asked for them. The first byte tells the two apart: a JSON object begins with
//! `{`, which no message of Ballista's does (as the key of a field it would announce a group, which proto3 has not).

use std::sync::Arc;

use ballista_core::serde::BallistaPhysicalExtensionCodec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Deserialize, Serialize};

use super::{SinkExec, SinkSpec, StageExec, StageNode};
use crate::error::Error;

/// Encodes and decodes [`StageExec`] and [`SinkExec`], and what Ballista puts around them.
#[derive(Debug, Default)]
pub struct StageCodec {
    ballista: BallistaPhysicalExtensionCodec,
}

/// A node as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Node {
    Stage(StageNode),
    Sink(SinkSpec),
}

impl PhysicalExtensionCodec for StageCodec {
    fn try_decode(
        &self,
        bytes: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        task: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if bytes.first() != Some(&b'{') {
            return self.ballista.try_decode(bytes, inputs, task, converter);
        }
        let node = serde_json::from_slice(bytes).map_err(Error::internal)?;
        let input = inputs.first().ok_or_else(|| Error::internal("a plan node without an input"))?;
        Ok(match node {
            Node::Stage(node) => Arc::new(StageExec::new(node, Arc::clone(input))?),
            Node::Sink(spec) => Arc::new(SinkExec::new(spec, Arc::clone(input))),
        })
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        bytes: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let node = if let Some(stage) = node.downcast_ref::<StageExec>() {
            Node::Stage(stage.node().clone())
        } else if let Some(sink) = node.downcast_ref::<SinkExec>() {
            Node::Sink(sink.spec().clone())
        } else {
            return self.ballista.try_encode(node, bytes, converter);
        };
        serde_json::to_writer(bytes, &node).map_err(|error| Error::internal(error).into())
    }
}
