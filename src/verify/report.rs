//! What a verification has found, for people and for machines.

use std::fmt::Write;

use bytesize::ByteSize;
use serde::Serialize;

use crate::dataset::{Counts, Dataset};

/// Findings of one file that are told one by one; the others are counted.
const TOLD: usize = 10;

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    /// Where the dataset is.
    pub dataset: String,
    /// Whether nothing is wrong.
    pub sound: bool,
    /// Number of its commits.
    pub version: u64,
    /// How many clips ended how, as `dataset.json` says.
    pub counts: Counts,
    /// Shards, those of dropped clips included.
    pub shards: u64,
    /// Metadata files.
    pub clips: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What could not be checked, and why.
    pub notes: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, relative to the dataset.
    pub file: String,
    /// Number of the row in the metadata file, from 1, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// The clip, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Verification {
    /// Number of files that something is wrong with.
    pub fn damaged_files(&self) -> usize {
        self.findings.chunk_by(|a, b| a.file == b.file).count()
    }

    /// What people read: the findings, a file at a time, or one line that all is well.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for of_file in self.findings.chunk_by(|a, b| a.file == b.file) {
            for Finding { file, row, clip, problem, remedy: _ } in of_file {
                let row = row.map_or_else(String::new, |row| format!(", row {row}"));
                let clip = clip.as_ref().map_or_else(String::new, |clip| format!(", clip {clip}"));
                text += &format!("{file}{row}{clip}: {problem}\n");
            }
            if let Some(last) = of_file.last() {
                text += &format!("  what to do: {}\n", last.remedy);
            }
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        let Counts { clips, kept, dropped, failed } = self.counts;
        let verdict = if self.sound { "sound" } else { "not sound" };
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "{} is {verdict}: version {}, {clips} clips ({kept} kept, {dropped} dropped, {failed} failed), {} shards, {} \
             metadata files; {} read in {:.1} s",
            self.dataset,
            self.version,
            self.shards,
            self.clips,
            ByteSize(self.bytes).display().si(),
            self.seconds
        );
        text
    }
}

/// What to do about the findings of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// `dataset.json` has to be written anew.
    Commit,
    /// The file is damaged: it has to be written anew.
    Anew,
    /// The file is not there: it has to be written anew.
    Missing,
    /// The file may go.
    Remove,
}

impl Remedy {
    fn text(self, dataset: &Dataset) -> String {
        let again = match &dataset.repacked {
            Some(repacked) => format!("repack {} into this folder again, with --overwrite", repacked.from),
            None => format!("run the pipeline `{}` into this folder again", dataset.pipeline.name),
        };
        let only = if dataset.repacked.is_some() { "" } else { ": only the work units that miss a file are done anew" };
        match self {
            Self::Commit => {
                format!("remove it and {again}{}", if only.is_empty() { "" } else { ", which writes it anew" })
            }
            Self::Anew => format!("remove it and {again}{only}"),
            Self::Missing => format!("{again}{only}"),
            Self::Remove => {
                "remove it, unless a run is writing to the dataset at this moment; no reader looks at it".to_owned()
            }
        }
    }
}

/// What is wrong with one file.
#[derive(Debug)]
pub(super) struct Findings {
    file: String,
    remedy: Remedy,
    told: Vec<(Option<u64>, Option<String>, String)>,
    untold: usize,
}

impl Findings {
    /// None so far.
    pub(super) fn new(file: &str, remedy: Remedy) -> Self {
        Self { file: file.to_owned(), remedy, told: Vec::new(), untold: 0 }
    }

    /// One finding alone.
    pub(super) fn missing(file: &str, problem: impl Into<String>) -> Self {
        let mut findings = Self::new(file, Remedy::Missing);
        findings.add(problem);
        findings
    }

    /// Something about the file as a whole.
    pub(super) fn add(&mut self, problem: impl Into<String>) {
        self.told.push((None, None, problem.into()));
    }

    /// Something about a row of the file.
    pub(super) fn row(&mut self, row: u64, clip: Option<&str>, problem: impl Into<String>) {
        self.tell(Some(row), clip, problem.into());
    }

    /// Something about a clip in the file.
    pub(super) fn clip(&mut self, clip: &str, problem: impl Into<String>) {
        self.tell(None, Some(clip), problem.into());
    }

    fn tell(&mut self, row: Option<u64>, clip: Option<&str>, problem: String) {
        if self.told.len() < TOLD {
            self.told.push((row, clip.map(str::to_owned), problem));
        } else {
            self.untold += 1;
        }
    }

    /// All of them, with what to do.
    pub(super) fn finish(self, dataset: &Dataset) -> Vec<Finding> {
        let Self { file, remedy, mut told, untold } = self;
        if untold > 0 {
            told.push((None, None, format!("{untold} more clips are wrong in the same file")));
        }
        let remedy = remedy.text(dataset);
        told.into_iter()
            .map(|(row, clip, problem)| Finding { file: file.clone(), row, clip, problem, remedy: remedy.clone() })
            .collect()
    }
}
