//! A WebDataset sample as tar: no I/O.
//!
//! Enters: a key and members (`mp4`, `txt`, `json`, …). Leaves: their headers, bytes and padding, as they stand in a
//! shard. Nothing depends on the machine, the user or the clock: the same sample is the same bytes.

use bytes::Bytes;

use crate::error::{Error, Result};

/// Tar is made of blocks of this many bytes.
pub const BLOCK: u64 = 512;

/// What ends a tar: two blocks of zeros.
pub const END: &[u8] = &[0; 2 * BLOCK as usize];

/// Zeros, to pad with.
static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// The headers in front of a member: one block, or more where the name is longer than 100 bytes.
///
/// # Errors
///
/// The key is empty or has a dot (WebDataset ends a key at the first one) or a slash.
pub fn header(key: &str, extension: &str, size: u64) -> Result<Bytes> {
    if !is_key(key) || extension.is_empty() || extension.contains(['/', '\\', '\0']) {
        return Err(Error::internal(format!("{key:?}.{extension} is no name of a sample's member")));
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    // The builder writes a long name in front where the header cannot hold it.
    let mut blocks = tar::Builder::new(Vec::with_capacity(3 * BLOCK as usize));
    blocks.append_data(&mut header, format!("{key}.{extension}"), std::io::empty()).map_err(Error::internal)?;
    let mut blocks = blocks.into_inner().map_err(Error::internal)?;
    blocks.truncate(blocks.len() - END.len());
    Ok(blocks.into())
}

/// The zeros behind `size` bytes of a member.
pub fn padding(size: u64) -> Bytes {
    Bytes::from_static(&ZEROS[..(size.next_multiple_of(BLOCK) - size) as usize])
}

/// A whole sample: for each member its extension and bytes.
///
/// ```
/// let bytes = simdrop::stage::shards::sample::encode_sample("clip", &[("txt", b"a cat".as_slice())])?;
/// assert_eq!(bytes.len(), 2 * 512);
/// # Ok::<(), simdrop::error::Error>(())
/// ```
///
/// # Errors
///
/// As [`header`].
pub fn encode_sample(key: &str, members: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let room = members.iter().map(|(_, data)| BLOCK + (data.len() as u64).next_multiple_of(BLOCK)).sum::<u64>();
    let mut sample = Vec::with_capacity(room as usize);
    for (extension, data) in members {
        let size = data.len() as u64;
        sample.extend_from_slice(&header(key, extension, size)?);
        sample.extend_from_slice(data);
        sample.extend_from_slice(&padding(size));
    }
    Ok(sample)
}

/// Whether a key is one that WebDataset reads as it stands, and that names no other folder: without dots and slashes.
fn is_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(['.', '/', '\\', '\0'])
}

/// Whether bytes begin with a member of the sample `key`; never where that is no key.
pub fn begins_sample(bytes: &[u8], key: &str) -> bool {
    if !is_key(key) {
        return false;
    }
    let Some(block) = bytes.first_chunk::<{ BLOCK as usize }>() else { return false };
    let header = tar::Header::from_byte_slice(block);
    // A name too long for the header stands in the block behind it.
    let name = match header.entry_type() {
        tar::EntryType::GNULongName => bytes[BLOCK as usize..].into(),
        _ => header.path_bytes(),
    };
    name.strip_prefix(key.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'.'))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::*;

    fn read_back(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
                assert_eq!(header.mode().unwrap(), 0o644);
                let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                let mut data = Vec::new();
                entry.read_to_end(&mut data).unwrap();
                (name, data)
            })
            .collect()
    }

    #[test]
    fn a_dot_in_the_key_is_refused() {
        assert!(encode_sample("a.b", &[("txt", b"")]).is_err());
        assert!(encode_sample("", &[("txt", b"")]).is_err());
        assert!(encode_sample("a/b", &[("txt", b"")]).is_err());
    }

    #[test]
    fn a_key_that_names_another_folder_begins_no_sample() {
        let mut archive = tar::Header::new_gnu();
        archive.as_gnu_mut().unwrap().name[..16].copy_from_slice(b"../../secret.txt");
        let block = archive.as_bytes();
        for key in ["../../secret", "", ".", "../..", "secret"] {
            assert!(!begins_sample(block, key), "{key:?}");
        }
        for key in ["..", "../../secret", "/etc/passwd", "a\\b", "a\0b"] {
            assert!(encode_sample(key, &[("txt", b"")]).is_err(), "{key:?}");
        }
    }

    #[test]
    fn the_header_takes_the_size_of_what_is_streamed_later() {
        let header = header("clip", "mp4", 3 << 30).unwrap();
        let entry_size = tar::Header::from_byte_slice(header.first_chunk::<512>().unwrap()).entry_size().unwrap();
        assert_eq!(entry_size, 3 << 30);
    }

    proptest! {
        #[test]
        fn a_tar_reader_reads_the_members_back(
            samples in prop::collection::vec(
                ("[a-z0-9_-]{1,130}", prop::collection::vec(("[a-z0-9_]{1,20}([.]npy)?", prop::collection::vec(any::<u8>(), 0..1500)), 1..5)),
                0..5,
            ),
        ) {
            let mut shard = Vec::new();
            let mut expected = Vec::new();
            for (key, members) in &samples {
                let members: Vec<(&str, &[u8])> =
                    members.iter().map(|(extension, data)| (extension.as_str(), data.as_slice())).collect();
                let sample = encode_sample(key, &members).unwrap();
                prop_assert_eq!(sample.len() as u64 % BLOCK, 0);
                prop_assert!(begins_sample(&sample, key));
                let longer = format!("{key}x");
                prop_assert!(!begins_sample(&sample, &longer));
                shard.extend(sample);
                expected.extend(members.iter().map(|(extension, data)| (format!("{key}.{extension}"), data.to_vec())));
            }
            shard.extend_from_slice(END);
            prop_assert_eq!(read_back(&shard), expected);
        }
    }
}
