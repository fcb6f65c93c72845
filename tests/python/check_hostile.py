"""check_hostile.py: runs simdrop over the clips of hostile.py and checks what became of each.

The run has to end well, within its memory, without opening a file that a clip names, and with one row a clip.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse

import common
import hostile

# The bombs among the clips would make FFmpeg take gigabytes.
MEMORY_LIMIT, MOST = 512 << 20, 1200 << 20
SECONDS = 300


def name_of(uri, folder):
    """A clip's path below the folder, from its URI or path."""
    path = uri
    if uri.startswith("file://"):
        path = urllib.parse.unquote(urllib.parse.urlsplit(uri.replace("#", "%23").replace("?", "%3F")).path)
    return os.path.relpath(path, folder)


def judge(expected, rows):
    """What is wrong with the rows, one line each."""
    problems = []
    for name, want in expected.items():
        found = rows.get(name, [])
        fate = want["fate"]
        if len(found) > 1:
            problems.append(f"{name!r} has {len(found)} rows")
            continue
        got = found[0] if found else None
        if got is None:
            if fate not in ("absent", "optional"):
                problems.append(f"{name!r} has no row, {fate} was expected")
            continue
        if fate == "absent":
            problems.append(f"{name!r} has a row: {got['fate']}, {got['fate_reason']}")
        elif fate == "optional" and got["fate"] != "failed" or fate in ("kept", "failed") and got["fate"] != fate:
            problems.append(f"{name!r} is {got['fate']} ({got['fate_reason']}), {fate} was expected")
        if got["fate"] == "failed" and not got["fate_reason"]:
            problems.append(f"{name!r} failed without a reason")
        for column in ("width", "height"):
            if got["fate"] == "kept" and column in want and got[column] != want[column]:
                problems.append(f"{name!r}: {column} is {got[column]}, {want[column]} was expected")
    for name in sorted(set(rows) - set(expected)):
        problems.append(f"{name!r} has a row, nothing was expected")
    return problems


def opened_elsewhere(trace, folder):
    """Whether the program opened the file that playlists name other than through its link."""
    target = str(hostile.CARPHONE.resolve())
    return [line for line in trace.read_text(errors="replace").splitlines() if re.search(re.escape(target) + '"', line)]


def main():
    with tempfile.TemporaryDirectory(prefix="simdrop-hostile-") as temporary:
        temporary = pathlib.Path(temporary).resolve()
        folder, output = temporary / "clips", temporary / "out"
        expected = hostile.make(folder)
        # The link is the one honest way to the file that the playlists name.
        if shutil.which("strace"):
            (folder / "link.mp4").unlink()
            del expected["link.mp4"]
        spec = common.pipeline("hostile", [folder], output, memory_limit=f"{MEMORY_LIMIT >> 20}MiB")
        config = common.write_pipeline(temporary / "hostile.yaml", spec)
        command = [common.SIMDROP, "run", config]
        trace = temporary / "trace"
        if shutil.which("strace"):
            command = ["strace", "-f", "-qq", "-e", "trace=open,openat,openat2,connect", "-s", "4096", "-o", str(trace), *command]
        begin = time.monotonic()
        with open(temporary / "log", "wb") as log:
            process = subprocess.Popen(
                command, env=common.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=temporary
            )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - begin > SECONDS:
                process.kill()
                sys.exit(f"the run hangs: not done after {SECONDS} s")
            time.sleep(0.1)
        code = os.waitstatus_to_exitcode(status)
        process.returncode = code
        said = (temporary / "log").read_text(errors="replace")
        if code:
            sys.exit(f"the run ended with {code}\n{said[-4000:]}")

        rows = {}
        for row in common.read_clips(output):
            rows.setdefault(name_of(row["uri"], folder), []).append(row)
        problems = judge(expected, rows)
        if trace.exists():
            problems += [f"a clip made simdrop open another file: {line}" for line in opened_elsewhere(trace, folder)]
        peak = usage.ru_maxrss << 10
        if peak > MOST:
            problems.append(f"the run took {peak >> 20} MiB, with memory_limit {MEMORY_LIMIT >> 20} MiB")
        if problems:
            print(f"{len(problems)} problems with hostile clips", *problems, sep="\n  ", file=sys.stderr)
            sys.exit(1)
        fates = [row["fate"] for found in rows.values() for row in found]
        counts = {fate: fates.count(fate) for fate in ("kept", "dropped", "failed")}
        print(f"hostile clips: {counts}, as expected; peak {peak >> 20} MiB, {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
