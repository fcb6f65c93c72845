//! The rate of bare ONNX Runtime on ready batches: what [`super::session`] is measured against.

use std::borrow::Cow;
use std::path::Path;
use std::time::{Duration, Instant};

use ort::session::SessionInputValue;
use ort::value::Tensor;

use super::graph::{Element, Graph, TensorSpec};
use super::runtime;
use super::session::most_in_cache;
use crate::error::{Error, Result};
use crate::spec::{ModelsSpec, Provider};

/// Rows a second of a model on `threads` cores, in runs as large as a session's with this `batch`; none where the
/// graph leaves more than the batch axis open, so that there is nothing to make a batch of. Blocking.
pub fn rows_per_s(spec: &ModelsSpec, model: &str, batch: usize, threads: usize, time: Duration) -> Result<Option<f64>> {
    let providers = spec.require.as_ref().map_or(spec.providers.as_slice(), std::slice::from_ref);
    let load = || {
        let loaded = providers.iter().find_map(|provider| {
            let loaded = runtime::load(Path::new(model), *provider, spec.device).ok()?.ok()?;
            Some((loaded, *provider))
        });
        loaded.ok_or_else(|| Error::config(format!("model {model} could not be loaded")))
    };
    let (first, provider) = load()?;
    let graph = Graph::of(&first);
    if graph.inputs.iter().any(|input| input.dims.iter().skip(1).any(Option::is_none)) {
        return Ok(None);
    }
    let mut sessions = vec![first];
    // A GPU is filled by one run at a time.
    for _ in 1..if provider == Provider::Cpu { threads } else { 1 } {
        sessions.push(load()?.0);
    }
    // As large as the runs of a session are when there is plenty to do.
    let row = |input: &TensorSpec| input.row_dims().iter().flatten().product::<usize>() * input.element.bytes();
    let batch = graph.fixed_batch().unwrap_or_else(|| match provider {
        Provider::Cpu => most_in_cache(graph.inputs.iter().map(row).sum(), batch.max(2)),
        _ => batch,
    });
    let rates = std::thread::scope(|scope| {
        let graph = &graph;
        let runs: Vec<_> =
            sessions.iter_mut().map(|session| scope.spawn(move || rate(session, graph, batch, time))).collect();
        runs.into_iter().map(|run| run.join().unwrap_or_else(|_| Err("a run panicked".to_owned()))).collect::<Vec<_>>()
    });
    let rates = rates.into_iter().collect::<Result<Vec<f64>, String>>();
    let rates = rates.map_err(|message| Error::Model { model: model.to_owned(), message })?;
    Ok(Some(rates.iter().sum()))
}

/// Length of an axis of an input, where the graph says it. Blocking.
pub fn input_axis(model: &str, input: &str, axis: usize) -> Result<Option<usize>> {
    let loaded = runtime::load(Path::new(model), Provider::Cpu, 0)?;
    let loaded = loaded.map_err(|message| Error::Model { model: model.to_owned(), message })?;
    let graph = Graph::of(&loaded);
    Ok(graph.input(input).and_then(|(_, input)| input.dims.get(axis).copied().flatten()))
}

fn rate(session: &mut ort::session::Session, graph: &Graph, batch: usize, time: Duration) -> Result<f64, String> {
    let inputs = graph.inputs.iter().map(|input| {
        let shape: Vec<usize> = std::iter::once(batch).chain(input.dims.iter().skip(1).flatten().copied()).collect();
        let value = ready(&input.element, shape).map_err(|error| error.to_string())?;
        Ok((input.name.clone(), value))
    });
    let inputs = inputs.collect::<Result<Vec<_>, String>>()?;
    let mut run = || {
        let given: Vec<(Cow<'_, str>, SessionInputValue<'_>)> =
            inputs.iter().map(|(name, value)| (Cow::from(name.as_str()), SessionInputValue::from(value))).collect();
        session.run(given).map(drop).map_err(|error| error.to_string())
    };
    run()?;
    let (start, mut runs) = (Instant::now(), 0);
    while start.elapsed() < time {
        run()?;
        runs += 1;
    }
    Ok((runs * batch) as f64 / start.elapsed().as_secs_f64())
}

/// A tensor of values that are no special case for any kernel.
fn ready(element: &Element, shape: Vec<usize>) -> ort::Result<ort::value::DynValue> {
    let length: usize = shape.iter().product();
    let wave = |index: usize| ((index * 2_654_435_761) % 1000) as f32 / 1000.0 - 0.5;
    Ok(match element {
        Element::F32 => Tensor::from_array((shape, (0..length).map(wave).collect::<Vec<f32>>()))?.into_dyn(),
        Element::F16 => {
            let values = (0..length).map(|index| half::f16::from_f32(wave(index))).collect::<Vec<_>>();
            Tensor::from_array((shape, values))?.into_dyn()
        }
        Element::U8 => {
            Tensor::from_array((shape, (0..length).map(|index| index as u8).collect::<Vec<_>>()))?.into_dyn()
        }
        Element::I32 => Tensor::from_array((shape, vec![1_i32; length]))?.into_dyn(),
        Element::I64 | Element::Other(_) => Tensor::from_array((shape, vec![1_i64; length]))?.into_dyn(),
    })
}
