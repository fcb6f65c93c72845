//! A scheduler, executors and a client, each a process: the same dataset as in one, and what happens when one of them is
//! killed, frozen or told to stop.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::Value;

use super::program::{DECODE, SCORE, Workplace, command, expect_code, root, simdrop, stderr};
use super::s3_faults::{Faults, dataset};
use super::s3_server::S3Server;

const SMALL_UNITS: &str = "output: {path: unset, payload: [source, frames]}\nrun: {clips_per_unit: 2}";
const ROWS: &str =
    "select clip_id, uri, fate, fate_reason, shard, key, \"offset\", size, caption from clips order by clip_id";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that ends with the test.
struct Process(Child);

impl Process {
    fn id(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster of this machine; the tests have one after the other, since each wants all cores.
struct Cluster {
    executors: Vec<Process>,
    scheduler: Process,
    address: String,
    /// Address that executors of this machine have.
    bind: &'static str,
    place: Workplace,
    environment: Vec<(&'static str, String)>,
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Cluster {
    fn start(executors: usize) -> Self {
        Self::start_with(executors, Vec::new(), "127.0.0.1")
    }

    fn start_with(executors: usize, environment: Vec<(&'static str, String)>, bind: &'static str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let place = Workplace::new();
        let (scheduler, address) = scheduler(bind, 0);
        let mut cluster = Self { executors: Vec::new(), scheduler, address, bind, place, environment, _turn: turn };
        for _ in 0..executors {
            cluster.add_executor();
        }
        cluster
    }

    fn add_executor(&mut self) {
        self.add_executor_by(command(&["executor"]), self.bind);
    }

    /// Starts an executor by a call of the program, and waits until the scheduler knows it.
    fn add_executor_by(&mut self, program: Command, bind: &str) {
        let (before, limit) = (executors(&self.address), Instant::now() + PATIENCE);
        while Instant::now() < limit {
            let [port, grpc_port] = [free_port(), free_port()].map(|port| port.to_string());
            let log =
                std::fs::File::create(self.place.path(&format!("executor-{}.log", self.executors.len()))).unwrap();
            let mut call = Command::new(program.get_program());
            call.args(program.get_args()).args(["--scheduler", &self.address, "--bind", bind, "--log", "info"]);
            call.args(["--port", &port, "--grpc-port", &grpc_port, "--threads", "1", "--heartbeat", "1"]);
            // Somewhere else than where the pipeline is started: its relative paths are taken from there.
            call.current_dir("/").envs(self.environment.clone()).stderr(log).stdout(Stdio::null());
            let mut executor = Process(call.spawn().unwrap());
            // Somebody else may have taken one of the ports meanwhile.
            while executor.0.try_wait().unwrap().is_none() && Instant::now() < limit {
                if executors(&self.address) > before {
                    self.executors.push(executor);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("no executor came up: {}", self.log(self.executors.len()));
    }

    fn log(&self, executor: usize) -> String {
        std::fs::read_to_string(self.place.path(&format!("executor-{executor}.log"))).unwrap_or_default()
    }

    /// A run on the cluster into `output`.
    fn call(&self, pipeline: &str, output: &str) -> Command {
        let (set, engine) = (format!("output.path={}", self.place.text(output)), format!("df://{}", self.address));
        let mut call = command(&["run", pipeline, "--set", &set, "--engine", &engine]);
        call.envs(self.environment.clone());
        call
    }

    fn run(&self, pipeline: &str, output: &str) -> Output {
        self.call(pipeline, output).args(["--progress", "json"]).output().unwrap()
    }

    /// A run that goes on, with `done` units behind it.
    fn run_until(&self, pipeline: &str, output: &str, done: usize) -> Process {
        let mut call = self.call(pipeline, output);
        let call = call.args(["--progress", "none"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Process(call.spawn().unwrap());
        let limit = Instant::now() + PATIENCE;
        while receipts(&self.place, output) < done && Instant::now() < limit {
            assert_eq!(child.0.try_wait().unwrap(), None, "the run was over before it could be disturbed");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn clips(&self, number: usize) {
        for number in 0..number {
            self.place.clip("carphone.mp4", &format!("{number:03}.mp4"));
        }
        self.place.file("broken.mp4", b"no video");
    }

    /// Fails unless both outputs hold the same: shards and metadata byte by byte, and what SQL says.
    #[track_caller]
    fn expect_same(&self, a: &str, b: &str) {
        assert_eq!(self.place.shards(a), self.place.shards(b));
        assert_eq!(files(&self.place, &format!("{a}/clips")), files(&self.place, &format!("{b}/clips")));
        assert_eq!(self.place.query(a, ROWS), self.place.query(b, ROWS));
        let twice = self.place.query(b, "select clip_id from clips group by clip_id having count(*) > 1");
        assert!(twice.is_empty(), "{twice:?}");
        expect_code(&simdrop(&["verify", &self.place.text(b)]), 0);
    }
}

fn scheduler(bind: &str, port: u16) -> (Process, String) {
    let mut call = command(&["scheduler", "--executor-timeout", "4", "--no-executors-timeout", "5"]);
    call.args(["--bind", bind, "--port", &port.to_string()]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut scheduler = Process(call.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(scheduler.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("df://").expect("a scheduler tells its address").1.to_owned();
    (scheduler, address)
}

/// Another machine, as far as the network can tell.
struct Machine(String);

impl Machine {
    /// Addresses of this machine and of the other.
    const HERE: &str = "10.213.77.1";
    const THERE: &str = "10.213.77.2";

    /// None where that takes rights that nobody has.
    fn start() -> Option<Self> {
        let name = format!("simdrop{}", std::process::id());
        if !ip(&format!("netns add {name}")) {
            return None;
        }
        let machine = Self(name.clone());
        let setup = [
            format!("link add sd-here type veth peer name sd-there netns {name}"),
            format!("addr add {}/30 dev sd-here", Self::HERE),
            "link set sd-here up".to_owned(),
            format!("-n {name} addr add {}/30 dev sd-there", Self::THERE),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set sd-there up"),
        ];
        setup.iter().all(|call| ip(call)).then_some(machine)
    }

    fn program(&self) -> Command {
        let mut call = Command::new("ip");
        call.args(["netns", "exec", &self.0, env!("CARGO_BIN_EXE_simdrop"), "executor"]);
        call
    }

    fn plug(&self, state: &str) {
        assert!(ip(&format!("-n {} link set sd-there {state}", self.0)));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

fn ip(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// How many executors a scheduler knows.
fn executors(address: &str) -> usize {
    get(address, "executors").map_or(0, |body| serde_json::from_str::<Vec<Value>>(&body).unwrap().len())
}

/// Tasks that wait or run.
fn open_tasks(address: &str) -> u64 {
    let metrics = get(address, "metrics").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("simdrop_open_tasks "));
    line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// What the REST interface of a scheduler says, if there is one.
fn get(address: &str, what: &str) -> Option<String> {
    let mut connection = TcpStream::connect(address).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET /api/{what} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

fn receipts(place: &Workplace, output: &str) -> usize {
    let runs = std::fs::read_dir(place.path(output).join("_work")).into_iter().flatten().flatten();
    let files = runs.flat_map(|run| std::fs::read_dir(run.path().join("receipts")).into_iter().flatten().flatten());
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json")).count()
}

fn files(place: &Workplace, folder: &str) -> BTreeMap<String, blake3::Hash> {
    let entries = std::fs::read_dir(place.path(folder)).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), blake3::hash(&std::fs::read(&path).unwrap()))
    });
    entries.collect()
}

/// Waits for the end of a run that was started with its standard error kept.
fn wait(mut child: Process) -> (Option<i32>, String) {
    let mut text = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    let status = child.0.wait().unwrap();
    (status.code(), text)
}

#[test]
fn two_executors_give_the_dataset_of_one_process() {
    let cluster = Cluster::start(2);
    let place = &cluster.place;
    cluster.clips(24);
    let pipeline = place.pipeline(SCORE, SMALL_UNITS);
    expect_code(&place.run(&pipeline, "local"), 0);
    let made = cluster.run(&pipeline, "cluster");
    expect_code(&made, 0);
    cluster.expect_same("local", "cluster");
    let shown = stderr(&made).lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let seen = &shown.iter().rfind(|line| line["cluster"].is_object()).expect("the cluster is shown")["cluster"];
    assert_eq!((&seen["executors"], &seen["slots"], &seen["lost"]), (&2.into(), &4.into(), &0.into()), "{seen}");
    let run = |output: &str| -> Value {
        let json = std::fs::read(place.path(output).join("dataset.json")).unwrap();
        serde_json::from_slice::<Value>(&json).unwrap()["runs"][0].clone()
    };
    let (local, remote) = (run("local"), run("cluster"));
    for part in ["units", "counts", "providers"] {
        assert_eq!(local[part], remote[part], "{part}");
    }
    for (local, remote) in local["stages"].as_array().unwrap().iter().zip(remote["stages"].as_array().unwrap()) {
        for part in ["stage", "kind", "rows", "dropped", "failed", "bytes"] {
            assert_eq!(local[part], remote[part], "{part}");
        }
        assert!(remote["busy_s"].as_f64().unwrap() > 0.0, "{remote}");
    }
    for executor in 0..2 {
        assert!(cluster.log(executor).contains("Execute task"), "executor {executor} had nothing to do");
    }
    let again = cluster.run(&pipeline, "cluster");
    expect_code(&again, 0);
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing to do"));
}

#[test]
fn an_executor_that_is_killed_costs_its_units_and_nothing_else() {
    let mut cluster = Cluster::start(2);
    cluster.clips(60);
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    let run = cluster.run_until(&pipeline, "cluster", 4);
    let killed = Instant::now();
    cluster.executors[0].kill();
    let (code, text) = wait(run);
    println!("the run ended {:.1?} later", killed.elapsed());
    assert_eq!(code, Some(0), "{text}");
    cluster.expect_same("local", "cluster");
    assert!(killed.elapsed() < Duration::from_secs(60), "{:?}", killed.elapsed());
}

#[test]
fn an_executor_that_freezes_and_comes_back_changes_nothing() {
    let cluster = Cluster::start(2);
    cluster.clips(60);
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    let run = cluster.run_until(&pipeline, "cluster", 4);
    let frozen = Instant::now();
    // To the others this is a machine that the network has lost: its connections stay open and nobody answers.
    cluster.executors[0].signal("-STOP");
    let (code, text) = wait(run);
    println!("the run ended {:.1?} later", frozen.elapsed());
    assert_eq!(code, Some(0), "{text}");
    cluster.expect_same("local", "cluster");
    // It finishes what it had begun, which is done already.
    cluster.executors[0].signal("-CONT");
    std::thread::sleep(Duration::from_secs(2));
    cluster.expect_same("local", "cluster");
}

/// Stops a process for most of the time until it is told to leave it in peace: a machine that is slow, and alive.
fn slow_down(process: u32, peace: &AtomicBool) {
    let signal = |name: &str| Command::new("kill").args([name, &process.to_string()]).status().unwrap();
    while !peace.load(Ordering::Relaxed) {
        signal("-STOP");
        std::thread::sleep(Duration::from_millis(90));
        signal("-CONT");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_slow_executor_gets_fewer_units_and_is_waited_for() {
    let cluster = Cluster::start(2);
    cluster.clips(60);
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    let (peace, slow) = (AtomicBool::new(false), cluster.executors[0].id());
    let (took, made) = std::thread::scope(|scope| {
        scope.spawn(|| slow_down(slow, &peace));
        let began = Instant::now();
        let made = cluster.run(&pipeline, "cluster");
        peace.store(true, Ordering::Relaxed);
        (began.elapsed(), made)
    });
    expect_code(&made, 0);
    cluster.expect_same("local", "cluster");
    let tasks = [0, 1].map(|executor| cluster.log(executor).matches("Execute task").count());
    println!("the run took {took:.1?}; the slow executor did {} work units, the other {}", tasks[0], tasks[1]);
    assert!(0 < tasks[0] && tasks[0] < tasks[1], "{tasks:?}");
}

/// Processes that a process has started.
fn children(process: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.map(|task| of(task.unwrap()).split_whitespace().count()).sum()
}

#[test]
fn executors_read_clips_in_processes_of_their_own_where_a_pipeline_wants_it() {
    let cluster = Cluster::start(2);
    cluster.clips(12);
    let isolated = SMALL_UNITS.replace("clips_per_unit: 2", "clips_per_unit: 2, isolation: process");
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    expect_code(&cluster.run(&cluster.place.pipeline(DECODE, &isolated), "cluster"), 0);
    for executor in &cluster.executors {
        assert!(children(executor.id()) > 0, "an executor read clips by itself");
    }
    cluster.expect_same("local", "cluster");
}

#[test]
fn an_executor_that_the_network_loses_changes_nothing() {
    let Some(machine) = Machine::start() else {
        println!("not tested: no right to make network namespaces");
        return;
    };
    let mut cluster = Cluster::start_with(1, Vec::new(), Machine::HERE);
    cluster.add_executor_by(machine.program(), Machine::THERE);
    cluster.clips(60);
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    let run = cluster.run_until(&pipeline, "cluster", 4);
    let cut = Instant::now();
    machine.plug("down");
    let (code, text) = wait(run);
    println!("the run ended {:.1?} later", cut.elapsed());
    assert_eq!(code, Some(0), "{text}");
    assert!(cluster.log(1).contains("Execute task"), "the lost executor had nothing to do");
    cluster.expect_same("local", "cluster");
    machine.plug("up");
    std::thread::sleep(Duration::from_secs(2));
    cluster.expect_same("local", "cluster");
}

#[test]
fn a_scheduler_that_is_killed_ends_the_run_and_the_next_one_goes_on() {
    let mut cluster = Cluster::start(1);
    cluster.clips(60);
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    let run = cluster.run_until(&pipeline, "cluster", 3);
    let killed = Instant::now();
    cluster.scheduler.kill();
    let (code, text) = wait(run);
    println!("the run ended {:.1?} later", killed.elapsed());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is gone") && text.contains("run the same command again"), "{text}");
    assert!(killed.elapsed() < Duration::from_secs(15), "{:?}", killed.elapsed());
    let port = cluster.address.rsplit_once(':').unwrap().1.parse().unwrap();
    (cluster.scheduler, cluster.address) = scheduler(cluster.bind, port);
    // The executor that lost its scheduler finds the new one by a heartbeat, or ends by design: then this one does it.
    cluster.add_executor();
    expect_code(&cluster.run(&pipeline, "cluster"), 0);
    cluster.expect_same("local", "cluster");
    let runs = cluster.place.query("cluster", "select units_resumed from runs");
    assert!(runs[0]["units_resumed"].as_u64().unwrap() >= 3, "{runs:?}");
}

#[test]
fn without_a_cluster_a_run_says_so() {
    let cluster = Cluster::start(0);
    cluster.clips(1);
    let pipeline = cluster.place.pipeline(DECODE, SMALL_UNITS);
    let empty = cluster.run(&pipeline, "out");
    expect_code(&empty, 1);
    assert!(stderr(&empty).contains("simdrop executor --scheduler"), "{}", stderr(&empty));
    let nobody = format!("df://127.0.0.1:{}", free_port());
    let output = format!("output.path={}", cluster.place.text("out"));
    let gone = simdrop(&["run", &pipeline, "--set", &output, "--engine", &nobody]);
    expect_code(&gone, 1);
    assert!(stderr(&gone).contains("simdrop scheduler"), "{}", stderr(&gone));
    let wrong = simdrop(&["run", &pipeline, "--engine", "spark://localhost:1"]);
    expect_code(&wrong, 2);
    assert!(stderr(&wrong).contains("df://HOST:PORT"), "{}", stderr(&wrong));
    assert!(!cluster.place.path("out/dataset.json").exists());
}

#[test]
fn what_an_executor_cannot_do_ends_the_run_with_its_words() {
    let cluster = Cluster::start(1);
    cluster.clips(2);
    let pipeline =
        cluster.place.pipeline(SCORE, "output: {path: unset}\nmodels: {providers: [tensorrt], require: tensorrt}");
    let ended = cluster.run(&pipeline, "out");
    expect_code(&ended, 1);
    let text = stderr(&ended);
    assert!(text.contains("the cluster gave up: model data/models/denoiser"), "{text}");
    assert!(text.contains("models.require is tensorrt") && !text.contains("DataFusionError"), "{text}");
}

#[test]
fn ctrl_c_at_the_client_stops_the_tasks_and_the_run_goes_on_later() {
    let cluster = Cluster::start(2);
    cluster.clips(90);
    // Tasks of some seconds, which would leave receipts long after the run has ended.
    let pipeline = cluster.place.pipeline(DECODE, "output: {path: unset}\nrun: {clips_per_unit: 24}");
    expect_code(&cluster.place.run(&pipeline, "local"), 0);
    let run = cluster.run_until(&pipeline, "cluster", 1);
    let pressed = Instant::now();
    run.signal("-INT");
    let (code, text) = wait(run);
    println!("the run ended {:.1?} later", pressed.elapsed());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("run the same command again"), "{text}");
    assert!(pressed.elapsed() < Duration::from_secs(10), "{:?}", pressed.elapsed());
    // The scheduler tells the executors when the run has ended already, and a receipt may be on its way.
    std::thread::sleep(Duration::from_secs(1));
    let stopped = receipts(&cluster.place, "cluster");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(receipts(&cluster.place, "cluster"), stopped, "tasks went on after the run was stopped");
    assert!(stopped < receipts(&cluster.place, "local"), "the run was over before it could be stopped");
    expect_code(&cluster.run(&pipeline, "cluster"), 0);
    cluster.expect_same("local", "cluster");
}

#[test]
fn a_store_that_fails_once_has_the_unit_done_again() {
    let faults = Faults::none();
    let server = S3Server::start_with(faults.clone());
    let cluster = Cluster::start_with(2, server.environment().to_vec(), "127.0.0.1");
    for number in 0..8 {
        server.put(&format!("clips/{number}.mp4"), &root().join("data/clips/real/carphone.mp4"));
    }
    let yaml = format!(
        "name: test\nsources: [{{path: 's3://data/clips', kind: real}}]\nstages:\n{DECODE}\nstorage: {{retries: 0}}\n\
         run: {{clips_per_unit: 1}}\noutput: {{path: unset}}\n"
    );
    let pipeline = cluster.place.text("pipeline.yaml");
    std::fs::write(&pipeline, yaml).unwrap();
    let engine = format!("df://{}", cluster.address);
    let run = |output: &str, engine: &str| {
        let set = format!("output.path=s3://data/{output}");
        let mut call = command(&["run", &pipeline, "--set", &set, "--engine", engine, "--progress", "none"]);
        expect_code(&call.envs(server.environment()).output().unwrap(), 0);
        dataset(&server, output)
    };
    let undisturbed = run("local", "local");
    faults.refuse_once(Method::PUT, "/receipts/");
    assert_eq!(run("cluster", &engine), undisturbed);
    assert!(!faults.is_to_refuse(), "no request was refused");
    // The last number is that of the try.
    let tried_again = |log: String| log.lines().any(|line| line.contains("Execute task") && line.contains(".1]"));
    assert!((0..2).any(|executor| tried_again(cluster.log(executor))), "no task was tried again");
}

/// Above a mebibyte of work units their files must not be cut anew: it would put several units into one task.
#[test]
fn many_units_stay_apart() {
    let cluster = Cluster::start(2);
    for number in 0..200 {
        cluster.place.file(&format!("{number:03}.mp4"), format!("clip {number}").as_bytes());
    }
    let none = "  - filter: {name: too_small, keep: \"size_bytes > 1000\"}";
    let pipeline = cluster.place.pipeline(none, "output: {path: unset}\nrun: {clips_per_unit: 1}");
    // A unit's file is some 8 kB.
    expect_code(&cluster.run(&pipeline, "out"), 0);
    let rows = cluster.place.query("out", "select count(distinct uri) as clips, count(*) as rows from clips");
    assert_eq!((rows[0]["clips"].as_u64(), rows[0]["rows"].as_u64()), (Some(200), Some(200)));
}

#[test]
fn the_scheduler_tells_what_there_is_to_do_and_later_executors_take_it() {
    let mut cluster = Cluster::start(1);
    cluster.clips(40);
    assert_eq!(open_tasks(&cluster.address), 0);
    let run = cluster.run_until(&cluster.place.pipeline(DECODE, SMALL_UNITS), "out", 2);
    let open = open_tasks(&cluster.address);
    cluster.add_executor();
    let (code, text) = wait(run);
    assert_eq!(code, Some(0), "{text}");
    assert!(open > 2, "{open} tasks were open at the third unit or so");
    assert!(cluster.log(1).contains("Execute task"), "the second executor had nothing to do");
    assert_eq!(open_tasks(&cluster.address), 0);
}

#[test]
fn an_executor_that_waits_for_its_scheduler_ends_when_it_is_told_to() {
    let nobody = format!("127.0.0.1:{}", free_port());
    let mut waits = Process(command(&["executor", "--scheduler", &nobody]).stderr(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(waits.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("no scheduler answers"), "{line}");
    waits.signal("-TERM");
    assert_eq!(waits.0.wait().unwrap().code(), Some(0));
}
