//! What a run, a validation and a benchmark have in common: sizes of the machine, shared resources, fingerprint.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::ModelRegistry;
use crate::spec::{self, PipelineSpec};
use crate::stage::StageContext;
use crate::stage::context::CpuPool;
use crate::storage::Storage;
use crate::video::{Isolation, Videos, WorkerPool};

/// CPU-bound tasks at once.
pub fn threads(spec: &PipelineSpec) -> usize {
    spec.run.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Most bytes for clips in flight and decoders.
pub fn memory_limit(spec: &PipelineSpec) -> usize {
    spec.run.memory_limit.map_or_else(|| total_memory() / 4, |limit| usize::try_from(limit.0).unwrap_or(usize::MAX))
}

/// Memory of this machine in bytes, or of the control group that holds this process where that is less.
pub fn total_memory() -> usize {
    let line = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<usize>().ok()
    };
    let machine = line("/proc/meminfo", "MemTotal:").map_or(4 << 30, |kib| kib * 1024);
    let group = line("/sys/fs/cgroup/memory.max", "").unwrap_or(usize::MAX);
    machine.min(group)
}

/// Most resident memory of this process so far in bytes.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// What the operators of a run share.
pub fn context(spec: &PipelineSpec) -> Result<Arc<StageContext>> {
    let cpu = CpuPool::new(threads(spec));
    let storage = Storage::new(&spec.storage);
    let models = Arc::new(ModelRegistry::new(&spec.models, cpu.clone()).with_storage(&storage));
    let memory = memory_limit(spec);
    let context = StageContext::new(storage, models, cpu, memory);
    Ok(Arc::new(match spec.run.isolation {
        Isolation::None => context,
        Isolation::Process => {
            // As many as the decode stages of the work units that run at once have clips in hand: starting one costs more
            // than reading a small clip.
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let pool = WorkerPool::of_this_program(memory as u64, 2 * cores * threads(spec).max(2));
            context.with_videos(Videos::isolated(pool.map_err(Error::io("find", "the program itself"))?))
        }
    }))
}

/// Hash of everything in the pipeline that changes what comes out, the content of the files that it names included.
pub fn fingerprint(spec: &PipelineSpec, storage: &Storage) -> Result<String> {
    let mut files = Vec::new();
    for (index, stage) in spec.stages.iter().enumerate() {
        for file in stage.files() {
            let mut hash = blake3::Hasher::new();
            let path = storage.file(file).map_err(|error| error.at_stage(index))?;
            let mut reader = std::fs::File::open(path).map_err(|error| {
                Error::config(format!("stage {}: {file} cannot be opened: {error}", stage.name())).at_stage(index)
            })?;
            std::io::copy(&mut reader, &mut hash).map_err(Error::io("read", file))?;
            files.push((file.to_owned(), hash.finalize().to_hex().to_string()));
        }
    }
    spec::fingerprint(spec, files)
}
