"""A real S3 server on the loopback, and a proxy in front of it that damages chosen answers."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

BUCKET = "team"
SECRET = "very-secret-of-the-team"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDOFTHETEAM", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Answer:
    """What the server answered, and what is passed on of it; without `whole` the connection is cut after the body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool = True


@dataclass(frozen=True)
class Asked:
    """A request: method, path below the bucket, where its range starts."""

    method: str
    path: str
    start: int | None


#: Given a request and the sound answer: what the client gets.
Fault = Callable[[Asked, Answer], Answer]


def sound(_: Asked, answer: Answer) -> Answer:
    return answer


@dataclass
class S3:
    """The server behind its proxy. `endpoint` is the proxy's; `asked` are the requests since it was last cleared."""

    port: int
    endpoint: str = ""
    fault: Fault = sound
    asked: list[Asked] = field(default_factory=list)

    def objects(self, prefix: str = "") -> dict[str, int]:
        """The objects of the bucket: name → size."""
        text = self.request("GET", f"?list-type=2&prefix={prefix}").decode()
        rows = re.findall(r"<Contents>.*?</Contents>", text, re.DOTALL)
        return {re.search("<Key>(.*?)</Key>", row)[1]: int(re.search("<Size>(.*?)</Size>", row)[1]) for row in rows}

    def request(self, method: str, key: str, data: bytes | None = None) -> bytes:
        """Speak with the server itself."""
        url = f"http://127.0.0.1:{self.port}/{BUCKET}/{key}".replace("/?", "?")
        signed = "AWS4-HMAC-SHA256 Credential=me/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
        headers = {"Authorization": signed, "Content-Type": "application/octet-stream"}
        asked = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return bytes(answer.read())

    def hold(self, objects: Mapping[str, bytes]) -> None:
        """Begin again with these objects in the bucket, and no faults."""
        for key in self.objects().keys() - objects.keys():
            self.request("DELETE", key)
        for key, data in objects.items():
            self.request("PUT", key, data)
        self.fault = sound
        self.asked.clear()


@contextlib.contextmanager
def server() -> Iterator[S3]:
    """`moto_server`, and the proxy."""
    port = free_port()
    words = [sys.executable, "-c", "import sys; from moto.server import main; main(sys.argv[1:])"]
    process = subprocess.Popen(
        [*words, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    s3 = S3(port)
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(s3))
    proxy.daemon_threads = True
    s3.endpoint = f"http://127.0.0.1:{proxy.server_address[1]}"
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        _wait_for(s3)
        yield s3
    finally:
        proxy.shutdown()
        proxy.server_close()
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(s3: S3) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            s3.request("PUT", "")
            return
        except (OSError, urllib.error.URLError):
            assert time.monotonic() < end, "moto_server does not start"
            time.sleep(0.1)


def _handler(s3: S3) -> type[http.server.BaseHTTPRequestHandler]:
    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            data = self._body()
            server = http.client.HTTPConnection("127.0.0.1", s3.port, timeout=60)
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "transfer-encoding":
                    server.putheader(name, value)
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                server.putheader("Content-Length", str(len(data)))
            server.endheaders(data)
            got = server.getresponse()
            answer = Answer(got.status, got.getheaders(), got.read())
            start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            path = self.path.partition("?")[0].removeprefix(f"/{BUCKET}").lstrip("/")
            asked = Asked(self.command, path, int(start[1]) if start else None)
            s3.asked.append(asked)
            self._answer(s3.fault(asked, answer), len(answer.body))

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815  (as the base class looks for them)

        def _body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def _answer(self, answer: Answer, size: int) -> None:
            self.send_response_only(answer.status)
            headers = dict(answer.headers)
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(answer.body))
            headers["Content-Length"] = length if answer.whole else str(size)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)
            if not answer.whole:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    return Proxy
