"""list_rate.py [--objects N …] [--run]: what a large bucket costs to list: time, and memory an object.

A server on loopback claims to hold N objects, as pages of a thousand keys; there is nothing behind them. `simdrop explain` lists
them and cuts them into work units, which is all that is measured; with --run a whole pipeline, whose only stage drops every clip
by its size, writes their rows as well. Prints seconds and the peak of resident memory, and the bytes an object beyond those of a
bucket of ten.
"""

import argparse
import http.server
import os
import pathlib
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

import common

PAGE = 1000
KEY = "clips/2026/part-{0:04}/camera-front-{1:09}.mp4"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True

    def do_GET(self):
        begin = int(dict(part.split("=", 1) for part in self.path.partition("?")[2].split("&")).get("continuation-token", 0))
        end = min(begin + PAGE, self.server.objects)
        rows = "".join(
            f"<Contents><Key>{KEY.format(number // 10000, number)}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
            f'<ETag>"{number:032x}"</ETag><Size>{100000 + number}</Size><StorageClass>STANDARD</StorageClass></Contents>'
            for number in range(begin, end)
        )
        more = f"<NextContinuationToken>{end}</NextContinuationToken>" if end < self.server.objects else ""
        body = (
            f"<?xml version='1.0' encoding='UTF-8'?><ListBucketResult><Name>data</Name><Prefix>clips/</Prefix>"
            f"<KeyCount>{end - begin}</KeyCount><MaxKeys>{PAGE}</MaxKeys><IsTruncated>{str(bool(more)).lower()}</IsTruncated>"
            f"{rows}{more}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def measure(objects, verb, folder):
    """Seconds and the peak of resident memory in bytes of one call."""
    server = Server(("127.0.0.1", 0), Handler)
    server.objects = objects
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text(
        "name: list\nsources: [{path: 's3://data/clips', kind: real}]\n"
        "stages:\n  - filter: {name: none, keep: 'size_bytes < 0'}\n"
        f"output: {{path: {folder / f'out-{objects}'}}}\n"
    )
    environment = {
        **common.environment(),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    progress = ["--progress", "none"] if verb == "run" else []
    begin = time.monotonic()
    process = subprocess.Popen(
        [common.SIMDROP, verb, str(pipeline), *progress], env=environment, stdout=subprocess.PIPE, text=True
    )
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    server.shutdown()
    if status or str(objects) not in said:
        sys.exit(f"simdrop {verb} ended with {status}: {said}")
    return seconds, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--run", action="store_true")
    arguments = parser.parse_args()
    verb = "run" if arguments.run else "explain"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _, base, _ = measure(10, verb, folder)
        print(f"{verb}, 10 objects: {base / 1e6:.0f} MB")
        for objects in arguments.objects:
            seconds, peak, used = measure(objects, verb, folder)
            print(
                f"{verb}, {objects} objects: {seconds:.1f} s ({used:.1f} s of the processor), {peak / 1e6:.0f} MB at the peak, "
                f"{(peak - base) / objects:.0f} bytes an object",
                flush=True,
            )


if __name__ == "__main__":
    main()
