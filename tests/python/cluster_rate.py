"""cluster_rate.py [--pairs K] [--units N ...]: a cluster on this machine against one process, and what a work unit costs.

First two executors of one core each against one process of two, in turn, on clips that are decoded: clips a second, the ratio,
and whether shards and rows are the same bytes. Then runs of N work units in which nothing is decoded: units a second, in all and
in the first and the last quarter, processor time of each process for a unit, and its memory after a quarter and at the end.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

import common

QUARTERS = 4


@contextlib.contextmanager
def cluster(folder, cores):
    """A scheduler, and an executor on each of two cores; their processes by name, and the address."""
    address = f"127.0.0.1:{common.free_port()}"
    processes = {}

    def start(name, *arguments, core=None):
        with open(folder / f"{name}.log", "wb") as log:
            processes[name] = common.simdrop(*arguments, stdout=log, stderr=log)
        if core is not None:
            os.sched_setaffinity(processes[name].pid, {core})

    try:
        start("scheduler", "scheduler", "--port", address.rpartition(":")[2])
        for number, core in enumerate(cores):
            ports = ["--port", common.free_port(), "--grpc-port", common.free_port()]
            start(f"executor {number + 1}", "executor", "--scheduler", address, "--threads", 1, *ports, core=core)
        for _ in range(200):
            time.sleep(0.1)
            with contextlib.suppress(OSError):
                answer = urllib.request.urlopen(f"http://{address}/api/executors", timeout=5)
                if len(json.load(answer)) == len(cores):
                    break
        else:
            sys.exit(f"the cluster did not come up; see\n{(folder / 'scheduler.log').read_text(errors='replace')[-2000:]}")
        yield processes, f"df://{address}"
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def files(root):
    """What shards and metadata hold, by path."""
    paths = sorted(path for part in ("shards", "clips") for path in (root / part).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.blake2b(path.read_bytes()).hexdigest() for path in paths}


def rate(folder, arguments, engine):
    """Decode-bound runs in pairs."""
    clips = common.link_clips(folder / "clips", arguments.clips)
    spec = common.pipeline("rate", [clips], "unset", clips_per_unit=4, threads=2)
    spec["stages"] = [{"decode": {"frames": 16, "width": 224, "height": 224}}]
    config = common.write_pipeline(folder / "rate.yaml", spec)
    ratios = []
    for number in range(arguments.pairs):
        seconds = []
        for name, where in (("one", "local"), ("two", engine)):
            output = folder / f"{name}-{number}"
            common.run_simdrop(
                "run", config, "--set", f"output.path={output}", "--engine", where, "--progress", "none", cwd=common.ROOT
            )
            seconds.append(common.read_dataset(output)["runs"][-1]["seconds"])
        same = files(folder / f"one-{number}") == files(folder / f"two-{number}")
        ratios.append(seconds[0] / seconds[1])
        alone, both = (arguments.clips / each for each in seconds)
        print(
            f"one process {alone:.2f} clips/s, two executors {both:.2f}; ratio {ratios[-1]:.2f}; "
            f"{'the same bytes' if same else 'NOT THE SAME BYTES'}",
            flush=True,
        )
    if ratios:
        print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")


def memory(pid):
    """Resident mebibytes."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) >> 10
    return 0


def units(folder, count, processes, engine):
    """A run of `count` work units in which there is nothing to do."""
    clips = folder / f"{count}"
    clips.mkdir()
    for number in range(count):
        (clips / f"{number:06d}.mp4").write_bytes(b"no video")
    spec = common.pipeline("units", [clips], "unset", clips_per_unit=1)
    spec["stages"] = [{"filter": {"name": "none", "keep": "size_bytes > 100"}}]
    config = common.write_pipeline(folder / f"{count}.yaml", spec)
    seconds = {}
    for name, where in (("one process", "local"), ("the cluster", engine)):
        output = folder / f"{count}-{where.partition(':')[0]}"
        arguments = ["run", config, "--set", f"output.path={output}", "--engine", where, "--progress", "none"]
        if where == "local":
            common.run_simdrop(*arguments, cwd=common.ROOT)
        else:
            watch(output, arguments, count, processes)
        seconds[name] = common.read_dataset(output)["runs"][-1]["seconds"]
    told = ", ".join(f"{name} {each:.1f} s" for name, each in seconds.items())
    one, many = seconds.values()
    print(f"{count} units: {told}: {1000 * (many - one) / count:.1f} ms a unit more", flush=True)


def watch(output, arguments, count, processes):
    """Looks at the processes while a run goes."""
    client = common.simdrop(*arguments, cwd=common.ROOT, stdout=subprocess.DEVNULL)
    everyone = {**processes, "client": client}
    before = {name: common.processor_seconds(process.pid) for name, process in processes.items()}
    reached, held = {}, {}
    while client.poll() is None:
        done = sum(1 for _ in output.glob("_work/*/receipts/*.json"))
        for quarter in range(QUARTERS + 1):
            if quarter not in reached and done >= max(1, count * quarter // QUARTERS):
                reached[quarter] = (time.monotonic(), done)
                held[quarter] = {name: memory(process.pid) for name, process in everyone.items()}
        time.sleep(0.2)
    if client.returncode:
        sys.exit(f"the run on the cluster ended with {client.returncode}")

    def rate_between(first, last):
        (since, before), (until, after) = reached[first], reached[last]
        return (after - before) / (until - since)

    if len(reached) == QUARTERS + 1:
        print(
            f"  units a second: {rate_between(0, QUARTERS):.0f} in all, {rate_between(0, 1):.0f} in the first quarter, "
            f"{rate_between(QUARTERS - 1, QUARTERS):.0f} in the last"
        )
    for name, process in processes.items():
        used = 1000 * (common.processor_seconds(process.pid) - before[name]) / count
        print(f"  {name}: {used:.1f} ms of a processor for each unit of the run")
    for name in everyone:
        told = [str(held[quarter][name]) for quarter in (1, QUARTERS) if quarter in held]
        print(f"  {name}: {' and '.join(told)} MiB after a quarter and after all units")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--units", type=int, nargs="*", default=[2000, 10000])
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        sys.exit("two executors want two cores")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with cluster(folder, cores) as (processes, engine):
            rate(folder, arguments, engine)
            for count in arguments.units:
                units(folder, count, processes, engine)


if __name__ == "__main__":
    main()
