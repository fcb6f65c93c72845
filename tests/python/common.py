"""What the checks share: where things are, how simdrop is run, how a dataset is read without it."""

import json
import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIMDROP = os.environ.get("SIMDROP", str(ROOT / "target/release/simdrop"))
CLIPS = sorted((ROOT / "data/clips/real").glob("*.mp4"))
DENOISERS = {name: str(ROOT / f"data/models/denoiser/denoiser-{name}.onnx") for name in ("clean", "artefact")}


def environment():
    """The environment with ONNX Runtime's library in it."""
    library = ROOT / ".deps/onnxruntime/libonnxruntime.so"
    return {"ORT_DYLIB_PATH": str(library), **os.environ}


def pipeline(name, sources, output, **run):
    """A pipeline that decodes 8 frames of 32 × 32, scores with two denoisers at six (t, ε) and writes shards."""
    return {
        "name": name,
        "sources": [{"path": str(path), "kind": "real"} for path in sources],
        "stages": [
            {"decode": {"frames": 8, "width": 32, "height": 32, "filter": "area"}},
            {"caption": {"from": [{"sidecar": {"extension": "txt"}}, {"template": "a clip of {{ dataset }}"}]}},
            {
                "score": {
                    "models": DENOISERS,
                    "scores": {"simdrop_score": {"base": "clean", "reference": "artefact"}},
                }
            },
        ],
        "output": {"path": str(output)},
        "models": {"providers": ["cpu"]},
        "run": run,
    }


def write_pipeline(path, spec):
    """Writes `spec` as YAML (JSON is YAML)."""
    pathlib.Path(path).write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return str(path)


def simdrop(*arguments, **options):
    """Starts simdrop."""
    options = {"env": environment(), "stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen([SIMDROP, *map(str, arguments)], **options)


def run_simdrop(*arguments, **options):
    """Runs simdrop to its end; its failure ends the check, with what it said."""
    process = simdrop(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"simdrop {' '.join(map(str, arguments))} ended with {process.returncode}\n{err.decode()}")
    return out.decode()


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def processor_seconds(pid):
    """User and system seconds that a process which still runs has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read_dataset(root):
    """The content of dataset.json."""
    return json.loads((pathlib.Path(root) / "dataset.json").read_text(encoding="utf-8"))


def read_clips(root):
    """Every clip's row, in the order of the clip ids."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = pathlib.Path(root)
    files = [root / entry["path"] for entry in read_dataset(root)["clips"]]
    return pa.concat_tables([pq.read_table(file) for file in files]).sort_by("clip_id").to_pylist()


def link_clips(folder, count, sources=CLIPS):
    """Fills `folder` with `count` clips: the sources over and over, under other names."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for number in range(count):
        source = sources[number % len(sources)]
        target = folder / f"{number:05d}-{source.name}"
        try:
            os.link(source, target)
        except OSError:  # another file system
            target.write_bytes(source.read_bytes())
    return folder
