//! Captions from the elements of rendered scenes.

use serde::Deserialize;

use super::config::CompositionalCaption;
use super::sidecar;
use crate::error::Result;
use crate::render::caption::compose;
use crate::render::scene::CaptionParts;
use crate::storage::Storage;

/// Extension of the configuration beside a rendered clip.
pub(crate) const SCENE: &str = "scene.json";

/// What a configuration says that matters here.
#[derive(Debug, Deserialize)]
struct Elements {
    caption: CaptionParts,
}

/// The caption of the clip at `uri`, whose configuration is `scene` or lies beside it. The inner error is the clip's,
/// the outer one storage's.
pub(super) async fn read(
    storage: &Storage,
    uri: &str,
    scene: Option<&str>,
    settings: &CompositionalCaption,
) -> Result<Result<Option<String>, String>> {
    let beside;
    let scene = match scene {
        Some(scene) => scene,
        None => match sidecar::bytes(storage, uri, SCENE).await? {
            Ok(Some(bytes)) => {
                beside = bytes;
                match std::str::from_utf8(&beside) {
                    Ok(text) => text,
                    Err(error) => return Ok(Err(format!("scene: {error}"))),
                }
            }
            Ok(None) => return Ok(Ok(None)),
            Err(problem) => return Ok(Err(problem)),
        },
    };
    let elements = serde_json::from_str::<Elements>(scene);
    Ok(elements
        .map(|elements| Some(compose(&elements.caption, &settings.leave_out)))
        .map_err(|error| format!("the scene has no phrases to make a caption of: {error}")))
}
