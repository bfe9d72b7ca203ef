"""What importing costs: help has to be instant, so the heavy modules wait until they are needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import knnvc

HEAVY = {"torch", "torchaudio", "numpy", "transformers", "librosa", "faiss", "soundfile", "pyworld"}


def python(code: str, folder: Path) -> str:
    """Run `code` in a new interpreter away from the repository; what it prints."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "what",
    [
        "import knnvc; dir(knnvc)",
        "import knnvc.options, knnvc.registry, knnvc.progress, knnvc.errors",
        "import knnvc.registry as r; [r.entries(kind) for kind in r.KINDS]",
        "from knnvc import ConvertOptions, KnnvcError, SpeakOptions, UsageError; ConvertOptions()",
        "import knnvc.presets.search, knnvc.errors, knnvc.files",
        "from knnvc.cli.main import cli; run('--help')",
        "from knnvc.cli.main import cli; run('--version')",
        "from knnvc.cli.main import cli; run('convert', '--help')",
        "from knnvc.cli.main import cli; run('preset', 'list')",
        "from knnvc.cli.main import cli; run('voices')",
        "from knnvc.cli.main import cli; run('evaluate', '--help')",
        "from knnvc.cli.main import cli; run('evaluate', 'missing.csv', '-o', 'results')",
        "from knnvc.cli.main import cli; run('plot', 'frames', '--help')",
        "from knnvc.cli.main import cli; run('plot', 'matching', '.', '--ref', '.', '-o', 'a.pdf')",
        "from knnvc.cli.main import cli; run('probe', '--help')",
        "from knnvc.cli.main import cli; run('probe', 'run', '--help')",
        "from knnvc.cli.main import cli; run('anonymize', '--help')",
        "from knnvc.cli.main import cli; run('anonymize', 'missing', 'out')",
        "from knnvc.cli.main import cli; run('evaluate', '--privacy', 'missing', '-o', 'out')",
        "from knnvc.cli.main import cli; run('speak', '--help')",
        "from knnvc.cli.main import cli; run('speak', '--languages')",
        "from knnvc.cli.main import cli; run('speak', '', '--lam', '0')",
        "from knnvc.cli.main import cli; run('batch', '--help')",
        "from knnvc.cli.main import cli; run('batch', '.', 'out', '--ref', '.')",
        "from knnvc.cli.main import cli; run('cache', 'info')",
        "import knnvc.batch",
        "from knnvc.cli.main import cli; run('train', 'vocoder', '--help')",
        "from knnvc.cli.main import cli; run('train', 'encoder', '--corpus', 'missing')",
        "from knnvc.cli.main import cli; run('convert', '.', '--ref', 'voice:nobody')",
        "from knnvc.cli.main import cli; run('convert', 'missing.wav', '--ref', '.')",
        "from knnvc.cli.main import cli; run('convert', '.', '--ref', '.', '--lam', '3')",
    ],
)
def test_nothing_heavy_is_imported(what: str, tmp_path: Path) -> None:
    prelude = (
        "import sys\n"
        "def run(*args):\n"
        "    try: cli.main(list(args), prog_name='knnvc')\n"
        "    except SystemExit: pass\n"
    )
    report = f"\nprint('IMPORTED', *({HEAVY} & sys.modules.keys()))"
    printed = python(prelude + what + report, tmp_path)
    assert printed.splitlines()[-1] == "IMPORTED"


def test_public_names_arrive_when_used() -> None:
    for name in knnvc.__all__:
        assert getattr(knnvc, name) is not None
    assert len(knnvc.__all__) <= 10
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        knnvc.nothing  # noqa: B018


def test_inference_needs_no_training_code(tmp_path: Path) -> None:
    code = "import sys, knnvc.pipeline\nprint([m for m in sys.modules if 'knnvc.training' in m])"
    assert python(code, tmp_path).strip() == "[]"


def test_mini_converts_without_what_is_slow_to_import(tmp_path: Path) -> None:
    """transformers, with torch's compiler behind it, takes longer than converting a short clip."""
    clip = sorted((Path(__file__).parents[1] / "examples" / "audio" / "target").iterdir())[0]
    code = f"""
import sys, knnvc
waveform, rate = knnvc.convert({str(clip)!r}, {str(clip)!r})
assert len(waveform) and rate == 16_000
slow = {{"transformers", "torch._dynamo", "sympy", "scipy", "librosa", "onnxruntime"}}
print(sorted(slow & sys.modules.keys()))
"""
    assert python(code, tmp_path).strip() == "[]"
