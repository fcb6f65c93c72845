//! A store that answers badly: some of its requests are refused, cut, late, lost or lied about, and the dataset is the
//! same.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, ETAG, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use s3s::Body;
use s3s::service::S3Service;
use serde_json::Value;

use super::program::{DECODE, Workplace, command, expect_code, root, stderr};
use super::s3_server::S3Server;

type Hook = Box<dyn Fn() + Send>;
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Which answers are bad.
#[derive(Clone)]
pub(crate) struct Faults {
    /// Of a hundred requests so many.
    share: Arc<AtomicU64>,
    kinds: &'static [Fault],
    requests: Arc<AtomicU64>,
    counts: Arc<Mutex<BTreeMap<Fault, u64>>>,
    /// Called once, before the first video is read.
    before_read: Arc<Mutex<Option<Hook>>>,
    /// Whom to kill, and when.
    pub(crate) trap: Arc<Mutex<Option<Trap>>>,
    /// The next request of this method whose path has this part is refused.
    refused: Arc<Mutex<Option<(Method, &'static str)>>>,
}

/// Kills a program at an exact moment of what it asks of the store.
pub(crate) struct Trap {
    pub(crate) victim: std::process::Child,
    /// At the `number`th request of this method, from 1, whose path has this part.
    pub(crate) method: Method,
    pub(crate) part: &'static str,
    pub(crate) number: u64,
    /// The request is served first; the answer is lost.
    pub(crate) after: bool,
}

impl Trap {
    fn is_sprung(&mut self, request: &Request<Incoming>) -> bool {
        let is_meant = *request.method() == self.method && request.uri().path().contains(self.part) && self.number > 0;
        self.number -= u64::from(is_meant);
        is_meant && self.number == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// 500, nothing was done.
    Internal,
    /// 503 SlowDown, nothing was done.
    SlowDown,
    /// The connection ends, nothing was done.
    Reset,
    /// The connection ends, all was done.
    Lost,
    /// No answer for longer than the client waits.
    Stall,
    /// Half of the body, then the connection ends.
    Cut,
    /// The body comes in small pieces.
    Slow,
    /// The version of an object is another one than it has.
    WrongEtag,
    /// A video is never sent.
    Hang,
    /// The credentials have expired.
    Expired,
}

const ALL: &[Fault] = &[
    Fault::Internal,
    Fault::SlowDown,
    Fault::Reset,
    Fault::Lost,
    Fault::Stall,
    Fault::Cut,
    Fault::Slow,
    Fault::WrongEtag,
];

impl Faults {
    pub(crate) fn none() -> Self {
        Self::new(ALL)
    }

    fn new(kinds: &'static [Fault]) -> Self {
        Self {
            share: Arc::default(),
            kinds,
            requests: Arc::default(),
            counts: Arc::default(),
            before_read: Arc::default(),
            trap: Arc::default(),
            refused: Arc::default(),
        }
    }

    /// Answers 500 to the next request of this method whose path has this part.
    pub(crate) fn refuse_once(&self, method: Method, part: &'static str) {
        *self.refused.lock().unwrap() = Some((method, part));
    }

    /// Whether that request is still to come.
    pub(crate) fn is_to_refuse(&self) -> bool {
        self.refused.lock().unwrap().is_some()
    }

    fn is_refused(&self, request: &Request<Incoming>) -> bool {
        let is_meant =
            |(method, part): &mut (Method, &str)| request.method() == method && request.uri().path().contains(*part);
        self.refused.lock().unwrap().take_if(is_meant).is_some()
    }

    fn next(&self) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&number.to_le_bytes());
        let (chance, kind) = (u64::from(hash.as_bytes()[0]) * 100 / 256, usize::from(hash.as_bytes()[1]));
        (chance < self.share.load(Ordering::Relaxed)).then(|| self.kinds[kind % self.kinds.len()])
    }

    /// The service's answer, or a bad one.
    pub(crate) async fn answer(
        self,
        service: S3Service,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let is_video = request.uri().path().ends_with(".mp4");
        if is_video
            && request.method() == Method::GET
            && let Some(hook) = self.before_read.lock().unwrap().take()
        {
            hook();
        }
        let sprung = self.trap.lock().unwrap().as_mut().is_some_and(|trap| trap.is_sprung(&request));
        if sprung {
            if self.trap.lock().unwrap().as_ref().is_some_and(|trap| trap.after) {
                served(&service, request).await?;
            }
            if let Some(trap) = &mut *self.trap.lock().unwrap() {
                trap.victim.kill()?;
            }
            return Err("killed".into());
        }
        if self.is_refused(&request) {
            return refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        }
        let Some(fault) = self.next() else { return served(&service, request).await };
        *self.counts.lock().unwrap().entry(fault).or_default() += 1;
        let is_read = [Method::GET, Method::HEAD].contains(request.method());
        match fault {
            Fault::Internal => refused(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Fault::SlowDown => refused(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
            Fault::Expired => refused(StatusCode::BAD_REQUEST, "ExpiredToken"),
            Fault::Reset => Err("reset".into()),
            Fault::Lost => {
                served(&service, request).await?;
                Err("lost".into())
            }
            Fault::Stall => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Err("stalled".into())
            }
            Fault::Hang if is_video => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Err("hung".into())
            }
            Fault::WrongEtag if is_read => {
                let mut response = served(&service, request).await?;
                if response.headers().contains_key(ETAG) {
                    response.headers_mut().insert(ETAG, HeaderValue::from_static("\"another\""));
                }
                Ok(response)
            }
            Fault::Cut | Fault::Slow if is_read => {
                in_pieces(served(&service, request).await?, fault == Fault::Cut).await
            }
            _ => served(&service, request).await,
        }
    }
}

async fn served(service: &S3Service, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    Service::call(service, request).await.map_err(|error| format!("{error:?}").into())
}

fn refused(status: StatusCode, code: &str) -> Result<Response<Body>, Failure> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>try later</Message></Error>");
    Ok(Response::builder().status(status).body(Body::from(body))?)
}

/// The same body in pieces of some kilobytes; half of them, where it is cut.
async fn in_pieces(response: Response<Body>, is_cut: bool) -> Result<Response<Body>, Failure> {
    let (mut parts, body) = response.into_parts();
    let bytes = BodyExt::collect(body).await?.to_bytes();
    parts.headers.entry(CONTENT_LENGTH).or_insert(bytes.len().into());
    let most = if is_cut { bytes.len() / 2 } else { bytes.len() };
    let piece = bytes.len().div_ceil(8).max(1);
    let mut pieces: Vec<Result<Frame<Bytes>, Failure>> =
        (0..most).step_by(piece).map(|at| Ok(Frame::data(bytes.slice(at..(at + piece).min(most))))).collect();
    if is_cut {
        pieces.push(Err("cut".into()));
    }
    let pieces = futures::stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        piece
    });
    Ok(Response::from_parts(parts, Body::http_body_unsync(StreamBody::new(pieces))))
}

/// Shards by name with what is in them, and the rows, without what differs from run to run.
pub(crate) fn dataset(server: &S3Server, name: &str) -> (BTreeMap<String, blake3::Hash>, Vec<Value>) {
    let shards = std::fs::read_dir(server.path(name).join("shards")).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), blake3::hash(&std::fs::read(&path).unwrap()))
    });
    let sql = "select clip_id, uri, fate, fate_reason, shard, \"offset\", size from clips order by clip_id";
    let path = server.path(name).display().to_string();
    let made = command(&["sql", &path, sql, "--format", "json"]).output().unwrap();
    expect_code(&made, 0);
    let checked = command(&["verify", &path]).output().unwrap();
    expect_code(&checked, 0);
    (shards.collect(), serde_json::from_slice(&made.stdout).unwrap())
}

#[test]
fn a_fifth_of_bad_answers_changes_nothing() {
    let faults = Faults::new(ALL);
    let (server, place) = (S3Server::start_with(faults.clone()), Workplace::new());
    for (number, clip) in ["carphone.mp4", "bikes.mp4", "walkers.mp4"].iter().cycle().take(24).enumerate() {
        server.put(&format!("clips/{number:02}.mp4"), &root().join("data/clips/real").join(clip));
    }
    let run = |output: &str| {
        let yaml = format!(
            "name: test\nsources: [{{path: 's3://data/clips', kind: real}}]\nstages:\n{DECODE}\n\
             storage: {{timeout_s: 2, retries: 30}}\nrun: {{clips_per_unit: 2, memory_limit: 256MiB}}\n\
             output: {{path: 's3://data/{output}'}}\n"
        );
        std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
        let mut call = command(&["run", &place.text("pipeline.yaml"), "--progress", "none"]);
        expect_code(&call.envs(server.environment()).output().unwrap(), 0);
        let text = std::fs::read(server.path(&format!("{output}/dataset.json"))).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        let peak = json["runs"][0]["peak_memory"].as_u64().unwrap();
        let (shards, rows) = dataset(&server, output);
        (shards, rows, peak)
    };
    let (shards, rows, peak) = run("undisturbed");
    assert_eq!(rows.len(), 24);
    assert!(rows.iter().all(|row| row["fate"] == "kept"), "{rows:?}");
    faults.share.store(20, Ordering::Relaxed);
    for output in ["disturbed", "disturbed-again"] {
        let before = faults.requests.load(Ordering::Relaxed);
        let (disturbed, disturbed_rows, disturbed_peak) = run(output);
        let requests = faults.requests.load(Ordering::Relaxed) - before;
        let bad = std::mem::take(&mut *faults.counts.lock().unwrap());
        println!("{output}: 24 clips, {} rows, {requests} requests, bad answers {bad:?}", disturbed_rows.len());
        println!("{output}: {} MiB of memory, {} undisturbed", disturbed_peak >> 20, peak >> 20);
        assert_eq!(disturbed, shards, "{output}");
        // Bodies that come again are not kept twice.
        assert!(disturbed_peak < peak + (64 << 20), "{disturbed_peak} {peak}");
        assert_eq!(disturbed_rows, rows, "{output}");
        assert!(bad.len() >= 4, "{bad:?}");
    }
}

#[test]
fn an_object_that_changes_under_a_run_fails_and_says_so() {
    let faults = Faults::none();
    let (server, place) = (S3Server::start_with(faults.clone()), Workplace::new());
    let real = root().join("data/clips/real");
    server.put("clips/a.mp4", &real.join("carphone.mp4"));
    server.put("clips/b.mp4", &real.join("carphone.mp4"));
    // After the listing and before the first read, somebody puts another video there.
    let (path, other) = (server.path("clips/b.mp4"), real.join("bikes.mp4"));
    *faults.before_read.lock().unwrap() = Some(Box::new(move || {
        std::fs::copy(&other, &path).unwrap();
    }));
    let yaml = format!(
        "name: test\nsources: [{{path: 's3://data/clips', kind: real}}]\nstages:\n{DECODE}\noutput: {{path: '{}'}}\n",
        place.text("out")
    );
    std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
    let made = command(&["run", &place.text("pipeline.yaml"), "--progress", "none"])
        .envs(server.environment())
        .output()
        .unwrap();
    expect_code(&made, 0);
    let rows = place.query("out", "select uri, fate, fate_reason from clips order by uri");
    assert_eq!(rows[0]["fate"], "kept", "{rows:?}");
    assert_eq!(rows[1]["fate"], "failed", "{rows:?}");
    assert!(rows[1]["fate_reason"].as_str().unwrap().contains("changed since it was listed"), "{rows:?}");
}

#[test]
fn a_run_that_stands_still_ends_and_names_the_stage() {
    let faults = Faults::new(&[Fault::Hang]);
    faults.share.store(100, Ordering::Relaxed);
    let (server, place) = (S3Server::start_with(faults), Workplace::new());
    server.put("clips/a.mp4", &root().join("data/clips/real/carphone.mp4"));
    let yaml = format!(
        "name: test\nsources: [{{path: 's3://data/clips', kind: real}}]\nstages:\n{DECODE}\n\
         storage: {{timeout_s: 3600}}\nrun: {{stall_timeout_s: 2}}\noutput: {{path: '{}'}}\n",
        place.text("out")
    );
    std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
    let started = std::time::Instant::now();
    let mut call = command(&["run", &place.text("pipeline.yaml"), "--progress", "none"]);
    let ended = call.envs(server.environment()).output().unwrap();
    expect_code(&ended, 1);
    assert!(stderr(&ended).contains("stage decode holds 1 clips"), "{}", stderr(&ended));
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn credentials_that_expire_end_the_run_and_the_next_one_goes_on() {
    let faults = Faults::new(&[Fault::Expired]);
    let (server, place) = (S3Server::start_with(faults.clone()), Workplace::new());
    for number in 0..6 {
        server.put(&format!("clips/{number}.mp4"), &root().join("data/clips/real/carphone.mp4"));
    }
    let share = Arc::clone(&faults.share);
    *faults.before_read.lock().unwrap() = Some(Box::new(move || share.store(100, Ordering::Relaxed)));
    let yaml = format!(
        "name: test\nsources: [{{path: 's3://data/clips', kind: real}}]\nstages:\n{DECODE}\noutput: {{path: '{}'}}\n",
        place.text("out")
    );
    std::fs::write(place.path("pipeline.yaml"), yaml).unwrap();
    let run = || {
        let mut call = command(&["run", &place.text("pipeline.yaml"), "--progress", "none"]);
        call.envs(server.environment()).output().unwrap()
    };
    let ended = run();
    expect_code(&ended, 1);
    assert!(stderr(&ended).contains("renew the credentials"), "{}", stderr(&ended));
    faults.share.store(0, Ordering::Relaxed);
    expect_code(&run(), 0);
    assert_eq!(place.query("out", "select fate from clips where fate = 'kept'").len(), 6);
}
