"""`knnvc doctor`: what a report of a bug should say about this computer."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

import click

from knnvc import __version__, cores
from knnvc.cli.common import say, set_threads, table
from knnvc.errors import KnnvcError

_PACKAGES = (
    "torch", "torchaudio", "transformers", "numpy", "safetensors", "soundfile", "av", "faiss-cpu",
    "librosa", "pyworld-prebuilt", "espeakng-loader", "click",
)  # fmt: skip
_EXTRAS = {
    "eval": ("distillmos", "faster_whisper", "jiwer", "matplotlib", "resemblyzer"),
    "ray": ("ray",),
    "onnx": ("onnx",),
    "train": ("accelerate",),
}
_LEAST_FREE = 2e9  # bytes: a published preset takes 1.3 GB while it is made


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def doctor(as_json: bool) -> None:
    """Tell versions, devices, folders and presets, and what is wrong with them.

    Put what it prints into a report of a bug. It names folders of yours, and no recordings. The
    exit status is 1 if something that knnvc needs is missing.
    """
    problems: list[str] = []
    found = {
        "versions": _versions(problems),
        "computing": _computing(problems),
        "folders": _folders(problems),
        "presets": _presets(problems),
        "extras": _extras(),
    }
    if as_json:
        say(json.dumps({**found, "problems": problems}, indent=1))
    else:
        for title, rows in found.items():
            say(title)
            table(list(rows.items()))
        for problem in problems:
            say(f"Warning: {problem}", error=True)
        if not problems:
            say("nothing is missing")
    if problems:
        sys.exit(1)


def _versions(problems: list[str]) -> dict[str, str]:
    rows = {
        "knnvc": __version__,
        "Python": platform.python_version(),
        "system": platform.platform(),
    }
    for name in _PACKAGES:
        try:
            rows[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            rows[name] = "missing"
            problems.append(f"the package {name} is missing: install knnvc again with pip")
    return rows


def _computing(problems: list[str]) -> dict[str, str]:
    rows = {"processors": str(os.cpu_count() or "not known")}
    if cores.usable() < (os.cpu_count() or 1):
        rows["processors"] += f", of which {cores.usable()} may be used"
    try:
        import torch
    except Exception as error:  # whatever a broken installation raises
        problems.append(f"torch cannot be imported ({error}): install it again")
        return rows
    set_threads(None)
    rows["threads"] = str(torch.get_num_threads())
    rows["vector instructions"] = torch.backends.cpu.get_cpu_capability()
    devices = ["cpu"]
    devices += [
        f"cuda:{number} ({torch.cuda.get_device_name(number)})"
        for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    ]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    rows["devices"] = ", ".join(devices)
    try:
        from knnvc.text.espeak import languages

        rows["languages of speech"] = str(len(languages()))
    except Exception as error:  # a library that does not load raises OSError and others
        problems.append(f"espeak-ng cannot be loaded ({error}): install espeakng-loader again")
    return rows


def _folders(problems: list[str]) -> dict[str, str]:
    from knnvc.files import cache_dir, data_dir

    rows = {}
    for name, folder in (("cache", cache_dir()), ("own voices", data_dir() / "voices")):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        free = shutil.disk_usage(there).free
        writable = there.is_dir() and os.access(there, os.W_OK)
        state = f"{_gigabytes(_size(folder))} used, " if folder.is_dir() else "not there yet, "
        rows[name] = f"{folder}: {state}{_gigabytes(free)} free"
        if not writable:
            problems.append(f"cannot write into {there}: change its permissions")
        elif free < _LEAST_FREE and name == "cache":
            problems.append(f"only {_gigabytes(free)} are free for {folder}: make room there")
    for name in sorted(os.environ):
        if name.startswith("KNNVC_"):
            rows[name] = os.environ[name]
    return rows


def _presets(problems: list[str]) -> dict[str, str]:
    from knnvc.presets.search import list_presets
    from knnvc.voices.ready import list_voices

    rows = {}
    try:
        rows = {entry.name: entry.status for entry in list_presets()}
        voices = list_voices()
        rows["ready voices"] = ", ".join(voices) or "none"
    except KnnvcError as error:
        problems.append(str(error))
    return rows


def _extras() -> dict[str, str]:
    import importlib.util

    rows = {}
    for extra, modules in _EXTRAS.items():
        missing = [one for one in modules if importlib.util.find_spec(one) is None]
        rows[extra] = f"not installed: {', '.join(missing)}" if missing else "installed"
    return rows


def _size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size  # noqa: PTH118
            except OSError:  # gone meanwhile
                continue
    return total


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"
