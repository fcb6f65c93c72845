//! The process that opens videos for another one: requests on standard input, answers on standard output.
//!
//! It ends itself as soon as its input ends, so none outlives the run that started it, whatever becomes of that.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};

use super::wire::{self, BLOCK, Reply, Request};
use super::{Outline, not_planned};
use crate::error::{Error, Result};
use crate::video::cut::cut_from;
use crate::video::{Caps, MediaSource, Pictures, Plan, Reader, Target, VideoError};

/// Opens videos until there is nobody left to ask for any; blocking. `memory` is what the process may take, in bytes
/// beyond what it has at the start; none for no limit.
pub fn serve(memory: Option<u64>) -> Result<()> {
    limit(memory).map_err(Error::io("limit", "the memory of a process"))?;
    let end = || {
        // At once, in the middle of whatever FFmpeg does.
        let _ = kill_process(getpid(), Signal::KILL);
    };
    let talk = || {
        // Without the buffers of the standard library, which look for the ends of lines.
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        converse(BufReader::new(input), output, end)
    };
    talk().map_err(Error::io("write", "to the process that asks"))
}

/// A crash must leave no image of the memory on the disk, and a video must not take all memory there is.
fn limit(memory: Option<u64>) -> io::Result<()> {
    let set = |resource, most: u64| {
        let maximum = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    set(Resource::Core, 0)?;
    if let Some(memory) = memory {
        set(Resource::As, memory.saturating_add(address_space()))?;
    }
    Ok(())
}

/// Bytes of address space that the process has by now.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(1 << 20) * 1024
}

/// Answers requests until `input` ends, then calls `end`, too.
pub(super) fn converse(
    mut input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    end: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        while let Ok(request) = next(&mut input)
            && sender.send(request).is_ok()
        {}
        drop(sender);
        end();
    });
    let mut output: Box<dyn Write + Send> = Box::new(output);
    wire::send(&mut output, &Reply::Ready)?;
    let link = Arc::new(Mutex::new(Link { requests, output }));
    let mut open = None;
    loop {
        let Some((request, _)) = lock(&link).next() else { return Ok(()) };
        let answer = match answer(request, &mut open, &link) {
            Ok(answer) => answer,
            Err(error) => Some((error.into(), Vec::new())),
        };
        let Some((reply, behind)) = answer else { continue };
        let mut link = lock(&link);
        wire::send(&mut link.output, &reply)?;
        for bytes in behind {
            link.output.write_all(&bytes)?;
        }
    }
}

/// The next request with the bytes behind it.
fn next(input: &mut impl Read) -> io::Result<(Request, Vec<u8>)> {
    let request = wire::receive(input)?;
    let mut behind = match request {
        Request::Bytes { length } => vec![0; length.min(BLOCK)],
        _ => Vec::new(),
    };
    input.read_exact(&mut behind)?;
    Ok((request, behind))
}

/// The connection to the process that asks.
struct Link {
    requests: Receiver<(Request, Vec<u8>)>,
    output: Box<dyn Write + Send>,
}

impl Link {
    fn next(&self) -> Option<(Request, Vec<u8>)> {
        self.requests.recv().ok()
    }
}

fn lock(link: &Arc<Mutex<Link>>) -> std::sync::MutexGuard<'_, Link> {
    link.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The video that is open, with what was planned of it.
struct Open {
    reader: Reader,
    plan: Option<(Plan, Vec<Target>)>,
}

/// A message and the bytes behind it; none where nothing is to be said.
type Answer = Option<(Reply, Vec<Vec<u8>>)>;

fn answer(request: Request, open: &mut Option<Open>, link: &Arc<Mutex<Link>>) -> Result<Answer, VideoError> {
    let plain = |reply: Reply| Ok(Some((reply, Vec::new())));
    let not_open = || VideoError::Ffmpeg { action: "read", message: "no video is open".to_owned() };
    match request {
        Request::Open { length, limits } => {
            *open = None;
            let source = AskingSource { link: Arc::clone(link), length, block: (0, Vec::new()) };
            let reader = Reader::open(Box::new(source), &Caps::from(limits))?;
            let info = reader.info().into();
            *open = Some(Open { reader, plan: None });
            plain(Reply::Opened { info })
        }
        Request::Duration => {
            let seconds = open.as_mut().ok_or_else(not_open)?.reader.duration_s()?;
            plain(Reply::Seconds { seconds: seconds.into() })
        }
        Request::Plan { span, choice, targets } => {
            let open = open.as_mut().ok_or_else(not_open)?;
            let plan = open.reader.plan(wire::span(span), &choice.into())?;
            let outline = Outline::of(&plan, &targets);
            open.plan = Some((plan, targets));
            plain(outline.into())
        }
        Request::Decode => {
            let Open { reader, plan } = open.as_mut().ok_or_else(not_open)?;
            let (plan, targets) = plan.as_ref().ok_or_else(not_planned)?;
            let pictures = reader.decode(plan, targets)?;
            let behind = pictures.into_iter().map(|Pictures { data, shape: _ }| data).collect();
            Ok(Some((Reply::Decoded, behind)))
        }
        Request::Cut { span, how, max_bytes } => {
            let reader = &mut open.as_mut().ok_or_else(not_open)?.reader;
            let bytes = cut_from(reader, wire::span(span), how, max_bytes)?;
            Ok(Some((Reply::Cut { length: bytes.len() }, vec![bytes])))
        }
        Request::Close => {
            *open = None;
            Ok(None)
        }
        // Of a video that was let go of since.
        Request::Bytes { .. } | Request::Unreadable { .. } => Ok(None),
    }
}

/// Bytes of a video that another process reads.
struct AskingSource {
    link: Arc<Mutex<Link>>,
    length: u64,
    /// What was read last, and from where.
    block: (u64, Vec<u8>),
}

impl std::fmt::Debug for AskingSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("AskingSource").field("length", &self.length).finish_non_exhaustive()
    }
}

impl MediaSource for AskingSource {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.length {
            return Ok(0);
        }
        let held = offset.checked_sub(self.block.0).and_then(|at| self.block.1.get(usize::try_from(at).ok()?..));
        if held.is_none_or(<[u8]>::is_empty) {
            let start = offset / BLOCK as u64 * BLOCK as u64;
            let bytes = self.ask(start, BLOCK.min((self.length - start) as usize))?;
            self.block = (start, bytes);
        }
        let rest = self.block.1.get((offset - self.block.0) as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl AskingSource {
    fn ask(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut link = lock(&self.link);
        wire::send(&mut link.output, &Reply::Read { offset, length })?;
        match link.next() {
            Some((Request::Bytes { .. }, bytes)) => Ok(bytes),
            Some((Request::Unreadable { message }, _)) => Err(io::Error::other(message)),
            _ => Err(io::Error::other("nobody answers")),
        }
    }
}
