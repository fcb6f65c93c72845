//! Finds and loads ONNX Runtime, and builds sessions with an execution provider.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ort::environment::Environment;
use ort::ep;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::lock;
use crate::error::{Error, Result};
use crate::spec::Provider;

/// One a process, and for as long as the process: ONNX Runtime cannot be started a second time.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Names the shared library of ONNX Runtime.
const LIBRARY_VARIABLE: &str = "ORT_DYLIB_PATH";

/// Where `make setup` unpacks it.
const SETUP_FOLDER: &str = ".deps/onnxruntime";

/// Loads a model with one provider. The inner error says why this provider cannot be used with this model; the outer
/// one that no model can be loaded at all.
pub(super) fn load(path: &Path, provider: Provider, device: u32) -> Result<Result<Session, String>> {
    let environment = environment()?;
    let built = build(&environment, provider, device, 1).and_then(|mut builder| builder.commit_from_file(path));
    Ok(built.map_err(|error| error.message().trim().to_owned()))
}

/// [`load`] of bytes, on `threads` threads where the provider is the processor.
pub(super) fn load_bytes(
    bytes: &[u8],
    provider: Provider,
    device: u32,
    threads: usize,
) -> Result<Result<Session, String>> {
    let environment = environment()?;
    let built =
        build(&environment, provider, device, threads).and_then(|mut builder| builder.commit_from_memory(bytes));
    Ok(built.map_err(|error| error.message().trim().to_owned()))
}

fn build(environment: &Environment, provider: Provider, device: u32, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(environment)?.with_log_level(LogLevel::Warning)?;
    Ok(match provider {
        Provider::Cpu => on_cpu(builder, threads)?,
        Provider::Cuda => builder.with_execution_providers([cuda(device).error_on_failure()])?,
        Provider::Tensorrt => {
            builder.with_execution_providers([tensorrt(device).error_on_failure(), cuda(device).error_on_failure()])?
        }
    })
}

/// In a pipeline one thread a run and no spinning: cores are filled by several runs at once, each with a permit of the
/// [`crate::stage::context::CpuPool`], so that models and decoders do not fight over them. In a training all threads
/// work on one run, and decoders beside them.
fn on_cpu(builder: SessionBuilder, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = builder.with_intra_threads(threads)?.with_inter_threads(1)?;
    Ok(builder.with_intra_op_spinning(false)?.with_inter_op_spinning(false)?)
}

/// Full 32-bit arithmetic and no timing-based choice of kernels: a score is a small difference of two losses, and the
/// same on every run.
fn cuda(device: u32) -> ep::ExecutionProviderDispatch {
    ep::CUDA::default()
        .with_device_id(device.cast_signed())
        .with_tf32(false)
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
        .build()
}

/// Engines take minutes to build, so they are kept between runs.
fn tensorrt(device: u32) -> ep::ExecutionProviderDispatch {
    let provider = ep::TensorRT::default().with_device_id(device.cast_signed());
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from).or(home);
    let Some(folder) = cache.map(|cache| cache.join("simdrop/tensorrt")) else {
        return provider.build();
    };
    match std::fs::create_dir_all(&folder) {
        Ok(()) => {
            let provider = provider.with_engine_cache(true).with_engine_cache_path(folder.display());
            provider.with_timing_cache(true).with_timing_cache_path(folder.display()).build()
        }
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "TensorRT engines are not kept");
            provider.build()
        }
    }
}

fn environment() -> Result<Environment> {
    let mut environment = lock(&ENVIRONMENT);
    if let Some(environment) = environment.as_ref() {
        return Ok(environment.clone());
    }
    let library = find_library()?;
    let failed = |error: &dyn std::fmt::Display| {
        Error::config(format!(
            "ONNX Runtime could not be loaded from {}: {error}; run `make setup`, or set {LIBRARY_VARIABLE} to a \
             libonnxruntime.so of version 1.24 or newer",
            library.display()
        ))
    };
    let builder = ort::environment::init_from(&library).map_err(|error| failed(&error))?;
    // What is wrong comes back as an error value and is told once, by us; ONNX Runtime's own lines are for debugging.
    let logger = Arc::new(|level, _: &str, _: &str, _: &str, message: &str| match level {
        LogLevel::Fatal => tracing::error!(target: "onnxruntime", "{message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(target: "onnxruntime", "{message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", "{message}"),
    });
    let built = builder.with_telemetry(false).with_logger(logger).build().map_err(|error| failed(&error))?;
    built.set_log_level(LogLevel::Warning);
    *environment = Some(built.clone());
    Ok(built)
}

/// The library that the environment names, else the one that `make setup` unpacked beside the working directory or in
/// a folder above the program.
fn find_library() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return match path.is_file() {
            true => Ok(path),
            false => Err(Error::config(format!(
                "{LIBRARY_VARIABLE} is {}, where there is no file; run `make setup`, or set it to libonnxruntime.so",
                path.display()
            ))),
        };
    }
    let program = std::env::current_exe().unwrap_or_default();
    let folders = std::env::current_dir().into_iter().chain(program.ancestors().skip(1).map(Path::to_path_buf));
    folders.filter_map(|folder| library_in(&folder.join(SETUP_FOLDER))).next().ok_or_else(|| {
        Error::config(format!(
            "ONNX Runtime was not found; run `make setup`, or set {LIBRARY_VARIABLE} to the path of libonnxruntime.so"
        ))
    })
}

/// `libonnxruntime.so`, or the newest by name of those with a version.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("libonnxruntime.so")).max().map(|name| folder.join(name))
}
