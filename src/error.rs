//! Errors: whose fault it is, and whether another try is worth it.

use std::fmt;

/// Result of everything that can end a run.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What ends a run. A fault of one clip is no error: it settles the clip's row (see [`crate::stage::Fate`]).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pipeline file or the call is wrong; nothing was run.
    #[error("{0}")]
    Config(String),
    /// The configuration has mistakes that are already rendered with file, line and column.
    #[error("{0}")]
    Diagnostics(String),
    /// A stage of the pipeline does not fit: its columns, its files or its models.
    #[error("{message}")]
    Stage {
        /// Place of the stage in the pipeline, from 0.
        index: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// A source of the pipeline cannot be listed.
    #[error("{message}")]
    Source {
        /// Place of the source in the pipeline, from 0.
        index: usize,
        /// What is wrong and what to do.
        message: String,
    },
    /// Storage did not do what was asked.
    #[error("{action} {uri}: {source}{}", storage_hint(.source))]
    Storage {
        /// What was tried, such as `read`.
        action: &'static str,
        /// Where.
        uri: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// A file of this machine could not be used.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, such as `open`.
        action: &'static str,
        /// Which file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A model could not be loaded or run.
    #[error("model {model}: {message}")]
    Model {
        /// The ONNX file.
        model: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// The dataset or the run cannot go on as things are.
    #[error("{0}")]
    State(String),
    /// The user stopped the run.
    #[error("stopped; run the same command again to go on")]
    Cancelled,
    /// DataFusion.
    #[error(transparent)]
    DataFusion(Box<datafusion::error::DataFusionError>),
    /// Arrow.
    #[error(transparent)]
    Arrow(#[from] arrow::error::ArrowError),
    /// Parquet.
    #[error(transparent)]
    Parquet(#[from] parquet::errors::ParquetError),
    /// A defect of simdrop.
    #[error("{0}; this is a defect of simdrop, please report it")]
    Internal(String),
}

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The configuration or the call: exit code 2.
    User,
    /// Storage, a device, a model, the run's state: exit code 1.
    Environment,
    /// simdrop itself: exit code 1.
    Simdrop,
}

impl Error {
    /// A configuration error.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::Config(message.to_string())
    }

    /// A defect of simdrop.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::Internal(message.to_string())
    }

    /// A storage error at `uri`.
    pub fn storage(action: &'static str, uri: impl fmt::Display) -> impl FnOnce(object_store::Error) -> Self {
        let uri = uri.to_string();
        move |source| Self::Storage { action, uri, source }
    }

    /// A file system error at `path`.
    pub fn io(action: &'static str, path: impl AsRef<std::path::Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().display().to_string();
        move |source| Self::Io { action, path, source }
    }

    /// This error, placed at a stage of the pipeline where it is about the configuration or a model of it.
    pub fn at_stage(self, index: usize) -> Self {
        match self {
            Self::Config(message) => Self::Stage { index, message },
            error @ Self::Model { .. } => Self::Stage { index, message: error.to_string() },
            other => other,
        }
    }

    /// This error, placed at a source of the pipeline where it is about the configuration.
    pub fn at_source(self, index: usize) -> Self {
        match self {
            Self::Config(message) => Self::Source { index, message },
            other => other,
        }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Config(_) | Self::Diagnostics(_) | Self::Stage { .. } | Self::Source { .. } => Blame::User,
            Self::Internal(_) => Blame::Simdrop,
            Self::DataFusion(error) => match error.find_root() {
                datafusion::error::DataFusionError::External(inner) => {
                    inner.downcast_ref::<Self>().map_or(Blame::Environment, Self::blame)
                }
                _ => Blame::Environment,
            },
            _ => Blame::Environment,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Storage { source, .. } => matches!(source, object_store::Error::Generic { .. }),
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::Interrupted | std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock
            ),
            Self::DataFusion(error) => is_of_store(error.as_ref()),
            Self::Parquet(error) => is_of_store(error),
            _ => false,
        }
    }

    /// Exit code of the program.
    pub fn exit_code(&self) -> u8 {
        if self.blame() == Blame::User { 2 } else { 1 }
    }
}

/// Whether a store's passing fault is behind an error.
fn is_of_store(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| matches!(error.downcast_ref::<object_store::Error>(), Some(object_store::Error::Generic { .. })))
}

/// What to do about a store that refuses.
fn storage_hint(error: &object_store::Error) -> &'static str {
    let text = error.to_string();
    let is_refused =
        matches!(error, object_store::Error::Unauthenticated { .. } | object_store::Error::PermissionDenied { .. });
    // Where a machine of that cloud would tell its role: the last place that is asked.
    if text.contains("computeMetadata") {
        "; no credentials were found: set GOOGLE_APPLICATION_CREDENTIALS, or storage.anonymous for a public bucket"
    } else if text.contains("metadata/identity") {
        "; no credentials were found: set AZURE_STORAGE_ACCOUNT_KEY, or storage.anonymous for a public container"
    } else if text.contains("169.254.169.254") {
        "; no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or storage.anonymous for a public bucket"
    } else if is_refused || text.contains("403 Forbidden") || text.contains("401 Unauthorized") {
        "; look at the credentials in the environment and at what they may do"
    } else {
        ""
    }
}

impl From<datafusion::error::DataFusionError> for Error {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        use datafusion::error::DataFusionError;
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(own) => *own,
                Err(other) => Self::DataFusion(Box::new(DataFusionError::External(other))),
            },
            other => Self::DataFusion(Box::new(other)),
        }
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    /// Transient faults become `IoError`, the only kind that Ballista tries again.
    fn from(error: Error) -> Self {
        match error {
            Error::DataFusion(inner) if matches!(*inner, Self::IoError(_)) => *inner,
            error if error.is_transient() => Self::IoError(std::io::Error::other(error)),
            Error::DataFusion(inner) => *inner,
            error => Self::External(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_credentials_are_those_of_the_store_that_was_asked() {
        for (address, named) in [
            ("http://169.254.169.254/latest/api/token", "AWS_ACCESS_KEY_ID"),
            ("http://169.254.169.254/metadata/identity/oauth2/token", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("http://169.254.169.254/computeMetadata/v1/instance", "GOOGLE_APPLICATION_CREDENTIALS"),
        ] {
            let source = object_store::Error::Generic { store: "test", source: format!("GET {address}").into() };
            let text = Error::storage("read", "x://y")(source).to_string();
            assert!(text.contains(named), "{text}");
        }
    }
}
