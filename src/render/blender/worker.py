"""The renderer's process: jobs enter as JSON lines, pictures and truth are written to folders, answers leave as JSON
lines.

`worker.py` speaks the protocol on standard input and output; `worker.py --scene config.json --output folder` renders
one scene. Runs under Blender (`blender -b --factory-startup -P worker.py -- …`) as well as under a Python that has
the module bpy.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))


def _import_on_one_processor():
    """Import Blender while this process may use one processor only, which it takes as the number of threads to
    simulate with.

    Cloth that is simulated by several threads falls a little differently each time. Cycles sets its own number of
    threads, and may use all processors again afterwards. A Blender that is already running keeps what its option -t
    says.
    """
    if "bpy" in sys.modules or not hasattr(os, "sched_setaffinity"):
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usual)})
    try:
        __import__("bpy")
    finally:
        os.sched_setaffinity(0, usual)


_import_on_one_processor()

import bpy  # noqa: E402

import render  # noqa: E402
import scene  # noqa: E402
import truth  # noqa: E402
from configuration import ConfigurationError, read  # noqa: E402

PREFIX = "simdrop "


def main():
    """Serve jobs, or render the scene given on the command line."""
    own = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    parser = argparse.ArgumentParser(prog="worker.py", description="render synthetic clips with their ground truth")
    parser.add_argument("--scene", help="a scene configuration, JSON")
    parser.add_argument("--output", help="the folder to write")
    arguments = parser.parse_args([] if _is_blender() and "--" not in sys.argv else own)
    answers = _answers()
    if arguments.scene:
        if not arguments.output:
            parser.error("--scene needs --output")
        answer = run_job(arguments.scene, arguments.output, lambda frame, of: None)
        _say(answers, answer)
        return 0 if "done" in answer else 1
    _say(answers, {"ready": bpy.app.version_string.split(" ")[0]})
    for line in sys.stdin:
        if line.strip():
            _say(answers, _answer(line, lambda frame, of: _say(answers, {"frame": frame, "of": of})))
    return 0


def run_job(scene_path, folder, progress):
    """Render one scene into a folder; the answer says what it took, or why it failed."""
    scratch = tempfile.mkdtemp(prefix="simdrop-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        return {"done": _render(read(scene_path), folder, scratch, progress)}
    except ConfigurationError as error:
        return _failed("configuration", error)
    except Exception as error:  # whatever a scene breaks, the next job has to find a worker that works
        return _failed("render", error)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _render(configuration, folder, scratch, progress):
    started = time.perf_counter()
    os.makedirs(folder, exist_ok=True)
    clip = scene.build(configuration, scratch)
    built = time.perf_counter()
    record = truth.Truth(clip)
    truth_seconds = 0.0
    for frame in render.render_frames(clip, folder, progress):
        before = time.perf_counter()
        record.add(*frame)
        truth_seconds += time.perf_counter() - before
    before = time.perf_counter()
    record.write(folder)
    finished = time.perf_counter()
    truth_seconds += finished - before
    return {
        "build_s": round(built - started, 4),
        "render_s": round(finished - built - truth_seconds, 4),
        "truth_s": round(truth_seconds, 4),
        "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _answer(line, progress):
    try:
        job = json.loads(line)
        scene_path, folder = job["scene"], job["output"]
    except (ValueError, KeyError, TypeError) as error:
        return _failed("configuration", ValueError(f'a job has to be {{"scene": path, "output": folder}}: {error!r}'))
    return run_job(str(scene_path), str(folder), progress)


def _failed(kind, error):
    message = str(error) or type(error).__name__
    return {"failed": {"kind": kind, "message": message, "traceback": traceback.format_exc()}}


def _answers():
    """The real standard output. Blender prints there as well: its lines are sent to standard error from now on."""
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers, message):
    answers.write(PREFIX + json.dumps(message) + "\n")
    answers.flush()


def _is_blender():
    return not getattr(bpy.app, "module", False)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    if code or _is_blender():
        sys.exit(code)
