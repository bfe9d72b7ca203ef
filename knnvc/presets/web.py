"""Opening web addresses with urllib: http and https only, and not for ever."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import Any
from urllib.parse import urlsplit

REDIRECTS = 5


class Watch:
    """For a `with` block: `opener` opens addresses, and gives up when the time is over.

    The timeout of a socket counts from byte to byte, so a server that sends its headers slowly
    could hold a caller for days. Once the block has ended, nothing is watched any more; `over` says
    whether the time was up, and what was opened is then not whole.
    """

    def __init__(self, seconds: float) -> None:
        self._sockets: list[socket.socket] = []
        self.over = False
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        watch = self

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                watch._add(self.sock)

        class SecureConnection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                watch._add(self.sock)

        class Plain(urllib.request.HTTPHandler):
            def http_open(self, request: Any) -> Any:
                return self.do_open(Connection, request)

        class Secure(urllib.request.HTTPSHandler):
            def https_open(self, request: Any) -> Any:
                return self.do_open(SecureConnection, request)

        self.opener = urllib.request.build_opener(Plain, Secure, WebOnly)

    def __enter__(self) -> Watch:
        """The time begins."""
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        """It ends."""
        self._timer.cancel()

    def _add(self, one: socket.socket) -> None:
        self._sockets.append(one)
        if self.over:
            self._end()

    def _end(self) -> None:
        self.over = True
        for one in self._sockets:
            with contextlib.suppress(OSError):  # closed already
                one.shutdown(socket.SHUT_RDWR)


class WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to http and https only, and never from https to http."""

    max_redirections = REDIRECTS
    max_repeats = 2

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        """The request to go on with.

        Raises:
            OSError: The new address is of another kind.
        """
        scheme = urlsplit(newurl).scheme.lower()
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            fp.close()
            raise OSError(f"it redirects to an address that is not {req.type}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
