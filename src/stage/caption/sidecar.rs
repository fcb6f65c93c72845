//! Captions in files beside the clips.

use serde_json::Value;

use super::config::SidecarCaption;
use crate::error::{Error, Result};
use crate::storage::Storage;

/// Checks the settings of a sidecar.
pub(super) fn check(stage: &str, sidecar: &SidecarCaption) -> Result<()> {
    let extension = &sidecar.extension;
    let problem = if let Some(bare) = extension.strip_prefix('.') {
        format!("sidecar extension {extension} starts with a dot; write {bare}")
    } else if extension.is_empty() || extension.contains('/') {
        format!("sidecar extension {extension:?} is none; write txt or json")
    } else {
        return Ok(());
    };
    Err(Error::config(format!("stage {stage}: {problem}")))
}

/// The text beside the clip at `uri`: none where there is no sidecar or no text in it, the inner error where the
/// sidecar is unusable, the outer one where its storage is and another try may help.
pub(super) async fn read(
    storage: &Storage,
    uri: &str,
    sidecar: &SidecarCaption,
) -> Result<Result<Option<String>, String>> {
    let bytes = match bytes(storage, uri, &sidecar.extension).await? {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(Ok(None)),
        Err(problem) => return Ok(Err(problem)),
    };
    let file = beside(uri, &sidecar.extension);
    Ok(text(&bytes, sidecar).map_err(|problem| format!("caption file {file}: {problem}")))
}

/// The bytes of the file beside the clip at `uri`, in the same three ways.
pub(super) async fn bytes(
    storage: &Storage,
    uri: &str,
    extension: &str,
) -> Result<Result<Option<bytes::Bytes>, String>> {
    let location = match storage.locate(&beside(uri, extension)) {
        Ok(location) => location,
        Err(error) => return Ok(Err(format!("caption file: {error}"))),
    };
    match location.read_if_there().await {
        Ok(bytes) => Ok(Ok(bytes)),
        // A disk that refuses one file will refuse it again; a remote store may come back.
        Err(error) if error.is_transient() && location.local().is_none() => Err(error),
        Err(error) => Ok(Err(format!("caption file: {error}"))),
    }
}

fn text(bytes: &[u8], sidecar: &SidecarCaption) -> Result<Option<String>, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("it is no UTF-8 text: byte {} is wrong", error.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !sidecar.extension.to_ascii_lowercase().ends_with("json") {
        return Ok(Some(text.to_owned()));
    }
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no valid JSON: {error}"))?;
    let Value::Object(fields) = value else { return Err("it is no JSON object".to_owned()) };
    match fields.get(&sidecar.field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("field {} is {other}, text was expected", sidecar.field)),
    }
}

/// `uri` with another extension.
pub(crate) fn beside(uri: &str, extension: &str) -> String {
    let name = uri.rfind('/').map_or(0, |slash| slash + 1);
    let stem = uri[name..].rfind('.').filter(|dot| *dot > 0).map_or(uri.len(), |dot| name + dot);
    format!("{}.{extension}", &uri[..stem])
}

#[cfg(test)]
mod tests {
    use super::beside;

    #[test]
    fn the_extension_is_that_of_the_last_part() {
        assert_eq!(beside("a/run.mp4", "txt"), "a/run.txt");
        assert_eq!(beside("a.b/run", "txt"), "a.b/run.txt");
        assert_eq!(beside("a/run.x.mp4", "json"), "a/run.x.json");
        assert_eq!(beside("a/.hidden", "txt"), "a/.hidden.txt");
        assert_eq!(beside("run.mp4", "caption.txt"), "run.caption.txt");
    }
}
