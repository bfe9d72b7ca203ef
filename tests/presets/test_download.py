"""Published files: what is known of them, and downloading them from a server on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import save

from knnvc.errors import KnnvcError
from knnvc.presets import download as module
from knnvc.presets.download import REGISTRY, RemoteFile, download

CONTENT = bytes(range(256)) * 4000  # more than the sockets buffer


def sentence(error: BaseException) -> str:
    """Return the message, after making sure that it is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) <= 200
    return text


@dataclass
class Server:
    """What the loopback server does, and which Range headers it was sent."""

    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    stop_after: int | None = None  # close the connection after so many bytes of the body
    honour_range: bool = True
    send_length: bool = True
    status: int = 200
    wrong_range: bool = False
    content: bytes = CONTENT
    headers: dict[str, str] = field(default_factory=dict)
    sent: list[dict[str, str]] = field(default_factory=list)  # the headers of the requests
    location: str = ""  # of a redirect
    if_range: bool = True  # whether If-Range is understood
    pause: float = 0.0  # seconds between small pieces of the body


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            state.sent.append(dict(self.headers))
            if state.status != 200:
                self.send_response(state.status)
                self.send_header("Location", state.location)
                self.end_headers()
                return
            self._answer(self._start(asked))

        def _start(self, asked: str | None) -> int | None:
            known = self.headers.get("If-Range")
            changed = known is not None and known not in state.headers.values()
            if not asked or not state.honour_range or (changed and state.if_range):
                return None
            return int(asked.removeprefix("bytes=").removesuffix("-"))

        def _answer(self, start: int | None) -> None:
            size = len(state.content)
            if start is None:
                self.send_response(200)
            elif start >= size:
                self.send_error(416)
                return
            else:
                self.send_response(206)
                claimed = 0 if state.wrong_range else start
                self.send_header("Content-Range", f"bytes {claimed}-{size - 1}/{size}")
            body = state.content[start or 0 :]
            if state.send_length:
                self.send_header("Content-Length", str(len(body)))
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have heard enough
                body = body if state.stop_after is None else body[: state.stop_after]
                while state.pause and body:
                    self.wfile.write(body[:10])
                    body = body[10:]
                    time.sleep(state.pause)
                self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        state.url = f"http://127.0.0.1:{httpd.server_address[1]}/weights.pt"
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            httpd.shutdown()
            thread.join()


DATES = ("Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 22 Oct 2015 07:28:00 GMT")


def pickled() -> bytes:
    """A checkpoint as torch wrote it before 1.6."""
    held = io.BytesIO()
    torch.save({"model": {"x": torch.ones(50)}}, held, _use_new_zipfile_serialization=False)
    return held.getvalue()


def zipped(seed: int = 0, size: int = 400_000) -> bytes:
    """A checkpoint as torch writes it: a zip file."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        # Its date is always 1980, so that the same seed gives the same bytes.
        file.writestr(zipfile.ZipInfo("archive/data.pkl"), random.Random(seed).randbytes(size))
    return held.getvalue()


def safetensors() -> bytes:
    return save({"x": torch.ones(50)}, {"about": "a test"})


def remote_for(server: Server, **changes: Any) -> RemoteFile:
    remote = RemoteFile(
        name="weights.pt",
        url=server.url,
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        licence="MIT",
    )
    return replace(remote, **changes)


def test_download_succeeds_and_is_not_repeated(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    folder = tmp_path / "new" / "cache"
    remote = remote_for(server)
    path = download(remote, folder, progress=lambda done, total: steps.append((done, total)))
    assert path == folder / "weights.pt"
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert list(folder.iterdir()) == [path]
    assert download(remote, folder) == path
    assert server.ranges == [None]


def test_cut_connection_is_resumed(server: Server, tmp_path: Path) -> None:
    server.stop_after = 300_000
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    message = sentence(caught.value)
    assert f"cut after 300000 of {len(CONTENT)} bytes" in message
    assert message.endswith("/weights.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt.part"]

    server.stop_after = None
    steps: list[int] = []
    path = download(remote_for(server), tmp_path, progress=lambda done, _: steps.append(done))
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]
    assert steps[0] > 300_000  # progress counts what was there before


@pytest.mark.parametrize("how", ["honour_range", "wrong_range"])
def test_server_that_cannot_resume_starts_over(server: Server, tmp_path: Path, how: str) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    setattr(server, how, how == "wrong_range")
    assert download(remote_for(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges[0] == "bytes=1000-"


def test_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    part = tmp_path / "weights.pt.part"
    part.write_bytes(CONTENT + b"more")
    assert download(remote_for(server), tmp_path).read_bytes() == CONTENT
    part.write_bytes(CONTENT + b"more")
    (tmp_path / "weights.pt").unlink()
    unknown_size = remote_for(server, size=None)
    assert download(unknown_size, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={len(CONTENT) + 4}-", None]


def test_whole_part_is_taken_without_asking(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    assert download(remote_for(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == []


def test_length_need_not_be_known(server: Server, tmp_path: Path) -> None:
    server.send_length = False
    totals: set[int | None] = set()
    remote = remote_for(server, size=None)
    path = download(remote, tmp_path, progress=lambda _, total: totals.add(total))
    assert path.read_bytes() == CONTENT
    assert totals == {None}


def test_wrong_hash_removes_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server, sha256="0" * 64), tmp_path)
    assert "is not the published weights.pt (sha256" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_refused_before_the_download(server: Server, tmp_path: Path) -> None:
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server, size=10_000_000), tmp_path)
    assert f"{len(CONTENT)} bytes instead of 10000000" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_wrong_file_put_there_by_hand_is_named_and_kept(server: Server, tmp_path: Path) -> None:
    placed = tmp_path / "weights.pt"
    placed.write_bytes(CONTENT[::-1])
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert str(placed) in sentence(caught.value)
    assert "delete it" in str(caught.value)
    assert placed.exists()
    assert server.ranges == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_fills_up(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").symlink_to("/dev/full")  # every write there is ENOSPC
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert "the disk is full" in sentence(caught.value)
    assert not (tmp_path / "weights.pt").exists()


def test_disk_too_full_from_the_start(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int = 10_000
        used: int = 9_000
        free: int = 1_000

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage())
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert "free 2 MB more" in sentence(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_offline_says_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/WavLM-Large.pt"
        remote = REGISTRY["WavLM-Large.pt"]
        with pytest.raises(KnnvcError) as caught:
            download(remote, tmp_path, url=url, timeout=5)
    message = sentence(caught.value)
    assert "refused" in message
    assert message.endswith("/WavLM-Large.pt")
    assert f"put the file there as {tmp_path / 'WavLM-Large.pt'}" in caught.value.args[0]
    assert list(tmp_path.iterdir()) == []


def test_missing_page_is_one_sentence(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path)
    assert "the server answered 404" in sentence(caught.value)


def test_server_that_hangs_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        remote = RemoteFile("x", url, None, None, "MIT")
        with pytest.raises(KnnvcError) as caught:
            download(remote, tmp_path, timeout=5)
        thread.join()
    assert "cannot download" in sentence(caught.value)


def test_folder_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(KnnvcError) as caught:
        download(remote_for(server), tmp_path / "cache")
    assert "cannot write" in sentence(caught.value)


# Servers that misbehave, and files of which neither size nor sha256 is known --------------------


def unknown(server: Server, **changes: Any) -> RemoteFile:
    return remote_for(server, size=None, sha256=None, **changes)


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": DATES[0]}])
@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_meanwhile_starts_anew(
    server: Server, tmp_path: Path, headers: dict[str, str], if_range: bool
) -> None:
    server.headers, server.content, server.stop_after = headers, zipped(1), 100_000
    server.if_range = if_range  # a server that does not know it sends the rest of the new file
    with pytest.raises(KnnvcError, match="cut after 100000"):
        download(unknown(server), tmp_path)
    new = {"ETag": '"two"'} if "ETag" in headers else {"Last-Modified": DATES[1]}
    server.headers, server.content, server.stop_after = new, zipped(2), None
    assert download(unknown(server), tmp_path).read_bytes() == zipped(2)
    assert server.sent[1]["If-Range"] in headers.values()
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pt"]


def test_an_unchanged_file_goes_on_where_it_was_cut(server: Server, tmp_path: Path) -> None:
    server.headers, server.content = {"ETag": '"one"'}, zipped()
    server.stop_after = 100_000
    with pytest.raises(KnnvcError, match="cut after 100000"):
        download(unknown(server), tmp_path)
    server.stop_after = None
    assert download(unknown(server), tmp_path).read_bytes() == zipped()
    assert server.ranges == [None, "bytes=100000-"]


def test_without_any_mark_of_its_version_a_part_is_not_believed(
    server: Server, tmp_path: Path
) -> None:
    server.content = zipped()
    (tmp_path / "weights.pt.part").write_bytes(b"PK\x03\x04 of some other file")
    assert download(unknown(server), tmp_path).read_bytes() == zipped()
    assert server.ranges == [None]


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/octet-stream"])
@pytest.mark.parametrize("name", ["weights.pt", "config.json", "other.safetensors"])
def test_a_page_that_asks_to_log_in_is_no_file(
    server: Server, tmp_path: Path, kind: str, name: str
) -> None:
    server.headers = {"Content-Type": kind}
    server.content = b"\n<!DOCTYPE html><html><body>log in</body></html>"
    with pytest.raises(KnnvcError, match="web page") as caught:
        download(unknown(server, name=name), tmp_path)
    sentence(caught.value)
    assert list(tmp_path.iterdir()) == [] or kind.startswith("application")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("weights.pt", zipped()),
        ("weights.pth", pickled()),
        ("other.safetensors", safetensors()),
        ("config.json", b'{"model": "glow_tts", "long": [1, 2, 3]}'),
    ],
)
def test_a_body_that_was_cut_without_a_length_is_not_taken(
    server: Server, tmp_path: Path, name: str, content: bytes
) -> None:
    server.send_length, server.content, server.stop_after = False, content, len(content) - 7
    with pytest.raises(KnnvcError, match="end is missing") as caught:
        download(unknown(server, name=name), tmp_path)
    sentence(caught.value)
    assert list(tmp_path.iterdir()) == []
    server.stop_after = None
    assert download(unknown(server, name=name), tmp_path).read_bytes() == content


@pytest.mark.parametrize("size", [0, 30])
def test_what_is_no_file_of_its_kind_is_not_taken(
    server: Server, tmp_path: Path, size: int
) -> None:
    for name in ("weights.pt", "config.json", "other.safetensors"):
        server.content = b"\x01not it" * size
        with pytest.raises(KnnvcError, match="is not the published") as caught:
            download(unknown(server, name=name), tmp_path)
        sentence(caught.value)
        assert list(tmp_path.iterdir()) == []


def test_a_wrong_range_for_ever_costs_few_requests(server: Server, tmp_path: Path) -> None:
    server.wrong_range = True
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:1000])
    server.status, server.location = 206, ""  # a part, whatever is asked
    with pytest.raises(KnnvcError, match="other parts of the file") as caught:
        download(remote_for(server), tmp_path)
    sentence(caught.value)
    assert len(server.ranges) <= 3


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "gopher://x/"])
def test_redirects_lead_to_the_web_only(server: Server, tmp_path: Path, location: str) -> None:
    server.status, server.location = 302, location
    with pytest.raises(KnnvcError, match="cannot download") as caught:
        download(unknown(server), tmp_path)
    assert "redirects" in sentence(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KnnvcError, match="none of http"):
        download(unknown(server), tmp_path, url=location)


def test_redirects_end(server: Server, tmp_path: Path) -> None:
    server.status, server.location = 302, server.url
    with pytest.raises(KnnvcError, match="cannot download") as caught:
        download(unknown(server), tmp_path)
    sentence(caught.value)
    assert len(server.ranges) <= 6


def test_a_server_that_trickles_is_left(server: Server, tmp_path: Path) -> None:
    server.pause, server.content = 0.05, zipped()
    began = time.monotonic()
    with pytest.raises(KnnvcError, match="too long"):
        download(unknown(server), tmp_path, deadline=0.3)
    with pytest.raises(KnnvcError, match="too slow"):
        download(unknown(server), tmp_path, timeout=0.2)
    assert time.monotonic() - began < 30


def test_headers_that_trickle_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not over.wait(0.05):
                    connection.sendall(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        began = time.monotonic()
        with pytest.raises(KnnvcError, match="cannot download"):
            download(RemoteFile("x", url, None, None, "MIT"), tmp_path, timeout=0.3)
        assert time.monotonic() - began < 30
        over.set()
        thread.join()


@pytest.mark.parametrize("length", [None, 10**12])
def test_what_never_ends_is_not_taken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int | None
) -> None:
    monkeypatch.setattr(module, "LARGEST_JSON", 1000)
    server.send_length = False
    if length:
        server.headers = {"Content-Length": str(length)}
    server.content = b"{" + b" " * 100_000
    with pytest.raises(KnnvcError, match="is not the published"):
        download(unknown(server, name="config.json"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_server_says_is_shown_without_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(
                    b"HTTP/1.1 500 \x1b]0;owned\x07\x1b[31m" + b"x" * 500 + b"\r\n\r\n"
                )

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(KnnvcError) as caught:
            download(RemoteFile("x", url, None, None, "MIT"), tmp_path, timeout=5)
        thread.join()
    assert "answered 500" in sentence(caught.value)
    assert str(caught.value).isprintable()


def test_a_name_is_a_name(server: Server, tmp_path: Path) -> None:
    for name in ("..", "../x.pt", "a/b", ""):
        with pytest.raises(KnnvcError, match="no name for a file"):
            download(remote_for(server, name=name), tmp_path)
    assert server.ranges == []


# Registry ---------------------------------------------------------------------------------------


def test_registry_states_what_is_known() -> None:
    wavlm, vocoder = REGISTRY["WavLM-Large.pt"], REGISTRY["prematch_g_02500000.pt"]
    assert wavlm.size == 1_261_965_425
    assert vocoder.size is None
    for remote in REGISTRY.values():
        assert remote.url.startswith("https://")
        renamed = "under another name" in remote.note
        assert remote.url.endswith("/" + remote.name) != renamed
        if remote.sha256 is None:
            # Nobody published it: the note says so, and that such a file cannot do harm.
            assert renamed or "Neither size nor sha256 is published" in remote.note
        else:
            assert len(bytes.fromhex(remote.sha256)) == 32
        assert remote.licence
    assert "two third-party sources" in vocoder.note


def test_registry_needs_no_torch() -> None:
    code = (
        "import sys, knnvc.presets.search as p; p.list_presets(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
