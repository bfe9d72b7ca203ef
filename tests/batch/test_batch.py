"""Many files: what is planned, what is kept, and that killing it anywhere changes nothing."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from knnvc.batch.journal import Done, History, Journal, Stamp, read_history
from knnvc.batch.manifest import Item, find_items
from knnvc.batch.plan import BatchOptions, Planned, in_order, make_plan
from knnvc.batch.run import Report, convert_batch
from knnvc.errors import UsageError

RATE = 16_000
EXAMPLES = Path(__file__).parents[2] / "examples" / "audio"


def noise(path: Path, seconds: float = 0.5, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.05 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    sf.write(path, samples, RATE)
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and a cache of its own."""
    monkeypatch.setenv("KNNVC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def takes(home: Path) -> Path:
    noise(home / "takes" / "b.wav", 0.4, 1)
    noise(home / "takes" / "may" / "a.flac", 0.8, 2)
    noise(home / "takes" / "may" / "c.wav", 0.9, 3)
    return home / "takes"


@pytest.fixture
def anna(home: Path) -> Path:
    noise(home / "anna" / "one.wav", 1.0, 4)
    return home / "anna"


def plan(
    source: Any, refs: Any = ("anna",), history: History | None = None, **options: Any
) -> list[Planned]:
    chosen = BatchOptions(**options)
    return make_plan(source, "out", refs, chosen, lambda: history or History())


def names(planned: list[Planned]) -> list[str]:
    return [line.output.as_posix() for line in planned]


# What is to be done -------------------------------------------------------------------------------


def test_the_output_mirrors_the_tree(takes: Path, anna: Path) -> None:
    assert names(plan("takes")) == ["out/b.wav", "out/may/a.wav", "out/may/c.wav"]
    assert names(plan("takes", suffix=".flac"))[1] == "out/may/a.flac"


def test_a_glob_mirrors_below_its_fixed_part(takes: Path, anna: Path) -> None:
    assert names(plan("takes/**/*.wav")) == ["out/b.wav", "out/may/c.wav"]
    assert names(plan("takes/m*/*")) == ["out/may/a.wav", "out/may/c.wav"]
    assert names(plan("takes/may/c.wav")) == ["out/c.wav"]
    with pytest.raises(UsageError, match="matches no recordings"):
        plan("takes/*.mp3")


def test_results_inside_the_source_folder_are_no_sources(takes: Path, anna: Path) -> None:
    noise(takes / "out" / "b.wav")
    assert len(find_items("takes", Path("takes/out"), ".wav")) == 3


def test_csv_manifest(takes: Path, anna: Path, home: Path) -> None:
    noise(home / "ben.wav", 1.0, 5)
    (home / "takes" / "list.csv").write_text(
        "source,ref,output,lam,k\n"
        "b.wav,,,0.5,\n"
        "may/a.flac,../ben.wav,x/renamed.flac,,8\n"
        '"may/c.wav",../anna:0.25;../ben.wav:0.75,,,\n',
        encoding="utf-8-sig",
    )
    first, second, third = (line.task for line in plan("takes/list.csv", lam=0.7, k=2))
    assert first is not None
    assert second is not None
    assert third is not None
    assert [first.name, second.name, third.name] == ["b.wav", "x/renamed.flac", "may/c.wav"]
    assert [(t.lam, t.k) for t in (first, second, third)] == [(0.5, 2), (0.7, 8), (0.7, 2)]
    assert [Path(path).name for path, _ in first.voice.refs] == ["anna"]
    assert [Path(path).name for path, _ in second.voice.refs] == ["ben.wav"]
    assert [(Path(path).name, weight) for path, weight in third.voice.refs] == [
        ("anna", 0.25),
        ("ben.wav", 0.75),
    ]


def test_json_manifest_says_the_same_as_csv(takes: Path, anna: Path) -> None:
    rows = [{"source": "b.wav", "lam": 0.5, "k": 3, "ref": ["../anna"]}, {"source": "may/a.flac"}]
    (takes / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (takes / "list.csv").write_text("source,lam,k,ref\nb.wav,0.5,3,../anna\nmay/a.flac,,,\n")
    assert find_items("takes/list.jsonl", Path("out"), ".wav") == find_items(
        "takes/list.csv", Path("out"), ".wav"
    )
    assert find_items("takes/list.jsonl", Path("out"), ".wav")[1] == Item(
        Path("takes/may/a.flac"), Path("may/a.wav")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sauce\nb.wav\n", "unknown column 'sauce'"),
        ("ref,k\nanna,4\n", "no column 'source'"),
        ("source,lam\nb.wav,3\n", "line 2: lam is 3: give 0 to 2"),
        ("source,lam\nb.wav,nan\n", "line 2: lam"),
        ("source,k\nb.wav,2.5\n", "line 2: k is '2.5'"),
        ("source,k\nb.wav,0\n", "give 1 or more"),
        ("source\nb.wav,1\n", "more fields than columns"),
        ("source,output\nb.wav,../x.wav\n", "does not lie inside"),
        ("source,output\nb.wav,/x.wav\n", "does not lie inside"),
        ("source,output\nb.wav,x.txt\n", "does not end in"),
        ("source,output\nb.wav,.knnvc-batch/x.wav\n", "knnvc uses itself"),
        ("source,output\nb.wav,x.wav\nb.wav,x.wav\n", "would both become"),
        ("source\n\n", "no rows"),
        ("source\n \n", "the source is empty"),
    ],
)
def test_a_wrong_manifest_is_refused_as_a_whole(
    takes: Path, anna: Path, text: str, words: str
) -> None:
    (takes / "list.csv").write_text(text)
    with pytest.raises(UsageError, match=re.escape(words)):
        plan("takes/list.csv")
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["{", "[1]", '{"source": 1}', '{"source": "b.wav", "k": true}'])
def test_wrong_json_names_its_line(takes: Path, text: str) -> None:
    (takes / "list.jsonl").write_text('{"source": "b.wav"}\n' + text + "\n")
    with pytest.raises(UsageError, match="line 2"):
        find_items("takes/list.jsonl", Path("out"), ".wav")


def test_a_missing_file_of_a_manifest_fails_alone(takes: Path, anna: Path) -> None:
    (takes / "list.csv").write_text("source,ref\nb.wav,../anna\nno.wav,../anna\nb.wav,../nobody\n")
    (takes / "list.csv").write_text(
        "source,ref,output\nb.wav,../anna,1.wav\nno.wav,../anna,2.wav\nb.wav,../nobody,3.wav\n"
    )
    good, no_source, no_reference = plan("takes/list.csv", refs=())
    assert good.problem is None
    assert "no.wav does not exist" in str(no_source.problem)
    assert "nobody does not exist" in str(no_reference.problem)


def test_calls_that_would_harm_are_refused(takes: Path, anna: Path, home: Path) -> None:
    for source, refs, output, words in (
        ("nowhere", ["anna"], "out", "does not exist"),
        ("", ["anna"], "out", "does not exist"),
        ("takes", [], "out", "no references"),
        ("takes", ["anna"], "takes", "the source folder itself"),
        ("takes/may/c.wav", ["anna"], "takes/may", "is itself a source"),
        ("takes", ["anna"], "anna/converted", "lies inside the reference"),
        ("takes", ["anna"], "anna/one.wav", "is a file"),
    ):
        with pytest.raises(UsageError, match=words):
            make_plan(source, output, refs, BatchOptions(), History)


def test_sources_that_differ_in_their_format_have_outputs_of_their_own(
    takes: Path, anna: Path
) -> None:
    alone = {str(one.output) for one in plan("takes")}
    noise(takes / "b.flac")
    both = {one.source.name: one.output.name for one in plan("takes")}
    assert both["b.wav"] == "b.wav"
    assert both["b.flac"] == "b.flac.wav"
    assert len({one.output for one in plan("takes")}) == len(alone) + 1


def test_options_are_those_of_convert() -> None:
    from knnvc import ConvertOptions

    shared = {field.name: field.default for field in fields(ConvertOptions)}
    own = {field.name: field.default for field in fields(BatchOptions)}
    for name in ("lam", "k", "weighting", "trim"):
        assert own[name] == shared[name]
    loudness = ConvertOptions(loudness=own["loudness"]).target_loudness
    assert loudness == ConvertOptions().target_loudness == -16.0
    for bad in ({"lam": 3.0}, {"k": 0}, {"weighting": "x"}, {"workers": 0}, {"ray_address": "x"}):
        with pytest.raises(UsageError):
            BatchOptions(**bad)  # type: ignore[arg-type]


def test_the_order_is_by_voice_and_the_longest_first(takes: Path, anna: Path, home: Path) -> None:
    noise(home / "ben.wav", 1.0, 5)
    rows = "b.wav,../ben.wav\nmay/a.flac,\nmay/c.wav,\n"
    (takes / "list.csv").write_text("source,ref\n" + rows)
    tasks = in_order([line.task for line in plan("takes/list.csv") if line.task])
    assert [task.name for task in tasks] == ["may/c.wav", "may/a.wav", "b.wav"]
    assert tasks[0].size > tasks[1].size


# What is kept -------------------------------------------------------------------------------------


def made(tasks: list[Planned]) -> History:
    """Pretend to have converted `tasks`, through the journal."""
    path = Path("out/.knnvc-batch/journal.jsonl")
    todo = [line.task for line in tasks if line.task]
    with Journal(path, read_history(path)) as journal:
        journal.begin((task.name, task.key, task.settings) for task in todo)
        for task in todo:
            Path(task.output).parent.mkdir(parents=True, exist_ok=True)
            Path(task.output).write_text("speech of " + task.name)
            stamps = Stamp.of(Path(task.source)), Stamp.of(Path(task.output))
            journal.done(task.name, Done(task.key, *stamps))
    return read_history(path)


def test_what_was_made_is_up_to_date(takes: Path, anna: Path) -> None:
    history = made(plan("takes"))
    assert all(line.up_to_date for line in plan("takes", history=history))
    # What the preset recommends and what is asked for are the same.
    assert all(line.up_to_date for line in plan("takes", history=history, k=4, lam=1.0))
    Path("out/b.wav").unlink()
    assert [line.up_to_date for line in plan("takes", history=history)] == [False, True, True]
    with pytest.raises(UsageError, match="exists, and 1 more is in the way"):
        plan("takes", history=history, resume=False)
    assert not any(x.up_to_date for x in plan("takes", history=history, resume=False, force=True))


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (None, {"lam": 0.5}, r"by other settings \(lam 1.0, now 0.5\), and 2 more are in the way"),
        (None, {"loudness": False}, "loudness -16.0, now None"),
        (lambda: noise(Path("anna/one.wav"), 1.0, 99), {}, "other references"),
        (lambda: noise(Path("anna/two.wav"), 1.0, 99), {}, "other references"),
        (lambda: noise(Path("takes/b.wav"), 0.4, 99), {}, "before its source changed"),
        (lambda: Path("out/b.wav").write_text("edited"), {}, "was changed after it was made"),
        (lambda: Path("out/.knnvc-batch/journal.jsonl").unlink(), {}, "not made by a batch"),
        (lambda: touched(Path("takes/b.wav")), {}, None),  # the content decides, not the time
        (lambda: touched(Path("out/b.wav")), {}, None),
    ],
)
def test_resuming_notices_what_has_changed(
    takes: Path, anna: Path, change: Callable[[], Any] | None, options: Any, words: str | None
) -> None:
    made(plan("takes"))
    if change:
        change()
    history = read_history(Path("out/.knnvc-batch/journal.jsonl"))
    if words is None:
        assert all(line.up_to_date for line in plan("takes", history=history, **options))
        return
    with pytest.raises(UsageError, match=words):
        plan("takes", history=history, **options)
    forced = plan("takes", history=history, force=True, **options)
    assert [line.task.replaces for line in forced if line.task and not line.up_to_date]
    assert forced[0].up_to_date is False


def test_another_preset_is_another_setting(takes: Path, anna: Path, preset: Path) -> None:
    history = made(plan("takes", preset=preset))
    with pytest.raises(UsageError, match="preset tiny"):
        plan("takes", history=history, k=2)


def test_a_torn_journal_is_read_and_mended(takes: Path, anna: Path) -> None:
    history = made(plan("takes"))
    path = Path("out/.knnvc-batch/journal.jsonl")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole) - len(lines[-1]) + 1, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        torn = read_history(path)
        assert torn.outputs == history.outputs | {"may/c.wav": None}
        again = plan("takes", history=torn)  # begun, so that it may be made again
        assert [line.up_to_date for line in again] == [True, True, False]
    assert made(plan("takes", history=torn)).outputs.keys() == history.outputs.keys()
    path.write_bytes(whole + b'\xff\x00{"event": "done"}\n[]\n{"event": "done", "output": ""}\n')
    assert read_history(path).outputs == history.outputs


# Doing it -----------------------------------------------------------------------------------------

# Everything is real but the voice conversion, which takes long: this one writes the sources' bytes,
# slowly and in pieces, and stops in the middle for as long as there is a file `hold`. The workers
# import this script, too, and so get the same worker.
SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
import soundfile as sf
import knnvc.batch.worker as module
from knnvc.batch import BatchOptions, convert_batch
from knnvc.errors import KnnvcError
from knnvc.files import atomic_path

class Converter:
    def convert_file(self, source, voices, output, options, progress):
        progress("encoding", 0, 2)
        if Path(source).stem == "bad":
            raise KnnvcError(f"{source} is bad; mend it")
        if Path(source).stem == "bug":
            raise ZeroDivisionError("a bug")
        samples, rate = sf.read(source, dtype="int16")
        with atomic_path(output, force=False) as temporary, sf.SoundFile(
            str(temporary), "w", rate, 1, format=output.suffix[1:].upper(), subtype="PCM_16"
        ) as handle:
            for piece in np.array_split(samples, 5):
                handle.write(-piece)
                handle.flush()
                time.sleep(random.random() * DELAY)
                while Path("hold").exists():
                    time.sleep(0.01)
        progress("vocoding", 2, 2)

class Worker(module.Worker):
    def __init__(self, settings, number=0):
        self._settings, self._converter = settings, Converter()
    def _voice(self, voice, k, progress):
        return []
    def convert(self, task, progress=None):
        if "killer" in task.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().convert(task, progress)

module.Worker = Worker
sys.modules.setdefault("knnvc.pipeline", type(sys)("pipeline")).ConvertOptions = dict
DELAY = float(os.environ["DELAY"])

if __name__ == "__main__":
    from knnvc.cli.main import main
    main()
"""


@pytest.fixture
def start(home: Path) -> Callable[..., subprocess.Popen[str]]:
    script = home / "script.py"
    script.write_text(SCRIPT)

    def call(*args: object, delay: float = 0.0) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(script), "batch", *map(str, args)],
            cwd=home,
            env=os.environ | {"DELAY": str(delay)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return call


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=240)  # a busy machine starts Python slowly
    return process.returncode, out, err


def until(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def in_hand() -> bool:
    """Whether a file is in the middle of being made."""
    return any(Path("out").rglob(".knnvc-part/.*"))


def content(folder: Path) -> dict[str, bytes]:
    """All files below `folder` but the account that the batch keeps of itself."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".knnvc-batch" not in path.parts
    }


def test_a_batch_from_the_command_line(start: Any, takes: Path, anna: Path, home: Path) -> None:
    args = ("takes", "out", "--ref", "anna", "--report", "report.csv", "--workers", 2)
    code, out, err = finish(start(*args))
    assert (code, sorted(out.split())) == (0, ["out/b.wav", "out/may/a.wav", "out/may/c.wav"])
    assert re.fullmatch(r"3 done in [\d.]+ s \(2.1 s of speech, [\d.]+ x real time\)\n", err)
    samples = sf.read("out/may/a.wav", dtype="int16")[0]
    assert np.array_equal(-samples, sf.read(takes / "may" / "a.flac", dtype="int16")[0])
    with Path("report.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [row["status"] for row in rows] == ["done"] * 3
    assert rows[1]["source"] == "takes/may/a.flac"
    assert rows[1]["seconds"] == "0.800"
    assert float(rows[1]["compute_seconds"]) > 0
    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.wav")}
    code, out, err = finish(start(*args))
    assert (code, out) == (0, "")
    assert "3 of 3 files are up to date" in err
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.wav")} == times
    assert not list(Path("out").rglob(".knnvc-part"))


def test_a_dry_run_changes_nothing(start: Any, takes: Path, anna: Path, home: Path) -> None:
    before = content(home)
    code, out, err = finish(start("takes", "out", "--ref", "anna", "--dry-run"))
    assert (code, out.count("convert ")) == (0, 3)
    assert "takes/may/a.flac -> out/may/a.wav" in out
    assert err == "3 not started; nothing was changed\n"
    assert content(home) == before
    assert not Path("out").exists()


@pytest.mark.parametrize("fast", [False, True])
def test_failures_are_told_and_the_rest_goes_on(
    start: Any, takes: Path, anna: Path, fast: bool
) -> None:
    noise(takes / "bad.wav", 2.0)  # the longest, so the first
    noise(takes / "deep" / "bug.wav", 1.9)
    how = "--fail-fast" if fast else "--keep-going"
    code, out, err = finish(start("takes", "out", "--ref", "anna", "--report", "r.csv", how))
    with Path("r.csv").open() as handle:
        rows = {Path(row["source"]).name: row for row in csv.DictReader(handle)}
    assert code == 1
    assert rows["bad.wav"]["error"].endswith("takes/bad.wav is bad; mend it")
    assert "Error: takes/bad.wav: " in err
    if fast:
        assert [row["status"] for row in rows.values()].count("not started") == 4
        assert out == ""
        assert "1 of 5 files failed and 4 were not started" in err
    else:
        assert [row["status"] for row in rows.values()].count("done") == 3
        assert rows["bug.wav"]["error"] == "a bug of knnvc: ZeroDivisionError: a bug"
        assert "Traceback" in err  # a bug keeps it
        assert "2 of 5 files failed; r.csv has them all" in err
        assert not Path("out/deep").exists()


def test_a_file_that_kills_its_worker_is_given_up(start: Any, takes: Path, anna: Path) -> None:
    noise(takes / "killer.wav", 2.0)
    code, out, err = finish(start("takes", "out", "--ref", "anna", "--workers", 2))
    assert (code, len(out.split())) == (1, 3)
    assert "takes/killer.wav: the worker process died (signal 9) 3 times at this file" in err


def test_two_batches_in_one_folder_are_refused(start: Any, takes: Path, anna: Path) -> None:
    Path("hold").touch()
    first = start("takes", "out", "--ref", "anna")
    until(first, in_hand)
    code, _, err = finish(start("takes", "out", "--ref", "anna"))
    Path("hold").unlink()
    assert code == 2
    assert "another batch is at work in out" in err
    assert finish(first)[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_finishes_the_file_in_hand_or_removes_it(
    start: Any, takes: Path, anna: Path, times: int
) -> None:
    Path("hold").touch()
    process = start("takes", "out", "--ref", "anna")
    until(process, in_hand)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)  # two that come at once may be one
    Path("hold").unlink()
    code, out, err = finish(process)
    assert code == 130
    assert "the same command goes on from here" in err
    assert len(out.split()) == len(content(Path("out"))) == 2 - times  # the one in hand, or none
    assert not list(Path("out").rglob(".knnvc-part"))
    code, out, _ = finish(start("takes", "out", "--ref", "anna"))
    assert (code, len(out.split())) == (0, 1 + times)


def children(pid: int) -> list[int]:
    """Worker processes (and Python's resource tracker, which has nothing to lose)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields_ = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields_[1]) == pid:
            found.append(int(status.parent.name))
    return found


def spawned(pid: int) -> list[int]:
    """Those of `children` that are workers."""
    return [
        child
        for child in children(pid)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds workers through /proc")
def test_killing_at_random_points_changes_nothing(start: Any, anna: Path, home: Path) -> None:
    seed = 20_261_124
    draw = random.Random(seed)
    for number in range(24):
        noise(home / "takes" / f"{number % 3}" / f"{number}.wav", 0.2 + number / 50, number)
    args = ("takes", "--ref", "anna", "--workers", 2)
    assert finish(start(args[0], "undisturbed", *args[1:]))[0] == 0
    expected = content(Path("undisturbed"))
    assert len(expected) == 24
    out = Path("out")
    kept: dict[str, int] = {}
    for _ in range(8):
        process = start(args[0], "out", *args[1:], delay=0.02)
        time.sleep(draw.uniform(0.3, 1.2))  # from before the first worker is ready
        victims = [process.pid]
        if draw.random() < 0.5:
            victims = spawned(process.pid)[:1] or victims
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        if victims == [process.pid]:
            process.communicate()
        else:
            assert finish(process)[0] == 0  # a dead worker is replaced
        whole = {name: data for name, data in content(out).items() if "knnvc-part" not in name}
        assert whole.items() <= expected.items()  # nothing half-written
        done = read_history(out / ".knnvc-batch" / "journal.jsonl").outputs
        finished = {name for name, entry in done.items() if entry is not None}
        assert finished <= whole.keys()  # nothing lost
        times = {name: (out / name).stat().st_mtime_ns for name in finished}
        assert kept.items() <= times.items()  # nothing repeated
        kept = times
    assert finish(start(args[0], "out", *args[1:]))[0] == 0
    assert content(out) == expected


# With the real thing ------------------------------------------------------------------------------


def report_of(**options: Any) -> Report:
    return convert_batch("takes", options.pop("out"), ["anna"], BatchOptions(**options))


def test_results_depend_on_neither_workers_nor_cache(
    takes: Path, anna: Path, home: Path, preset: Path
) -> None:
    import faiss
    import torch

    from knnvc import VoiceConverter
    from knnvc.errors import KnnvcWarning

    settings: dict[str, Any] = {"preset": preset, "device": "cpu"}
    assert report_of(out="one", **settings).count("done") == 3
    cached = list((home / "cache" / "matching_sets").glob("*.safetensors"))
    assert len(cached) == 1
    assert report_of(out="two", workers=2, cache=False, **settings).count("done") == 3
    assert content(Path("one")) == content(Path("two"))
    assert not Path("two/.knnvc-batch/sets").exists()
    # The same as one by one, in one thread as the workers have it.
    threads, faiss_threads = torch.get_num_threads(), faiss.omp_get_max_threads()
    try:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        converter = VoiceConverter.from_preset(preset, "cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KnnvcWarning)  # noise has high peaks
            converter.convert_file("takes/may/a.flac", "anna", "single.wav")
    finally:
        torch.set_num_threads(threads)
        faiss.omp_set_num_threads(faiss_threads)
    assert Path("single.wav").read_bytes() == Path("one/may/a.wav").read_bytes()


def test_what_is_wrong_with_a_reference_or_preset(
    takes: Path, anna: Path, home: Path, preset: Path
) -> None:
    (home / "mute").mkdir()
    sf.write(home / "mute" / "one.wav", np.zeros(RATE), RATE)
    rows = "b.wav,../mute,1.wav,\nb.wav,../anna,2.wav,4\nb.wav,../anna,3.wav,5000\n"
    (takes / "list.csv").write_text("source,ref,output,k\n" + rows)
    options = BatchOptions(preset=preset, device="cpu")
    report = convert_batch("takes/list.csv", "out", options=options)
    assert [row.status for row in report.rows] == ["failed", "done", "failed"]
    assert "entirely silent" in report.rows[0].error
    assert "frames of speech but k is 5000" in report.rows[2].error
    assert report.summary == "1 done, 2 failed"
    assert not report.ok

    from knnvc.errors import KnnvcError

    damaged = home / "damaged"
    shutil.copytree(preset, damaged)
    (damaged / "vocoder.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(KnnvcError, match=r"vocoder.safetensors"):  # once, and not for each file
        convert_batch("takes", "other", ["anna"], BatchOptions(preset=damaged, device="cpu"))
    assert content(Path("other")) == {}


def test_a_batch_in_a_thread(start: Any, takes: Path, anna: Path) -> None:
    """Signals can only be handled in the main thread; a batch elsewhere does without."""
    reports: list[Report] = []
    made(plan("takes"))
    thread = threading.Thread(
        target=lambda: reports.append(convert_batch("takes", "out", ["anna"]))
    )
    thread.start()
    thread.join()
    assert reports[0].summary == "3 up to date"


def test_what_is_no_recording_is_skipped_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "takes"
    folder.mkdir()
    for name in ("a.wav", "a.mid", "notes.txt"):
        (folder / name).write_bytes(b"sound")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    items = {
        item.source.name: item.skipped for item in find_items(str(folder), tmp_path / "out", ".wav")
    }
    assert set(items) == {"a.wav", "a.mid", "gone.wav"}
    assert "MIDI" in items["a.mid"]
    assert items["a.wav"] == items["gone.wav"] == ""  # a broken recording fails, and says so
