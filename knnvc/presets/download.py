"""Published files: the registry of where they are, and their download.

A server is not believed: what arrives is compared with what is known of the file (size, sha256),
and where nobody has published these, with its format. A download that was cut goes on only if the
server says that the file is still the same (RFC 9110, If-Range).
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from knnvc.errors import KnnvcError, shown
from knnvc.files import os_reason, sha256_file
from knnvc.presets.sniff import is_page, kind_of, problem_of
from knnvc.presets.web import Watch

Progress = Callable[[int, int | None], None]  # (bytes there, bytes in all or None)

LARGEST = 20_000_000_000  # bytes of a file whose size nobody has published
LARGEST_JSON = 10_000_000
DEADLINE = 24 * 3600.0  # seconds for one call, whatever arrives meanwhile
REQUESTS = 3  # in one call, redirects not counted
SLOWEST = 500.0  # bytes a second

_BLOCK_BYTES = 1 << 18
_SLOW_TIMEOUTS = 2  # over which the speed is measured
_PAGE = "it is a web page; perhaps this network asks you to log in"
_VALIDATOR_BYTES = 200  # longer ones are not kept
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
            note="WavLM-Large of Microsoft's unilm (MIT), as mirrored by the kNN-VC release v0.1. "
            "The model's page on Hugging Face points to CC BY-SA 3.0 instead.",
        ),
        RemoteFile(
            name="prematch_g_02500000.pt",
            url=_RELEASE + "prematch_g_02500000.pt",
            size=None,
            sha256="f924c7632c6eaf99004386d62293e124419e33582573552a6ae976eb88ed2dd5",
            licence="MIT",
            note="HiFi-GAN of the kNN-VC release v0.1, trained on prematched features. "
            "Its sha256 comes from two third-party sources; its size is not published.",
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
    deadline: float = DEADLINE,
) -> Path:
    """Fetch a published file into `folder` unless it is there already, and return its path.

    The file grows as NAME.part and takes its name only once it is what it should be. After a cut
    connection or a full disk the part stays, with NAME.part.json that says which version of the
    file it is a part of, and the next call goes on from where it ended.

    Args:
        remote: What to fetch.
        folder: Where to; created if missing.
        progress: Called with (bytes there, bytes in all or None) after each block.
        url: Another address of the same file, for instance a mirror.
        timeout: Seconds without any byte after which the server counts as unreachable.
        deadline: Seconds after which the call ends, even if bytes still trickle in.

    Raises:
        KnnvcError: No network, a cut connection, a full disk, or another file than the published
            one. The message says what to do.
    """
    folder = Path(folder)
    if remote.name in ("", ".", "..") or Path(remote.name).name != remote.name:
        raise KnnvcError(f"{remote.name!r} is no name for a file: correct the registry")
    fetching = _Fetching(remote, url or remote.url, folder, progress, timeout, deadline)
    target, part = fetching.target, fetching.part
    try:
        if target.exists():
            problem = _difference(target, remote)
            if problem:
                raise KnnvcError(
                    f"{target} is not the published file ({problem}): delete it and try again"
                )
            return target
        folder.mkdir(parents=True, exist_ok=True)
        fetching.run()
        problem = _difference(part, remote)
        if problem:
            fetching.forget()
            raise KnnvcError(
                f"what arrived is not the published {remote.name} ({problem}) and was removed: "
                f"run this again, {fetching.by_hand}"
            )
        os.replace(part, target)
        fetching.forget()
    except OSError as error:
        raise KnnvcError(
            f"cannot write {part}: {os_reason(error)}; "
            "what has arrived is kept, and running this again goes on from there"
        ) from error
    return target


class _Fetching:
    """One call of `download`. OSErrors that leave its methods are about the disk."""

    def __init__(
        self,
        remote: RemoteFile,
        url: str,
        folder: Path,
        progress: Progress | None,
        timeout: float,
        deadline: float,
    ) -> None:
        self.remote, self.url, self.progress, self.timeout = remote, url, progress, timeout
        self.target = folder / remote.name
        self.part = folder / f"{remote.name}.part"
        self.note = folder / f"{remote.name}.part.json"
        self.kind = kind_of(remote.name)
        self.ends = time.monotonic() + deadline
        self.requests = 0
        self.size: int | None = None  # of the file that the part is of

    @property
    def by_hand(self) -> str:
        """What to do where there is no network."""
        return f"or put the file there as {self.target}"

    @property
    def largest(self) -> int:
        """The most bytes that are taken."""
        if self.remote.size is not None:
            return self.remote.size
        return LARGEST_JSON if self.kind == "json" else LARGEST

    def run(self) -> None:
        """Bring the part to its full length."""
        done = self.part.stat().st_size if self.part.exists() else 0
        if self.remote.size is not None and done == self.remote.size:
            return
        validator = self._validator() if done else None
        # Of a file with a sha256, a wrong joint is found; of another only the server can tell.
        if done > self.largest or (validator is None and self.remote.sha256 is None):
            done = 0
        response, done = self._open(done, validator)
        with response:
            total = self._total(response, done)
            if not done:
                self._keep_validator(response, total)
            # "ab" keeps what is there; a server that ignores the range starts over.
            with self.part.open("ab" if done else "wb") as file:
                done = self._receive(response, file.write, done, total)
        # http.client reports a connection that ends early as an ordinary end of file.
        if total is not None and done < total:
            raise self._cut(done, total)
        if self.remote.sha256 is None:
            problem = problem_of(self.part, self.kind, whole=True)
            if problem:
                self.forget()
                raise self._unlike(problem)

    def forget(self) -> None:
        """Remove the part and what is known of it."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _receive(
        self, response: Any, write: Callable[[bytes], Any], done: int, total: int | None
    ) -> int:
        """Write all that comes; return how much is there then."""
        looked, then = time.monotonic(), done
        while True:
            now = time.monotonic()
            if now > self.ends:
                raise self._cut(done, total, "it took too long")
            if now - looked > _SLOW_TIMEOUTS * self.timeout:
                if done - then < SLOWEST * (now - looked):
                    raise self._cut(done, total, "it became too slow")
                looked, then = now, done
            try:
                # read1: a server that sends a byte now and then must not hold a block back.
                block = response.read1(_BLOCK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise self._cut(done, total) from error
            if not block:
                return done
            if done == 0 and is_page(block):
                raise self._unlike(_PAGE)
            done += len(block)
            if done > (self.largest if total is None else total):
                self.forget()
                raise self._unlike(f"it is longer than {total or self.largest} bytes")
            write(block)
            if self.progress:
                self.progress(done, total)

    def _total(self, response: Any, done: int) -> int | None:
        """How many bytes the file has, if anybody says so; refuse what cannot be it."""
        kind = response.headers.get_content_type()
        if kind in ("text/html", "application/xhtml+xml"):
            raise self._unlike(_PAGE)
        if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise self._unlike("it comes packed, which was not asked for")
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None
        size = self.remote.size
        if size is not None and total is not None and total != size:
            raise self._unlike(f"{total} bytes instead of {size}")
        if total is not None and total > self.largest:
            raise self._unlike(f"{total} bytes are too many")
        total = total if total is not None else size
        needed = (total or 0) - done
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise KnnvcError(
                f"the disk is too full for {self.remote.name}: free {_megabytes(needed - free)} "
                f"more for {self.part.parent}, or set KNNVC_CACHE to a folder on another disk"
            )
        return total

    def _open(self, done: int, validator: str | None) -> tuple[Any, int]:
        """Ask for the bytes from `done` on; return the answer and where it really begins."""
        while self.requests < REQUESTS:
            self.requests += 1
            response = self._ask(done, validator)
            if response is None:  # there are no such bytes: begin again
                done = 0
                continue
            if response.status != 206:
                return response, 0
            given = response.headers.get("Content-Range", "")
            stated = _validators(response)
            same = validator is None or not stated or validator in stated
            if done and same and _same_range(given, done, self.remote.size or self.size):
                return response, done
            response.close()  # some other range than the one asked for
            done = 0
        raise self._unreachable("the server sends other parts of the file than asked for")

    def _ask(self, done: int, validator: str | None) -> Any:
        """One answer, or None if the file has no such bytes."""
        headers = {"User-Agent": "knnvc", "Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
            if validator is not None:
                headers["If-Range"] = validator
        wait = max(0.1, min(self.timeout, self.ends - time.monotonic()))
        try:
            if urlsplit(self.url).scheme not in ("http", "https"):
                raise _OtherSchemeError(self.url)
            request = urllib.request.Request(self.url, headers=headers)
            # The timeout counts for each byte; all headers together get two of them.
            with Watch(_SLOW_TIMEOUTS * wait) as watch:
                response = watch.opener.open(request, timeout=wait)
            if watch.over:
                raise OSError("it answers too slowly")
            return response
        except urllib.error.HTTPError as error:
            error.close()
            if done and error.code == 416:  # the part is longer than the file
                return None
            words = shown(error.reason, lines=False)[:60]
            if 300 < error.code < 400:
                words = "and redirects in circles or off the web"
            reason = f"the server answered {error.code} {words}"
            raise self._unreachable(reason) from error
        except _OtherSchemeError as error:
            raise self._unreachable("the address is none of http or https") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", None) or str(error) or "no answer")
            raise self._unreachable(reason[:80]) from error

    # What the part is a part of -----------------------------------------------------------------

    def _validator(self) -> str | None:
        """By which the server tells whether the file has changed since the part came."""
        try:
            kept = json.loads(self.note.read_text(encoding="utf-8"))
            url, validator, size = kept["url"], kept["validator"], kept["size"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        if url != self.url or not isinstance(validator, str) or not _is_header(validator):
            return None
        self.size = size if type(size) is int else None
        return validator

    def _keep_validator(self, response: Any, total: int | None) -> None:
        found = _validators(response)
        if not found:
            self.note.unlink(missing_ok=True)
            return
        text = json.dumps({"url": self.url, "validator": found[0], "size": total})
        self.note.write_text(text, encoding="utf-8")

    # Sentences ----------------------------------------------------------------------------------

    def _unreachable(self, reason: str) -> KnnvcError:
        return KnnvcError(
            f"cannot download {self.url} ({reason}): check the network, {self.by_hand}"
        )

    def _unlike(self, problem: str) -> KnnvcError:
        return KnnvcError(
            f"what {self._host} sends is not the published {self.remote.name} ({problem}): "
            f"check the network, {self.by_hand}"
        )

    @property
    def _host(self) -> str:
        with contextlib.suppress(ValueError):
            return urlsplit(self.url).netloc.rpartition("@")[2] or "the server"
        return "the server"

    def _cut(self, done: int, total: int | None, why: str = "") -> KnnvcError:
        of = f" of {total}" if total is not None else ""
        reason = f" ({why})" if why else ""
        return KnnvcError(
            f"the connection was cut after {done}{of} bytes of {self.remote.name}{reason}: "
            f"run this again to go on from there, {self.by_hand}"
        )


class _OtherSchemeError(OSError):
    """An address that is neither http nor https."""


def _validators(response: Any) -> list[str]:
    """By what the answer says which version of the file it is; the better one first."""
    tag = response.headers.get("ETag", "").strip()
    date = response.headers.get("Last-Modified", "").strip()
    found = [] if tag.startswith("W/") else [tag]  # a weak one says nothing of single bytes
    if email.utils.parsedate(date) is not None:
        found.append(date)
    return [one for one in found if _is_header(one)]


def _same_range(given: str, done: int, size: int | None) -> bool:
    """Whether a Content-Range goes from `done` to the end of the file."""
    match = re.fullmatch(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15}|\*)", given.strip())
    if match is None or int(match[1]) != done or int(match[2]) < done:
        return False
    whole = size if match[3] == "*" else int(match[3])
    if size is not None and whole != size:
        return False
    return whole is None or int(match[2]) == whole - 1


def _is_header(text: str) -> bool:
    """Whether a validator may be sent as a header: short, and no control characters."""
    return 0 < len(text) <= _VALIDATOR_BYTES and text.isascii() and text.isprintable()


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
    return problem_of(path, kind_of(remote.name), whole=True)


def _megabytes(count: int) -> str:
    return f"{-(-count // 1_000_000)} MB"
