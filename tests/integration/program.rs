//! Running the program on a folder of clips.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The root of the repository, which every call runs from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A call of the program.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simdrop"));
    command.args(args).current_dir(root()).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn simdrop(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails the test with what the program said.
#[track_caller]
pub(crate) fn expect_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", stdout(output), stderr(output));
}

/// A folder with a pipeline, its clips and its output.
pub(crate) struct Workplace {
    folder: tempfile::TempDir,
}

impl Workplace {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("clips")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Links a clip that the repository ships under another name.
    pub(crate) fn clip(&self, shipped: &str, name: &str) {
        std::os::unix::fs::symlink(root().join("data/clips/real").join(shipped), self.path("clips").join(name))
            .unwrap();
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path("clips").join(name), bytes).unwrap();
    }

    /// Writes a pipeline over the clips: `stages` and `rest` are YAML at the left margin.
    pub(crate) fn pipeline(&self, stages: &str, rest: &str) -> String {
        let yaml = format!(
            "name: test\nsources:\n  - path: {}\n    kind: synthetic\n    dataset: test\nstages:\n{stages}\n{rest}",
            self.path("clips/*").display()
        );
        let path = self.path("pipeline.yaml");
        std::fs::write(&path, yaml).unwrap();
        path.display().to_string()
    }

    /// Runs a pipeline into `output`, which is below this folder.
    pub(crate) fn run(&self, pipeline: &str, output: &str) -> Output {
        simdrop(&["run", pipeline, "--set", &format!("output.path={}", self.text(output)), "--progress", "none"])
    }

    /// The rows of a query.
    pub(crate) fn query(&self, output: &str, sql: &str) -> Vec<Value> {
        let made = simdrop(&["sql", &self.text(output), sql, "--format", "json"]);
        expect_code(&made, 0);
        serde_json::from_slice::<Vec<Value>>(&made.stdout).unwrap()
    }

    /// Names and hashes of the shards of a dataset.
    pub(crate) fn shards(&self, output: &str) -> BTreeMap<String, String> {
        let folder = self.path(output).join("shards");
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "tar"))
            .map(|entry| {
                let bytes = std::fs::read(entry.path()).unwrap();
                (entry.file_name().to_string_lossy().into_owned(), blake3::hash(&bytes).to_hex().to_string())
            })
            .collect()
    }
}

/// Decoding alone, small.
pub(crate) const DECODE: &str = "  - decode: {frames: 8, width: 32, height: 32}";

/// Decoding and the scores of the demo.
pub(crate) const SCORE: &str = "  - decode: {frames: 8, width: 32, height: 32}
  - score:
      models:
        clean: data/models/denoiser/denoiser-clean.onnx
        artefact: data/models/denoiser/denoiser-artefact.onnx
      scores:
        simdrop_score: {base: clean, reference: artefact}";

pub(crate) const OUTPUT: &str = "output: {path: unset}";
