"""A server that refuses whatever it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def refusing(status: int) -> Iterator[tuple[int, set[str]]]:
    """Answer every request with this status; yield the port, and the authorizations that arrive there."""
    seen: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            seen.add(self.headers.get("Authorization", ""))
            self.send_response(status)
            self.end_headers()

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, seen
        server.shutdown()
