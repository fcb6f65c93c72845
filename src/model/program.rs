//! Graphs that work on a state: tensors that stay on the device from run to run.
//!
//! Enters: a graph such as a step of training, and a [`DeviceState`] with tensors by name. An input of the graph is fed
//! by the caller or taken from the state; an output named `<group>_out/<rest>` replaces `<group>/<rest>` in the state,
//! the others are given back. So the state of a training never leaves the device between checkpoints.

use std::collections::BTreeMap;
use std::fmt::Debug;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::value::{DynTensor, DynTensorValueType, Tensor};

use super::graph::{Graph, TensorSpec};
use super::runtime;
use crate::error::{Error, Result};
use crate::spec::{ModelsSpec, Provider};

/// A tensor of 32-bit floating point numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its axes.
    pub dims: Vec<usize>,
    /// Its numbers.
    pub values: Vec<f32>,
}

impl Array {
    /// A tensor.
    pub fn new(dims: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Self { dims: dims.into(), values }
    }

    /// A tensor of one number, with one axis.
    pub fn number(value: f64) -> Self {
        Self::new([1], vec![value as f32])
    }
}

/// Tensors by name, on the device of the programs that use them.
#[derive(Default)]
pub struct DeviceState {
    values: BTreeMap<String, DynTensor>,
    /// Number of the GPU; none for the processor.
    gpu: Option<u32>,
}

impl Debug for DeviceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceState").field("tensors", &self.values.len()).finish()
    }
}

impl DeviceState {
    /// An empty state on the device of a program.
    pub fn beside(program: &Program) -> Self {
        Self { values: BTreeMap::new(), gpu: (program.provider != Provider::Cpu).then_some(program.device) }
    }

    /// Puts a tensor into the state.
    pub fn put(&mut self, name: &str, array: Array) -> Result<()> {
        let upload = || match self.gpu {
            Some(device) => tensor(array)?.to(AllocationDevice::CUDA, device.cast_signed()),
            None => tensor(array),
        };
        let value = upload().map_err(|error: ort::Error| Error::internal(format!("tensor {name}: {error}")))?;
        self.values.insert(name.to_owned(), value);
        Ok(())
    }

    /// A tensor of the state, copied to this machine's memory.
    pub fn get(&self, name: &str) -> Result<Array> {
        let value = self.values.get(name).ok_or_else(|| Error::internal(format!("the state has no tensor {name}")))?;
        array(value).map_err(|error| Error::internal(format!("tensor {name}: {error}")))
    }

    /// Names of the tensors that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.values.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }
}

/// A loaded graph.
#[derive(Debug)]
pub struct Program {
    model: String,
    session: ort::session::Session,
    graph: Graph,
    provider: Provider,
    device: u32,
}

impl Program {
    /// Loads the graph in `bytes` with the first provider that takes it, on `threads` threads where that is the
    /// processor; `model` is what messages call it. Blocking.
    pub fn load(spec: &ModelsSpec, model: &str, bytes: &[u8], threads: usize) -> Result<Self> {
        let mut loaded = None;
        super::first_provider(spec, model, |provider| {
            Ok(runtime::load_bytes(bytes, provider, spec.device, threads)?.map(|session| loaded = Some(session)))
        })
        .and_then(|provider| {
            let session = loaded.ok_or_else(|| Error::internal("a provider took a graph and left no session"))?;
            let graph = Graph::of(&session);
            Ok(Self { model: model.to_owned(), session, graph, provider, device: spec.device })
        })
    }

    /// The execution provider that runs it.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Its inputs and outputs.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// One run. `fed` are the inputs that are not in the state; returns the outputs that do not go into it, by name.
    pub fn run(&mut self, state: &mut DeviceState, fed: Vec<(&str, Array)>) -> Result<BTreeMap<String, Array>> {
        self.run_on(state, fed, &str::to_owned)
    }

    /// [`Self::run`], with inputs that are in the state under other names: those that `named` gives them.
    pub fn run_on(
        &mut self,
        state: &mut DeviceState,
        fed: Vec<(&str, Array)>,
        named: &dyn Fn(&str) -> String,
    ) -> Result<BTreeMap<String, Array>> {
        let model = self.model.clone();
        self.run_bound(state, fed, named).map_err(|error| match error {
            Fault::Ort(error) => Error::Model { model, message: error.message().trim().to_owned() },
            Fault::Missing(name) => Error::internal(format!("graph {model}: nobody gives its input {name}")),
        })
    }

    fn run_bound(
        &mut self,
        state: &mut DeviceState,
        fed: Vec<(&str, Array)>,
        named: &dyn Fn(&str) -> String,
    ) -> Result<BTreeMap<String, Array>, Fault> {
        let mut binding = self.session.create_binding()?;
        let mut fed: BTreeMap<&str, DynTensor> =
            fed.into_iter().map(|(name, array)| Ok((name, tensor(array)?))).collect::<ort::Result<_>>()?;
        for input in &self.graph.inputs {
            match fed.remove(input.name.as_str()) {
                Some(value) => binding.bind_input(input.name.as_str(), &value)?,
                None => {
                    let value = state.values.get(&named(&input.name));
                    let value = value.ok_or_else(|| Fault::Missing(input.name.clone()))?;
                    binding.bind_input(input.name.as_str(), value)?;
                }
            }
        }
        let (here, there) = (memory(Provider::Cpu, 0)?, memory(self.provider, self.device)?);
        for output in &self.graph.outputs {
            let place = if carried(&output.name).is_some() { &there } else { &here };
            binding.bind_output_to_device(output.name.as_str(), place)?;
        }
        let mut outputs = self.session.run_binding(&binding)?;
        let mut given = BTreeMap::new();
        for TensorSpec { name, .. } in &self.graph.outputs {
            let value = outputs.remove(name).ok_or_else(|| Fault::Missing(name.clone()))?;
            let value = value.downcast::<DynTensorValueType>()?;
            match carried(name) {
                Some(kept) => drop(state.values.insert(kept, value)),
                None => drop(given.insert(name.clone(), array(&value)?)),
            }
        }
        Ok(given)
    }
}

enum Fault {
    Ort(ort::Error),
    Missing(String),
}

impl From<ort::Error> for Fault {
    fn from(error: ort::Error) -> Self {
        Self::Ort(error)
    }
}

/// Name in the state of an output that goes into it.
fn carried(output: &str) -> Option<String> {
    let (group, rest) = output.split_once('/')?;
    Some(format!("{}/{rest}", group.strip_suffix("_out")?))
}

fn tensor(array: Array) -> ort::Result<DynTensor> {
    Ok(Tensor::from_array((array.dims, array.values))?.upcast())
}

fn array(tensor: &DynTensor) -> ort::Result<Array> {
    let device = tensor.memory_info().allocation_device();
    let copied;
    let tensor = match device == AllocationDevice::CPU || device == AllocationDevice::CUDA_PINNED {
        true => tensor,
        false => {
            copied = tensor.to(AllocationDevice::CPU, 0)?;
            &copied
        }
    };
    let (shape, values) = tensor.try_extract_tensor::<f32>()?;
    Ok(Array { dims: shape.iter().map(|dim| *dim as usize).collect(), values: values.to_vec() })
}

fn memory(provider: Provider, device: u32) -> ort::Result<MemoryInfo<'static>> {
    match provider {
        Provider::Cpu => MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput),
        Provider::Cuda | Provider::Tensorrt => {
            MemoryInfo::new(AllocationDevice::CUDA, device.cast_signed(), AllocatorType::Device, MemoryType::Default)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_the_state_are_known_by_their_name() {
        assert_eq!(carried("params_out/a/b").as_deref(), Some("params/a/b"));
        assert_eq!(carried("loss"), None);
        assert_eq!(carried("params/a"), None);
    }
}
