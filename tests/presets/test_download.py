"""Published files: what is known of them, and downloading them from a server on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from knnvc.errors import KnnvcError
from knnvc.presets.download import REGISTRY, RemoteFile, download

CONTENT = bytes(range(256)) * 4000  # more than the sockets buffer


def sentence(error: BaseException) -> str:
    """Return the message, after making sure that it is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            if state.status != 200:
                self.send_error(state.status)
                return
            start = 0
            if asked and state.honour_range:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
                if start >= len(CONTENT):
                    self.send_error(416)
                    return
                claimed = 0 if state.wrong_range else start
                self.send_response(206)
                last = len(CONTENT) - 1
                self.send_header("Content-Range", f"bytes {claimed}-{last}/{len(CONTENT)}")
            else:
                self.send_response(200)
            body = CONTENT[start:]
            if state.send_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client may have heard enough
                self.wfile.write(body if state.stop_after is None else body[: state.stop_after])

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
    assert str(tmp_path / "weights.pt") in message
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
    assert f"offers {len(CONTENT)} bytes and not the 10000000" in sentence(caught.value)
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
    assert remote.url in message
    assert f"put it there as {tmp_path / 'WavLM-Large.pt'}" in message
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
    assert "one third-party source" in vocoder.note


def test_registry_needs_no_torch() -> None:
    code = (
        "import sys, knnvc.presets.search as p; p.list_presets(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
