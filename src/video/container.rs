//! Containers: which are read, and what their own headers tell without FFmpeg.

use super::MediaSource;

/// FFmpeg's demuxers that may be used. None of them opens another file on its own: no playlists, no `concat`, no image
/// sequences.
pub(super) const ALLOWED: &[&str] =
    &["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "flv", "ogg"];

/// What matters about a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// MP4 and QuickTime.
    Mov,
    /// Matroska and WebM.
    Matroska,
    /// AVI.
    Avi,
    /// Any other that is allowed.
    Other,
}

impl Container {
    /// The container of a demuxer; none where it is not allowed.
    pub(super) fn allowed(demuxer: &str) -> Option<Self> {
        ALLOWED.contains(&demuxer).then(|| match demuxer.split(',').next() {
            Some("mov") => Self::Mov,
            Some("matroska") => Self::Matroska,
            Some("avi") => Self::Avi,
            _ => Self::Other,
        })
    }

    /// Whether its header tells codec and size, so that no packet has to be decoded to learn them.
    pub(super) fn tells_all(self) -> bool {
        matches!(self, Self::Mov | Self::Matroska)
    }
}

fn read_exact(source: &mut dyn MediaSource, offset: u64, buffer: &mut [u8]) -> Option<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read_at(offset + filled as u64, &mut buffer[filled..]) {
            Ok(length) if length > 0 => filled += length,
            _ => return None,
        }
    }
    Some(())
}

/// What a file that FFmpeg does not know looks like.
pub(super) fn guess(source: &mut dyn MediaSource) -> String {
    let mut start = vec![0; usize::try_from(source.len()).unwrap_or(4096).min(4096)];
    if read_exact(source, 0, &mut start).is_none() {
        return "nothing that can be read".to_owned();
    }
    let text = std::str::from_utf8(&start).is_ok_or_cut() && !start.contains(&0);
    if text { "text".to_owned() } else { "unknown data".to_owned() }
}

trait OkOrCut {
    /// Valid, but for a character that the end of the buffer cuts through.
    fn is_ok_or_cut(&self) -> bool;
}

impl OkOrCut for Result<&str, std::str::Utf8Error> {
    fn is_ok_or_cut(&self) -> bool {
        self.as_ref().map_or_else(|error| error.error_len().is_none(), |_| true)
    }
}

/// Whether an MP4 has a box of this kind at the top level.
pub(super) fn has_box(source: &mut dyn MediaSource, kind: &[u8; 4]) -> bool {
    let (mut offset, length) = (0, source.len());
    for _ in 0..10_000 {
        let mut header = [0; 16];
        if offset + 8 > length || read_exact(source, offset, &mut header[..8]).is_none() {
            return false;
        }
        if &header[4..8] == kind {
            return true;
        }
        let size = u64::from(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        let size = match size {
            0 => return false,
            1 if read_exact(source, offset + 8, &mut header[8..]).is_some() => {
                u64::from_be_bytes(header[8..16].try_into().unwrap_or_default())
            }
            size => size,
        };
        if size < 8 {
            return false;
        }
        offset = offset.saturating_add(size);
    }
    false
}

/// Length of the file that its own header claims, where it claims one.
pub(super) fn claimed_length(source: &mut dyn MediaSource, container: Container) -> Option<u64> {
    let mut start = vec![0; usize::try_from(source.len()).ok()?.min(4096)];
    read_exact(source, 0, &mut start)?;
    match container {
        Container::Avi if start.starts_with(b"RIFF") => {
            let size = u32::from_le_bytes(start.get(4..8)?.try_into().ok()?);
            // Writers that could not seek back leave nothing or everything here.
            (size != 0 && size != u32::MAX).then(|| u64::from(size) + 8)
        }
        Container::Matroska => {
            let (_, id) = ebml_number(&start, false)?;
            let (header_size, size) = ebml_number(&start[id..], true)?;
            let segment = id + size + usize::try_from(header_size).ok()?;
            let (kind, id) = ebml_number(start.get(segment..)?, false)?;
            let (length, size) = ebml_number(start.get(segment + id..)?, true)?;
            let unknown = length == (1 << (7 * size)) - 1;
            (kind == 0x1853_8067 && !unknown).then(|| (segment + id + size) as u64 + length)
        }
        _ => None,
    }
}

/// A variable-size number of EBML, with or without its length marker, and the bytes that it takes.
fn ebml_number(bytes: &[u8], strip: bool) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let length = first.leading_zeros() as usize + 1;
    if length > 8 || bytes.len() < length {
        return None;
    }
    let mask = if strip { 0xff_u16 >> length } else { 0xff };
    let head = u64::from(first) & u64::from(mask);
    Some((bytes[1..length].iter().fold(head, |number, byte| number << 8 | u64::from(*byte)), length))
}
