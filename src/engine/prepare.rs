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
        Isolation::Process => context.with_videos(isolated(memory, threads(spec).max(2))?),
    }))
}

/// Opens videos in processes of their own, where `units` are run at once.
pub fn isolated(memory: usize, units: usize) -> Result<Videos> {
    // As many as the decode stages of the work units that run at once have clips in hand: starting one costs more than
    // reading a small clip.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = WorkerPool::of_this_program(memory as u64, 2 * cores * units);
    Ok(Videos::isolated(pool.map_err(Error::io("find", "the program itself"))?))
}

/// Hash of everything in the pipeline that changes what comes out, the content of the files that it names included.
pub fn fingerprint(spec: &PipelineSpec, storage: &Storage) -> Result<String> {
    spec::fingerprint(spec, files(spec, storage)?)
}

/// The files that the stages of a pipeline read, with the hashes of their content; blocking.
pub fn files(spec: &PipelineSpec, storage: &Storage) -> Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for (index, stage) in spec.stages.iter().enumerate() {
        for file in stage.files() {
            let path = storage.file(file).map_err(|error| error.at_stage(index))?;
            let mut reader = std::fs::File::open(path).map_err(|error| {
                Error::config(format!("stage {}: {file} cannot be opened: {error}", stage.name())).at_stage(index)
            })?;
            files.push((file.to_owned(), hash(&mut reader).map_err(Error::io("read", file))?));
        }
    }
    Ok(files)
}

/// Whether this machine has `files`, with the content that they have where a run was started; blocking.
pub fn check_files(files: &[(String, String)], storage: &Storage) -> Result<()> {
    for (file, expected) in files {
        let path = storage.file(file)?;
        let found = std::fs::File::open(&path).and_then(|mut reader| hash(&mut reader));
        let found = found.map_err(Error::io("read", &path))?;
        if found != *expected {
            return Err(Error::State(format!(
                "{} has another content than where the run was started: give every machine the same files, or name them \
                 in an object store",
                path.display()
            )));
        }
    }
    Ok(())
}

fn hash(reader: &mut std::fs::File) -> std::io::Result<String> {
    let mut hash = blake3::Hasher::new();
    std::io::copy(reader, &mut hash)?;
    Ok(hash.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_content_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), "one").unwrap();
        let storage = Storage::default().in_folder(folder.path().to_owned());
        let hash = |text: &str| vec![("model.onnx".to_owned(), blake3::hash(text.as_bytes()).to_hex().to_string())];
        check_files(&hash("one"), &storage).unwrap();
        let error = check_files(&hash("another"), &storage).unwrap_err().to_string();
        assert!(error.contains("model.onnx has another content"), "{error}");
    }
}
