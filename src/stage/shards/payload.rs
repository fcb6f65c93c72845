//! What a sample is made of: a clip's video, frames, caption and metadata.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, SchemaRef, UInt8Type};
use bytes::Bytes;
use object_store::{GetOptions, ObjectStore};

use super::config::{Cut, OutputSpec, Payload};
use super::describe;
use super::series::{Content, FileRange, Sample, WHOLE, read_fault};
use crate::error::{Error, Result};
use crate::schema;
use crate::stage::clips::{ClipFile, require_column};
use crate::stage::decode::fault;
use crate::stage::{ClipBatch, StageTask, frames};
use crate::storage::Location;
use crate::video::{self, StopSignal, VideoError};

/// Extensions of video files that stand in a sample under their own name; all others become `mp4`.
const EXTENSIONS: &[&str] = &["avi", "flv", "mkv", "mpeg", "mpg", "mts", "m2ts", "ogv", "ts", "webm", "wmv"];

/// Frames that cutting a clip holds at once: references of the decoder, and those and the lookahead of the encoder.
const FRAMES_HELD: usize = 40;

/// Most bytes of a cut-out span; it is held in memory until it is in its shard.
const LONGEST_CUT: usize = 1 << 30;

/// Makes the samples of a pipeline.
#[derive(Debug)]
pub(crate) struct SampleMaker {
    payload: Vec<Payload>,
    cut: Cut,
    /// Columns of frames.
    frames: Vec<String>,
    /// Columns of the metadata.
    described: Vec<usize>,
}

impl SampleMaker {
    /// Checks that the columns that `config` names are there.
    pub(crate) fn new(config: &OutputSpec, schema: &SchemaRef) -> Result<Self> {
        let mut payload = config.payload.clone();
        payload.dedup();
        let frames = if payload.contains(&Payload::Frames) { config.frames.clone() } else { Vec::new() };
        let mut extensions = Vec::new();
        for name in &frames {
            if !schema::is_frames(require_column("output", schema, name)?) {
                return Err(Error::config(format!("output: column {name} holds no frames")));
            }
            let extension = name.to_lowercase();
            if extensions.contains(&extension) || extension.contains(['/', '.']) {
                return Err(Error::config(format!(
                    "output: column {name} cannot be stored as {name}.npy: readers ignore case, and dots and slashes \
                     mean something else to them; give it another name"
                )));
            }
            extensions.push(extension);
        }
        Ok(Self { payload, cut: config.cut, frames, described: describe::columns(schema) })
    }

    /// The sample of a row; why it cannot be made, where it cannot.
    pub(crate) async fn make(&self, clips: &ClipBatch, row: usize, task: &StageTask) -> Result<Result<Sample, String>> {
        let mut members = Vec::with_capacity(3 + self.frames.len());
        if self.payload.contains(&Payload::Source) {
            match self.video(clips, row, task).await? {
                Ok(video) => members.push(video),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        for name in &self.frames {
            let Some((header, data)) = array_of_frames(clips, name, row)? else {
                return Ok(Err(format!("there are no frames in column {name}")));
            };
            members.push((format!("{}.npy", name.to_lowercase()), Content::Frames(header, data)));
        }
        let captions = clips.text(schema::CAPTION)?;
        // A null has no text in Arrow either.
        let caption = Bytes::copy_from_slice(captions.value(row).as_bytes());
        members.push(("txt".to_owned(), Content::Owned(caption)));
        let description = describe::describe(clips.batch(), &self.described, row)?;
        members.push(("json".to_owned(), Content::Owned(description.into())));
        Ok(Ok(Sample::Members { key: clips.text(schema::CLIP_ID)?.value(row).to_owned(), members }))
    }

    /// The encoded video of a row, and its extension.
    async fn video(
        &self,
        clips: &ClipBatch,
        row: usize,
        task: &StageTask,
    ) -> Result<Result<(String, Content), String>> {
        let ClipFile { uri, version, size } = clips.file(row)?;
        let location = match task.context().storage.locate(&uri) {
            Ok(location) => location,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let (start, end) = clips.span(row)?;
        if start.is_some() || end.is_some() {
            let workspace = task.context().workspace.take(cut_memory(clips, row)?).await?;
            let (how, stop) = (self.cut, task.context().cancel.clone());
            let caps = video::Caps { stop: StopSignal::new(move || stop.is_cancelled()), ..video::Caps::default() };
            let videos = task.context().videos.clone();
            let work = move || {
                let cut = cut(&videos, &location, version.as_deref(), (start, end), how, &caps);
                drop(workspace);
                cut
            };
            return match task.blocking(work).await? {
                Ok(bytes) => Ok(Ok(("mp4".to_owned(), Content::Owned(bytes)))),
                Err(error) => fault("output", error).map(Err),
            };
        }
        let extension = extension(&uri).to_owned();
        Ok(whole_file(location, version, size).await.map(|content| (extension, content)))
    }
}

/// A file's own bytes.
async fn whole_file(location: Location, version: Option<String>, listed: Option<i64>) -> Result<Content, String> {
    let store: &Arc<dyn ObjectStore> = location.store();
    let opened = store.get_opts(location.path(), GetOptions::default()).await.map_err(|error| read_fault(&error))?;
    let (size, etag) = (opened.meta.size, opened.meta.e_tag.clone());
    if size == 0 {
        return Err("the file is empty".to_owned());
    }
    if let Some(listed) = listed.filter(|&listed| listed != size as i64) {
        return Err(format!("the file changed: it had {listed} bytes when it was listed and has {size} now"));
    }
    if version.is_some_and(|version| !location.is_version(&opened.meta, &version)) {
        return Err(VideoError::Changed.to_string());
    }
    if size > WHOLE {
        return Ok(Content::File(FileRange { location, start: 0, end: size, etag }));
    }
    let bytes = opened.bytes().await.map_err(|error| read_fault(&error))?;
    if bytes.len() as u64 != size {
        return Err("the file changed while it was copied".to_owned());
    }
    Ok(Content::Owned(bytes))
}

/// Extension of a video in a sample.
fn extension(uri: &str) -> &'static str {
    let Some((_, given)) = uri.rsplit_once('.') else { return "mp4" };
    EXTENSIONS.iter().find(|known| known.eq_ignore_ascii_case(given)).copied().unwrap_or("mp4")
}

/// Bytes that a decoder and an encoder hold for a clip of this size, with the frames that they look ahead and back.
fn cut_memory(clips: &ClipBatch, row: usize) -> Result<usize> {
    let side = |name: &str| {
        let sides = clips.column(name)?.as_primitive::<Int32Type>();
        Ok::<_, Error>(if sides.is_valid(row) { usize::try_from(sides.value(row)).unwrap_or(0) } else { 1920 })
    };
    Ok(side(schema::WIDTH)? * side(schema::HEIGHT)? * 3 / 2 * FRAMES_HELD)
}

/// A span of a file as mp4; blocking.
fn cut(
    videos: &video::Videos,
    location: &Location,
    version: Option<&str>,
    span: video::Span,
    how: Cut,
    caps: &video::Caps,
) -> Result<Bytes, VideoError> {
    videos.open(video::open_source(location, version)?, caps)?.cut(span, how, LONGEST_CUT).map(Bytes::from)
}

/// Frames of a row as numpy stores them: the header of the file, and what follows it, not copied.
fn array_of_frames(clips: &ClipBatch, column: &str, row: usize) -> Result<Option<(Bytes, Bytes)>> {
    let array = clips.column(column)?;
    let Some(view) = frames::view(array, row)? else { return Ok(None) };
    let buffer = array.as_struct().column(0).as_list::<i32>().values().as_primitive::<UInt8Type>().values().inner();
    let from = view.data.as_ptr().addr() - buffer.as_ptr().addr();
    let data = Bytes::from_owner(SharedBuffer(buffer.slice_with_length(from, view.data.len())));
    Ok(Some((npy_header(&[view.frames, view.height, view.width, 3]), data)))
}

#[derive(Debug)]
struct SharedBuffer(arrow::buffer::Buffer);

impl AsRef<[u8]> for SharedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What stands in front of unsigned bytes in a `.npy` file, format 1.0 (numpy.lib.format).
fn npy_header(shape: &[usize]) -> Bytes {
    let shape = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version and length take 10 bytes; the data begins at a multiple of 64, behind a line feed.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.push_str(&" ".repeat(padded - text.len() - 1));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&(padded as u16).to_le_bytes());
    header.extend_from_slice(text.as_bytes());
    header.into()
}

#[cfg(test)]
mod tests {
    use ndarray_npy::ReadNpyExt;

    use super::*;

    #[test]
    fn names_of_videos_keep_their_container() {
        for (uri, expected) in [
            ("a/b.MKV", "mkv"),
            ("b.mov", "mp4"),
            ("b.webm", "webm"),
            ("b", "mp4"),
            ("b.json", "mp4"),
            ("x.y/b", "mp4"),
        ] {
            assert_eq!(extension(uri), expected, "{uri}");
        }
    }

    #[test]
    fn numpy_headers_are_read_back() {
        let mut file = npy_header(&[2, 3, 4, 3]).to_vec();
        assert_eq!(file.len() % 64, 0);
        file.extend(0..72);
        let array = ndarray::Array4::<u8>::read_npy(file.as_slice()).unwrap();
        assert_eq!(array.shape(), [2, 3, 4, 3]);
        assert_eq!(array[[1, 2, 3, 2]], 71);
    }
}
