//! From what Blender left in a folder to a clip and its ground truth.

use std::path::Path;

use bytes::Bytes;

use super::elements::EnvironmentKind;
use super::scene::Scene;
use super::spec::{ClipFormat, ScenesOutput, TruthKind};
use super::truth::Truth;
use super::worker::Failure;
use crate::error::{Error, Result};
use crate::storage::Location;
use crate::video;

/// The files of a clip, by what follows its id in their names; the one that says that it is whole comes last.
#[derive(Debug)]
pub(super) struct Packed {
    id: String,
    files: Vec<(String, Bytes)>,
}

/// What follows a clip's id in the name of its configuration: where that file is, the clip is whole.
pub(super) const SCENE: &str = ".scene.json";

impl Packed {
    /// Writes the files; the configuration last, since it makes the clip count as rendered.
    pub(super) async fn store(self, root: &Location) -> Result<()> {
        for (suffix, bytes) in self.files {
            root.join(&format!("{}{suffix}", self.id)).write(bytes).await?;
        }
        Ok(())
    }
}

/// Reads, checks and packs a rendered scene; blocking. What is missing or wrong is a failure of the scene.
pub(super) fn pack(scene: &Scene, output: &ScenesOutput, folder: &Path) -> Result<Packed, Failure> {
    let frames = scene.render.frames as usize;
    let mut files = Vec::new();
    let text = read(&folder.join("truth.json"))?;
    let truth: Truth =
        serde_json::from_slice(&text).map_err(|error| failure(format!("the ground truth cannot be read: {error}")))?;
    if let Some(problem) = truth.problem(frames) {
        return Err(failure(problem));
    }
    let pictures = (0..frames)
        .map(|frame| picture(&folder.join(format!("frames/{frame:06}.png")), scene))
        .collect::<Result<Vec<_>, _>>()?;
    let size = (scene.render.width, scene.render.height);
    let encoding = video::Encoding { fps: scene.render.fps, crf: output.crf };
    let clip = video::encode(pictures.iter().map(Vec::as_slice), size, encoding)
        .map_err(|error| failure(format!("the clip cannot be encoded: {error}")))?;
    files.push((".mp4".to_owned(), Bytes::from(clip)));
    if output.format == ClipFormat::Png {
        for frame in 0..frames {
            let png = read(&folder.join(format!("frames/{frame:06}.png")))?;
            files.push((format!("/{frame:06}.png"), png.into()));
        }
    }
    for kind in &scene.truth {
        let name = match kind {
            TruthKind::Depth => "depth",
            TruthKind::Instances => "instances",
            TruthKind::Matte => "matte",
        };
        files.push((format!(".{name}.npy"), read(&folder.join(format!("{name}.npy")))?.into()));
    }
    if let Some(coco) = truth.coco(scene) {
        files.push((".keypoints.json".to_owned(), json(&coco)?));
    }
    files.push((".truth.json".to_owned(), json(&truth)?));
    files.push((SCENE.to_owned(), json(scene)?));
    Ok(Packed { id: scene.id.clone(), files })
}

fn json(value: &impl serde::Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| failure(error.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| failure(Error::io("read", path)(error).to_string()))
}

fn failure(message: String) -> Failure {
    Failure { kind: "output".to_owned(), message, ..Failure::default() }
}

/// RGB of a frame, row by row; what is transparent becomes black, as fill and key want it.
fn picture(path: &Path, scene: &Scene) -> Result<Vec<u8>, Failure> {
    let wrong = |what: String| failure(format!("frame {}: {what}", path.display()));
    let bytes = read(path)?;
    let mut reader =
        png::Decoder::new(std::io::Cursor::new(bytes)).read_info().map_err(|error| wrong(error.to_string()))?;
    let mut pixels = vec![0; reader.output_buffer_size().unwrap_or_default()];
    let info = reader.next_frame(&mut pixels).map_err(|error| wrong(error.to_string()))?;
    let wanted = (scene.render.width, scene.render.height);
    if (info.width, info.height) != wanted || info.bit_depth != png::BitDepth::Eight {
        return Err(wrong(format!("{}x{} was expected, with 8 bits, not {info:?}", wanted.0, wanted.1)));
    }
    pixels.truncate(info.buffer_size());
    match info.color_type {
        png::ColorType::Rgb => Ok(pixels),
        png::ColorType::Rgba if scene.environment.kind == EnvironmentKind::Empty => {
            let over_black = |pixel: &[u8]| {
                let alpha = u16::from(pixel[3]);
                [0, 1, 2].map(|part| ((u16::from(pixel[part]) * alpha + 127) / 255) as u8)
            };
            Ok(pixels.chunks_exact(4).flat_map(over_black).collect())
        }
        png::ColorType::Rgba => Ok(pixels.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()),
        other => Err(wrong(format!("RGB was expected, not {other:?}"))),
    }
}
