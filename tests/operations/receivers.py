"""Receivers on loopback for what a deployment sends: StatsD over UDP, OpenTelemetry and OpenLineage over HTTP."""

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

MOST_BYTES = 65535


@dataclass(frozen=True)
class Packets:
    """What came over UDP: StatsD's lines, such as `airflow.ti_successes:1|c`."""

    port: int
    lines: list[str] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """What was sent for a metric, in order."""
        sent = (line.partition("|")[0].rpartition(":") for line in self.lines)
        return [float(value) for found, _, value in sent if found == name]

    def wait_for(self, count: int) -> None:
        """Returns when so many lines have come; fails after a minute."""
        deadline = time.monotonic() + 60
        while len(self.lines) < count:
            assert time.monotonic() < deadline, f"{len(self.lines)} of {count} lines came: {self.lines}"
            time.sleep(0.01)


@contextmanager
def statsd() -> Iterator[Packets]:
    """Receives StatsD on a free port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        packets = Packets(receiver.getsockname()[1])
        thread = threading.Thread(target=_receive, args=(receiver, packets.lines))
        thread.start()
        try:
            yield packets
        finally:
            receiver.sendto(b"", ("127.0.0.1", packets.port))
            thread.join()


def _receive(receiver: socket.socket, lines: list[str]) -> None:
    while packet := receiver.recv(MOST_BYTES):
        lines.extend(packet.decode().splitlines())


@dataclass(frozen=True)
class Posts:
    """What was posted to an HTTP server that accepts everything: paths and bodies."""

    url: str
    received: list[tuple[str, bytes]] = field(default_factory=list)

    def events(self) -> list[dict[str, Any]]:
        """OpenLineage's events."""
        return [json.loads(body) for path, body in self.received if path == "/api/v1/lineage"]

    def metrics(self) -> dict[str, list[Any]]:
        """OpenTelemetry's metrics by name, as the protocol's own messages, each with the data points that came."""
        found: dict[str, list[Any]] = {}
        for path, body in self.received:
            if path == "/v1/metrics":
                request = ExportMetricsServiceRequest.FromString(body)
                for metric in (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics):
                    found.setdefault(metric.name, []).append(metric)
        return found


@contextmanager
def http() -> Iterator[Posts]:
    """Receives what is posted, on a free port."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received.append((self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") else body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Posts(f"http://127.0.0.1:{server.server_port}", received)
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def deaf() -> Iterator[str]:
    """The address of a server that lets everybody connect and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
