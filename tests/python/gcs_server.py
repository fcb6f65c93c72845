"""A server of Google's storage: fake-gcs-server, and before it the writes of the XML interface, which it has not.

Clients that are not Google's own read, list, write and delete by XML requests. fake-gcs-server answers the reads, the lists and
the deletes; a write, whole or in parts, is passed on here as an upload by its JSON interface, conditions included.
"""

import http.client
import http.server
import itertools
import json
import sys
import threading
import urllib.parse

ANSWER = "<?xml version='1.0' encoding='UTF-8'?><{0}><Bucket>{1}</Bucket><Key>-</Key>{2}</{0}>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize, disable_nagle_algorithm = -1, True  # an answer is one packet
    numbers = itertools.count(1)
    parts = {}  # upload id: {number: bytes}

    def backend(self, method, path, body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.backend, timeout=60)
        try:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "date", "content-length"):
                self.send_header(name, value)
        length = dict((name.lower(), value) for name, value in headers).get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def forward(self):
        headers = [(name, value) for name, value in self.headers.items() if name.lower() != "host"]
        self.answer(*self.backend(self.command, self.path, self.body(), headers))

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def insert(self, bucket, key, body):
        """Status, ETag and generation of an object that was written, or the refusal."""
        query = {"uploadType": "media", "name": urllib.parse.unquote(key)}
        if (generation := self.headers.get("x-goog-if-generation-match")) is not None:
            query["ifGenerationMatch"] = generation
        path = f"/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}"
        status, headers, answer = self.backend("POST", path, body, [("Content-Type", "application/octet-stream")])
        if status != 200:
            self.answer(status, headers, answer)
            return None
        made = json.loads(answer)
        return [("ETag", f'"{made["etag"].strip(chr(34))}"'), ("x-goog-generation", made["generation"])]

    def do_PUT(self):
        place = urllib.parse.urlsplit(self.path)
        query, body = dict(urllib.parse.parse_qsl(place.query)), self.body()
        if "uploadId" in query:
            self.parts[query["uploadId"]][int(query["partNumber"])] = body
            return self.answer(200, [("ETag", f'"{query["partNumber"]}"')], b"")
        _, bucket, key = place.path.split("/", 2)
        if (made := self.insert(bucket, key, body)) is not None:
            self.answer(200, made, b"")

    def do_POST(self):
        place = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(place.query, keep_blank_values=True))
        if place.path.startswith(("/storage/", "/upload/")):
            return self.forward()
        self.body()
        _, bucket, key = place.path.split("/", 2)
        if "uploads" in query:
            number = str(next(self.numbers))
            self.parts[number] = {}
            text = ANSWER.format("InitiateMultipartUploadResult", bucket, f"<UploadId>{number}</UploadId>")
            return self.answer(200, [], text.encode())
        parts = self.parts.pop(query["uploadId"])
        if (made := self.insert(bucket, key, b"".join(parts[number] for number in sorted(parts)))) is not None:
            self.server.in_parts.add(urllib.parse.unquote(key))
            text = ANSWER.format("CompleteMultipartUploadResult", bucket, f"<ETag>{made[0][1]}</ETag>")
            self.answer(200, made, text.encode())

    def do_DELETE(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if "uploadId" in query:
            self.parts.pop(query["uploadId"], None)
            return self.answer(204, [], b"")
        self.forward()

    do_GET = do_HEAD = forward

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # Of a client that was killed, or has heard enough.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def front(backend):
    """Starts a server before the one at port `backend`; it has a `server_port` and the keys that came in parts, `in_parts`."""
    server = Server(("127.0.0.1", 0), Handler)
    server.backend, server.in_parts = backend, set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
