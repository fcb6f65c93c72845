"""check_mutants.py [--count 300] [--seed 1] [--isolation none|process] [--keep FOLDER]: runs simdrop over damaged clips.

The clips of mutants.py go through a pipeline that decodes, measures and writes shards, then a fifth of them through one
that cuts windows. Each run has to end well and in time, with every clip accounted for, within its memory and without
growing, and must leave no open file and no file behind. Prints the counts.
"""

import argparse
import collections
import json
import os
import pathlib
import sys
import tempfile
import time

import common
import mutants

MEMORY_LIMIT = 256 << 20
# With the program itself, and a picture or two of max_pixels, which are decoded alone whatever memory_limit is.
MOST_MEMORY = 1500 << 20
MOST_FILES = 200
# A hang is a run beyond START + EACH * clips seconds.
START, EACH = 120, 0.25
DECODE_SECONDS = 20


def pipelines(clips, output, isolation):
    """The pipelines by name: (specification, every how many-th clip)."""
    decode = {"frames": 8, "width": 32, "height": 32, "short": "repeat", "timeout_s": DECODE_SECONDS}
    run = {"memory_limit": f"{MEMORY_LIMIT >> 20}MiB", "clips_per_unit": 64}
    if isolation != "none":
        run["isolation"] = isolation

    def spec(name, stages, **rest):
        return {
            "name": name,
            "sources": [{"path": str(clips[name]), "kind": "real"}],
            "stages": stages,
            "output": {"path": str(output / name), **rest},
            "run": run,
        }

    return [
        spec("whole", [{"decode": decode}, {"measure": {}}], payload=["source", "frames"]),
        spec("encoded", [{"split": {"length_s": 0.2, "minimum_s": 0.01}}, {"decode": decode}], cut="encode"),
        spec("copied", [{"split": {"length_s": 0.3, "minimum_s": 0.01}}, {"decode": decode}], cut="copy"),
    ]


class Watch:
    """A run, looked at from outside: time, memory, open files."""

    def __init__(self, config, folder, seconds):
        self.memory, self.files = [], 0
        # Whatever is left in it was forgotten.
        self.scratch = folder / "scratch"
        self.scratch.mkdir(exist_ok=True)
        environment = {**common.environment(), "TMPDIR": str(self.scratch)}
        begin = time.monotonic()
        with open(folder / "log", "wb") as log:
            process = common.simdrop("run", config, "--progress", "none", env=environment, stdout=log, stderr=log)
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - begin > seconds:
                process.kill()
                sys.exit(f"the run hangs: not done after {seconds:.0f} s")
            self.look(process.pid)
            time.sleep(0.1)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - begin
        self.peak = usage.ru_maxrss << 10
        self.said = (folder / "log").read_text(errors="replace")
        self.code = process.returncode

    def look(self, pid):
        try:
            self.files = max(self.files, len(os.listdir(f"/proc/{pid}/fd")))
            fields = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:  # just ended
            return
        self.memory += [int(line.split()[1]) << 10 for line in fields if line.startswith("VmRSS:")]

    def grown(self):
        """Bytes by which the last quarter of the run needs more than the second one."""
        quarter = len(self.memory) // 4
        if quarter < 20:
            return 0
        early, late = sorted(self.memory[quarter : 2 * quarter]), sorted(self.memory[-quarter:])
        return late[quarter // 2] - early[quarter // 2]

    def problems(self):
        if self.peak > MOST_MEMORY:
            yield f"the run took {self.peak >> 20} MiB, with memory_limit {MEMORY_LIMIT >> 20} MiB"
        if self.grown() > 128 << 20:
            yield f"the run grew by {self.grown() >> 20} MiB between its second and its last quarter"
        if self.files > MOST_FILES:
            yield f"the run had {self.files} files open at once"
        left = sorted(str(path) for path in self.scratch.rglob("*"))
        if left:
            yield f"left behind in the folder for temporary files: {left[:5]}"


def accounted(names, root):
    """What is wrong with the rows, one line each, and the counts."""
    rows, by_name = common.read_clips(root), collections.defaultdict(list)
    for row in rows:
        by_name[os.path.basename(row["uri"])].append(row)
    problems = [f"{name} has no row" for name in names if name not in by_name]
    problems += [f"{name} has rows, and there is no such clip" for name in set(by_name) - set(names)]
    ids = collections.Counter(row["clip_id"] for row in rows)
    problems += [f"clip_id {key} has {count} rows" for key, count in ids.items() if count > 1]
    problems += [f"{row['uri']} is {row['fate']} without a reason" for row in rows
                 if row["fate"] != "kept" and not row["fate_reason"]]
    counts = collections.Counter(row["fate"] for row in rows)
    dataset = common.read_dataset(root)
    told = {fate: dataset["counts"][fate] for fate in ("kept", "dropped", "failed")}
    if told != {fate: counts[fate] for fate in told} or sum(told.values()) != len(rows):
        problems.append(f"dataset.json counts {told}, its tables {dict(counts)}")
    samples = sum(shard["samples"] for shard in dataset["shards"])
    if samples != counts["kept"]:
        problems.append(f"{samples} samples in shards, {counts['kept']} clips kept")
    listed = {entry["path"] for entry in dataset["shards"] + dataset["clips"]} | {"dataset.json"}
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    stray = sorted(path for path in found - listed if not path.startswith("_work/"))
    problems += [f"{path} lies in the output, and dataset.json does not list it" for path in stray]
    return problems, told, rows


def reasons(rows):
    """How often a clip failed for which reason, without the numbers in it."""
    texts = ("".join("#" if letter.isdigit() else letter for letter in row["fate_reason"]) for row in rows if row["fate_reason"])
    return collections.Counter(texts).most_common(12)


def check(temporary, count, seed, isolation):
    folder = temporary / "clips"
    names = mutants.make(folder, count, seed)
    few = temporary / "few"
    few.mkdir()
    for name in names[::5]:
        os.link(folder / name, few / name)
    clips = {"whole": folder, "encoded": few, "copied": few}
    wrong = 0
    for spec in pipelines(clips, temporary / "out", isolation):
        mine = names if clips[spec["name"]] is folder else names[::5]
        config = common.write_pipeline(temporary / f"{spec['name']}.yaml", spec)
        watch = Watch(config, temporary, START + EACH * len(mine))
        if watch.code:
            sys.exit(f"{spec['name']}: the run ended with {watch.code}\n{watch.said[-4000:]}")
        problems, told, rows = accounted(mine, temporary / "out" / spec["name"])
        problems += watch.problems()
        for problem in problems[:20]:
            print(f"  {spec['name']}: {problem}", file=sys.stderr)
        wrong += len(problems)
        print(
            f"mutants, {spec['name']}: {len(mine)} clips, {len(rows)} rows: {json.dumps(told)}; {watch.seconds:.0f} s, "
            f"peak {watch.peak >> 20} MiB, grown by {watch.grown() >> 20} MiB, {watch.files} files open at most",
            flush=True,
        )
        if os.environ.get("VERBOSE"):
            print(*(f"  {number:6} {text[:150]}" for text, number in reasons(rows)), sep="\n")
    if wrong:
        sys.exit(f"{wrong} problems with mutants")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--isolation", default="none", choices=["none", "process"])
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder for clips and output, which stays")
    arguments = parser.parse_args()
    if arguments.keep:
        arguments.keep.mkdir(parents=True)
        check(arguments.keep.resolve(), arguments.count, arguments.seed, arguments.isolation)
        return
    with tempfile.TemporaryDirectory(prefix="simdrop-mutants-") as temporary:
        check(pathlib.Path(temporary).resolve(), arguments.count, arguments.seed, arguments.isolation)


if __name__ == "__main__":
    main()
