"""Published files: the registry of where they are, and their download."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from knnvc.errors import KnnvcError
from knnvc.files import os_reason, sha256_file

Progress = Callable[[int, int | None], None]  # (bytes there, bytes in all or None)

_BLOCK_BYTES = 1 << 18
_RELEASE = "https://github.com/bshall/knn-vc/releases/download/v0.1/"
_KNN_TTS = "https://huggingface.co/idiap/kNN-TTS/resolve/main/"


@dataclass(frozen=True)
class RemoteFile:
    """A published file: where it is, what it must be, and on which terms.

    `size` is in bytes; `size` and `sha256` are None where nobody has published them.
    """

    name: str
    url: str
    size: int | None
    sha256: str | None
    licence: str
    note: str = ""


REGISTRY: dict[str, RemoteFile] = {
    remote.name: remote
    for remote in (
        RemoteFile(
            name="WavLM-Large.pt",
            url=_RELEASE + "WavLM-Large.pt",
            size=1_261_965_425,
            sha256="6fb4b3c3e6aa567f0a997b30855859cb81528ee8078802af439f7b2da0bf100f",
            licence="MIT",
            note="WavLM-Large of Microsoft's unilm, as mirrored by the kNN-VC release v0.1.",
        ),
        RemoteFile(
            name="prematch_g_02500000.pt",
            url=_RELEASE + "prematch_g_02500000.pt",
            size=None,
            sha256="f924c7632c6eaf99004386d62293e124419e33582573552a6ae976eb88ed2dd5",
            licence="MIT",
            note="HiFi-GAN of the kNN-VC release v0.1, trained on prematched features. "
            "Its sha256 comes from one third-party source only; its size is not published.",
        ),
        RemoteFile(
            name="best_model_646135.pth",
            url=_KNN_TTS + "best_model_646135.pth",
            size=None,
            sha256=None,
            licence="MIT",
            note="Glow-TTS of kNN-TTS, trained on LJSpeech (public domain). Neither size nor "
            "sha256 is published; it is opened as tensors only and checked against its config.",
        ),
        RemoteFile(
            name="knn-tts-config.json",
            url=_KNN_TTS + "config.json",
            size=None,
            sha256=None,
            licence="MIT",
            note="config.json of kNN-TTS, under another name because it shares a folder here.",
        ),
    )
}


def download(
    remote: RemoteFile,
    folder: Path,
    *,
    progress: Progress | None = None,
    url: str | None = None,
    timeout: float = 30.0,
) -> Path:
    """Fetch a published file into `folder` unless it is there already, and return its path.

    The file grows as NAME.part and takes its name only once size and sha256 are right. After a cut
    connection or a full disk the part stays, and the next call goes on from where it ended.

    Args:
        remote: What to fetch.
        folder: Where to; created if missing.
        progress: Called with (bytes there, bytes in all or None) after each block.
        url: Another address of the same file, for instance a mirror.
        timeout: Seconds without any answer after which the server counts as unreachable.

    Raises:
        KnnvcError: No network, a cut connection, a full disk, or another file than the published
            one. The message says what to do, and which file to put where by hand.
    """
    folder = Path(folder)
    target = folder / remote.name
    part = folder / f"{remote.name}.part"
    if target.exists():
        problem = _difference(target, remote)
        if problem:
            raise KnnvcError(
                f"{target} is not the published file ({problem}): delete it and run this again"
            )
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(remote, url or remote.url, part, target, progress, timeout)
        problem = _difference(part, remote)
        if problem:
            part.unlink()
            raise KnnvcError(
                f"what arrived is not the published {remote.name} ({problem}) and was removed: "
                f"run this again, {_by_hand(remote, target)}"
            )
        os.replace(part, target)
    except OSError as error:
        raise KnnvcError(
            f"cannot write {part}: {os_reason(error)}; "
            "the part that has arrived is kept, and running this again goes on from there"
        ) from error
    return target


def _fetch(
    remote: RemoteFile,
    url: str,
    part: Path,
    target: Path,
    progress: Progress | None,
    timeout: float,
) -> None:
    """Bring `part` to its full length. OSErrors that leave here are about the disk."""
    done = part.stat().st_size if part.exists() else 0
    if remote.size is not None and done == remote.size:
        return
    if remote.size is not None and done > remote.size:
        part.unlink()
        done = 0
    response, done = _open(remote, url, done, target, timeout)
    with response:
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        if remote.size is not None and total is not None and total != remote.size:
            # A login page of the network, for instance: not worth fetching to the end.
            raise KnnvcError(
                f"{url} offers {total} bytes and not the {remote.size} of the published "
                f"{remote.name}: check the network, {_by_hand(remote, target)}"
            )
        total = total if total is not None else remote.size
        needed = (total or 0) - done
        free = shutil.disk_usage(part.parent).free
        if needed > free:
            raise KnnvcError(
                f"the disk is too full for {remote.name}: free {_megabytes(needed - free)} more "
                f"for {part.parent}, or set KNNVC_CACHE to a folder on another disk"
            )
        # "ab" keeps what is there; a server that ignores the range starts over.
        with part.open("ab" if done else "wb") as file:
            while True:
                try:
                    block = response.read(_BLOCK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _cut(remote, target, done, total) from error
                if not block:
                    break
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
    # http.client reports a connection that ends early as an ordinary end of file.
    if total is not None and done < total:
        raise _cut(remote, target, done, total)


def _open(
    remote: RemoteFile, url: str, done: int, target: Path, timeout: float
) -> tuple[http.client.HTTPResponse, int]:
    """Ask for the bytes from `done` on; return the answer and where it really begins."""
    headers = {"User-Agent": "knnvc"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if done and error.code == 416:  # the part is longer than the file: begin again
            return _open(remote, url, 0, target, timeout)
        reason = f"the server answered {error.code} {error.reason}"
        raise _unreachable(remote, url, target, reason) from error
    except (OSError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", None) or str(error) or "no answer")
        raise _unreachable(remote, url, target, reason) from error
    asked = f"bytes {done}-"
    if response.status == 206 and response.headers.get("Content-Range", "").startswith(asked):
        return response, done
    if response.status == 206:  # some other range than the one asked for
        response.close()
        return _open(remote, url, 0, target, timeout)
    return response, 0


def _difference(path: Path, remote: RemoteFile) -> str | None:
    """Say how a file differs from the published one, or None if it does not."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{size} bytes instead of {remote.size}"
    if remote.sha256 is not None:
        digest = sha256_file(path)
        if digest != remote.sha256:
            return f"sha256 {digest[:12]}... instead of {remote.sha256[:12]}..."
    return None


def _unreachable(remote: RemoteFile, url: str, target: Path, reason: str) -> KnnvcError:
    return KnnvcError(
        f"cannot download {url} ({reason}): check the network and run this again, "
        f"{_by_hand(remote, target)}"
    )


def _cut(remote: RemoteFile, target: Path, done: int, total: int | None) -> KnnvcError:
    of = f" of {total}" if total is not None else ""
    return KnnvcError(
        f"the connection was cut after {done}{of} bytes of {remote.name}: "
        f"run this again to go on from there, {_by_hand(remote, target)}"
    )


def _by_hand(remote: RemoteFile, target: Path) -> str:
    return f"or fetch {remote.url} on another machine and put it there as {target}"


def _megabytes(count: int) -> str:
    return f"{-(-count // 1_000_000)} MB"
