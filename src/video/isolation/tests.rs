//! The two sides over a socket in one process; what becomes of a process that crashes is tried by the integration tests.

use std::os::unix::net::UnixStream;

use super::client::WorkerPool;
use super::wire::{self, Reply, Request};
use super::*;
use crate::video::BytesSource;

#[test]
fn numbers_arrive_as_they_were_sent() {
    let request = Request::Plan {
        span: wire::ends((Some(0.1 + 0.2), Some(f64::INFINITY))),
        choice: (&Sampling { frames: Some(3), fps: Some(1.0 / 3.0), ..Sampling::ALL }).into(),
        targets: Vec::new(),
    };
    let mut sent = Vec::new();
    wire::send(&mut sent, &request).unwrap();
    assert_eq!(wire::receive::<Request>(&mut sent.as_slice()).unwrap(), request);
    assert_eq!(wire::span(wire::ends((Some(0.1 + 0.2), None))), (Some(0.1 + 0.2), None));
    let caps = Caps { max_duration_s: f64::INFINITY, ..Caps::default() };
    assert_eq!(Caps::from(wire::Limits::from(&caps)).max_duration_s, f64::INFINITY);
}

#[test]
fn a_length_is_checked_before_memory_is_taken() {
    let huge = [u32::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    let error = wire::receive::<Reply>(&mut huge.as_slice()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_worker_ends_with_its_input() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let end = Arc::clone(&ended);
    let worker = std::thread::spawn(move || {
        let end = move || end.store(true, std::sync::atomic::Ordering::Relaxed);
        worker::converse(theirs.try_clone().unwrap(), theirs, end)
    });
    drop(ours);
    // A Ready that nobody reads any more may be an error or not.
    let _ = worker.join().unwrap();
    for _ in 0..500 {
        if ended.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the end of the input went unnoticed");
}

#[test]
fn a_program_that_is_no_worker_is_the_machines_fault() {
    for program in ["/nowhere/simdrop", "/bin/true"] {
        let videos = Videos::isolated(WorkerPool::new(program, 0, 1));
        let error = videos.open(Box::new(BytesSource::new(vec![0; 10])), &Caps::default()).unwrap_err();
        assert!(error.ends_run(), "{error}");
        assert!(error.to_string().contains("isolation: none"), "{error}");
    }
}
