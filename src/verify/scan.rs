//! The samples in a tar, found while its bytes stream by: no I/O.
//!
//! Enters: a shard, in pieces of any length. Leaves: key, first byte and length of every sample, and where the bytes
//! are no tar. Behind such a place the scan goes on where the metadata says that a sample begins, so that one damaged
//! header does not hide what follows.

use crate::stage::shards::sample::{BLOCK, END};

/// Longest name of a member that is believed.
const LONGEST_NAME: u64 = 1 << 16;

/// A sample as it stands in a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// What a scan came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The samples, in order; those that are damaged are left out.
    pub(super) samples: Vec<Found>,
    /// Bytes at which there is no tar, and what is there instead.
    pub(super) problems: Vec<(u64, &'static str)>,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum State {
    /// A header, of which these bytes are there.
    Header(Vec<u8>),
    /// The content of a member and its padding, of which so many bytes are to come.
    Content(u64),
    /// The name of the next member: its length, its bytes, and how many bytes are to come, padding included.
    Name(usize, Vec<u8>, u64),
    /// Zeros to the end.
    End,
    /// Nothing that is understood, until this byte.
    Lost(u64),
}

/// Reads a shard as it streams by.
#[derive(Debug)]
pub(super) struct Scanner {
    at: u64,
    state: State,
    /// First byte of the member that is read, the header of its name included.
    member: u64,
    long_name: Option<Vec<u8>>,
    open: Option<Found>,
    /// Where samples should begin, the last one first.
    expected: Vec<u64>,
    zeros: u64,
    found: Scanned,
}

impl Scanner {
    /// A scan of a shard in which samples should begin at the `expected` bytes.
    pub(super) fn new(mut expected: Vec<u64>) -> Self {
        expected.sort_unstable_by(|a, b| b.cmp(a));
        Self {
            at: 0,
            state: State::Header(Vec::new()),
            member: 0,
            long_name: None,
            open: None,
            expected,
            zeros: 0,
            found: Scanned::default(),
        }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            self.at += taken as u64;
            bytes = &bytes[taken..];
        }
    }

    /// Takes some of the bytes, at least one; `at` still is that of the first.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let upto = |left: u64| usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        match &mut self.state {
            State::Content(left) => {
                let taken = upto(*left);
                *left -= taken as u64;
                if *left == 0 {
                    self.begin(self.at + taken as u64);
                }
                taken
            }
            State::Name(length, name, left) => {
                let taken = upto(*left);
                let wanted = (*length - name.len()).min(taken);
                name.extend_from_slice(&bytes[..wanted]);
                *left -= taken as u64;
                if *left == 0 {
                    let name = std::mem::take(name);
                    self.long_name = Some(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
                    self.state = State::Header(Vec::new());
                }
                taken
            }
            State::Header(block) => {
                let taken = upto(BLOCK - block.len() as u64);
                block.extend_from_slice(&bytes[..taken]);
                if block.len() as u64 == BLOCK {
                    let block = std::mem::take(block);
                    self.header(&block, self.at + taken as u64);
                }
                taken
            }
            State::End => {
                let taken = upto(BLOCK - self.at % BLOCK);
                if bytes[..taken].iter().any(|byte| *byte != 0) {
                    self.lose(self.at, self.at + taken as u64, "bytes follow the end of the tar");
                } else {
                    self.zeros += taken as u64;
                }
                taken
            }
            State::Lost(until) => {
                let taken = upto(*until - self.at);
                if self.at + taken as u64 == *until {
                    self.begin(self.at + taken as u64);
                }
                taken
            }
        }
    }

    /// A member begins at `at`, or the end.
    fn begin(&mut self, at: u64) {
        self.member = at;
        self.long_name = None;
        self.state = State::Header(Vec::new());
    }

    /// Reads a header that ends before byte `end`.
    fn header(&mut self, block: &[u8], end: u64) {
        if block.iter().all(|byte| *byte == 0) {
            self.close(self.member);
            if self.expected.first().is_some_and(|last| *last >= end) {
                return self.lose(self.member, end, "there are zeros where a header should be");
            }
            self.zeros = BLOCK;
            self.state = State::End;
            return;
        }
        let Some(block) = block.first_chunk::<{ BLOCK as usize }>() else { return };
        let header = tar::Header::from_byte_slice(block);
        // The sum is over the header with blanks in the place of the sum.
        let sum =
            block.iter().enumerate().map(|(at, byte)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte }));
        if header.cksum().ok() != Some(sum.sum()) {
            return self.lose(self.member, end, "there is no header of a tar");
        }
        let Ok(size) = header.entry_size() else { return self.lose(self.member, end, "a header has no size") };
        let stored = size.checked_next_multiple_of(BLOCK);
        let Some(stored) = stored else { return self.lose(self.member, end, "a header has no size") };
        match header.entry_type() {
            tar::EntryType::GNULongName if size > 0 && size <= LONGEST_NAME => {
                self.state = State::Name(size as usize, Vec::new(), stored);
            }
            tar::EntryType::Regular => {
                let name = self.long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
                self.name(&name);
                if stored == 0 {
                    self.begin(end);
                } else {
                    self.state = State::Content(stored);
                }
            }
            _ => self.lose(self.member, end, "there is a member that is no file"),
        }
    }

    /// A member of this name begins: it belongs to the sample before it, or begins another.
    fn name(&mut self, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        let key = name.split('.').next().unwrap_or_default();
        if self.open.as_ref().is_some_and(|open| open.key == key) {
            return;
        }
        let open = Found { key: key.to_owned(), offset: self.member, size: 0 };
        self.close(self.member);
        self.open = Some(open);
    }

    /// The sample that is open ends before byte `end`.
    fn close(&mut self, end: u64) {
        if let Some(open) = self.open.take() {
            self.found.samples.push(Found { size: end - open.offset, ..open });
        }
    }

    /// There is no tar at `at`; the scan is at byte `behind`, and goes on where the next sample should begin.
    fn lose(&mut self, at: u64, behind: u64, problem: &'static str) {
        self.found.problems.push((at, problem));
        // Where another sample should begin, the one before it has come to its end.
        if self.expected.contains(&at) {
            self.close(at);
        }
        self.open = None;
        while self.expected.last().is_some_and(|offset| *offset < behind) {
            self.expected.pop();
        }
        self.state = State::Lost(self.expected.last().copied().unwrap_or(u64::MAX));
    }

    /// What there was, now that no bytes follow.
    pub(super) fn finish(mut self) -> Scanned {
        match self.state {
            State::End if self.zeros < END.len() as u64 => {
                self.found.problems.push((self.at, "the end of the tar is cut off"));
            }
            State::End | State::Lost(_) => {}
            State::Header(_) | State::Content(_) | State::Name(..) => {
                self.found.problems.push((self.at, "the file ends before the tar does"));
            }
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::shards::sample::encode_sample;

    /// A key and its members.
    type Sample<'a> = (&'a str, &'a [(&'a str, &'a [u8])]);

    fn shard(samples: &[Sample<'_>]) -> (Vec<u8>, Vec<Found>) {
        let (mut bytes, mut found) = (Vec::new(), Vec::new());
        for (key, members) in samples {
            let sample = encode_sample(key, members).unwrap();
            found.push(Found { key: (*key).to_owned(), offset: bytes.len() as u64, size: sample.len() as u64 });
            bytes.extend(sample);
        }
        bytes.extend_from_slice(END);
        (bytes, found)
    }

    fn scan(bytes: &[u8], expected: &[Found], piece: usize) -> Scanned {
        let mut scanner = Scanner::new(expected.iter().map(|found| found.offset).collect());
        bytes.chunks(piece).for_each(|piece| scanner.feed(piece));
        scanner.finish()
    }

    fn three() -> (Vec<u8>, Vec<Found>) {
        let long = "k".repeat(130);
        shard(&[
            ("a", &[("mp4", &[7; 1300]), ("txt", b"")]),
            (&long, &[("mp4", b"x"), ("json", b"{}")]),
            ("c", &[("frames.npy", &[1; 512])]),
        ])
    }

    #[test]
    fn samples_are_found_whatever_the_pieces() {
        let (bytes, found) = three();
        for piece in [1, 7, 512, 700, 1 << 20] {
            assert_eq!(scan(&bytes, &found, piece), Scanned { samples: found.clone(), problems: Vec::new() });
        }
    }

    #[test]
    fn one_damaged_header_hides_one_sample() {
        let (mut bytes, found) = three();
        bytes[found[1].offset as usize + 3] ^= 1;
        let scanned = scan(&bytes, &found, 1000);
        assert_eq!(scanned.samples, [found[0].clone(), found[2].clone()]);
        assert_eq!(scanned.problems, [(found[1].offset, "there is no header of a tar")]);
    }

    #[test]
    fn a_header_of_zeros_is_no_end_while_samples_are_to_come() {
        let (mut bytes, found) = three();
        bytes[found[0].offset as usize..][..512].fill(0);
        let scanned = scan(&bytes, &found, 1000);
        assert_eq!(scanned.samples, found[1..]);
        assert_eq!(scanned.problems, [(0, "there are zeros where a header should be")]);
    }

    #[test]
    fn a_tar_that_is_cut_off_says_so() {
        let (bytes, found) = three();
        for left in [bytes.len() - 1, bytes.len() - 512, bytes.len() - 1024, 5000, 700, 100, 0] {
            let scanned = scan(&bytes[..left], &found, 1000);
            assert_eq!(scanned.problems.len(), 1, "{left}: {scanned:?}");
            assert_eq!(scanned.problems[0].0, left as u64);
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"more");
        assert_eq!(scan(&longer, &found, 1000).problems.len(), 1);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), flips in prop::collection::vec((0..5000_usize, any::<u8>()), 0..20), piece in 1..900_usize) {
            let (mut shard, found) = three();
            for (at, bits) in flips {
                let at = at % shard.len();
                shard[at] ^= bits;
            }
            scan(&shard, &found, piece);
            scan(&bytes, &found, piece);
        }
    }
}
