"""The kinds of input that are tried: how a bad one is made, and what reads it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from fuzz import texts
from fuzz.raw import file_name

ASSETS = Path(__file__).parents[1] / "assets" / "parity"
Maker = Callable[[Random], bytes]


class Kind:
    """One kind of input. Made once in a process; `scratch` is a folder to keep things in."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    def good(self, folder: Path) -> Any:
        """Write an input that nothing is wrong with; returns what `read` takes."""
        raise NotImplementedError

    def make(self, rng: Random, folder: Path) -> Any:
        """Write an input with something wrong in it; returns what `read` takes."""
        raise NotImplementedError

    def read(self, case: Any) -> None:
        """Do with it what a user would, through the public entry."""
        raise NotImplementedError


def put(folder: Path, name: bytes, data: bytes) -> Path:
    """Write a file whose name may be any bytes."""
    path = folder / os.fsdecode(name)
    path.write_bytes(data)
    return path


class Sound(Kind):
    """Recordings, by `load_audio`."""

    def __init__(self, scratch: Path, suffix: str) -> None:
        super().__init__(scratch)
        from fuzz import sound

        self.suffix, self.seeds = suffix, sound.seeds()[suffix]
        self.change: Callable[..., bytes] = getattr(sound, suffix)

    def good(self, folder: Path) -> Path:
        return put(folder, b"good." + self.suffix.encode(), self.seeds[0])

    def make(self, rng: Random, folder: Path) -> Path:
        more = (self.seeds,) if self.suffix == "mp3" else ()
        data = self.change(rng, rng.choice(self.seeds), *more)
        return put(folder, file_name(rng, b"voice", "." + self.suffix), data)

    def read(self, case: Path) -> None:
        import torch

        from knnvc.audio.reading import load_audio

        waveform = load_audio(case)
        assert waveform.ndim == 1
        assert len(waveform) > 0
        assert bool(torch.isfinite(waveform).all())


class Document(Kind):
    """Texts to speak, by `read_document`."""

    def __init__(self, scratch: Path, kind: str, seed: str) -> None:
        super().__init__(scratch)
        self.kind, self.seed = kind, seed

    def good(self, folder: Path) -> Path:
        return put(folder, b"good", self.seed.encode())

    def make(self, rng: Random, folder: Path) -> Path:
        return put(folder, b"text", texts.document(rng, self.kind, self.seed))

    def read(self, case: Path) -> None:
        from knnvc.text.documents import read_document
        from knnvc.text.subtitles import place

        lines = read_document(case.read_bytes().decode("utf-8-sig", "replace"), self.kind)
        assert lines
        assert all(line.phonemes.strip() for line in lines)
        slots = place(lines, [1.0] * len(lines)).slots
        assert all(slot.at >= 0 and slot.speed >= 1 for slot in slots)


class LexiconFile(Kind):
    """Pronunciations, by `Lexicon.load`."""

    def good(self, folder: Path) -> Path:
        return put(folder, b"good.txt", texts.LEXICON.encode())

    def make(self, rng: Random, folder: Path) -> Path:
        if rng.random() < 0.5:
            return put(folder, file_name(rng, b"words", ".json"), texts.words(rng))
        data = texts.document(rng, "lexicon", texts.LEXICON)
        return put(folder, file_name(rng, b"words", ".txt"), data)

    def read(self, case: Path) -> None:
        from knnvc.text.lexicon import Lexicon
        from knnvc.text.lines import read

        lexicon = Lexicon.load(case)
        assert list(read("Anna has a GIF of St. Mary in 3D and C++.", "en-us", lexicon))


class Manifest(Kind):
    """Lists of recordings, by `find_items`."""

    def good(self, folder: Path) -> Path:
        return put(folder, b"good.csv", texts.CSV.encode())

    def make(self, rng: Random, folder: Path) -> Path:
        if rng.random() < 0.5:
            return put(folder, file_name(rng, b"list", ".jsonl"), texts.rows(rng))
        return put(folder, file_name(rng, b"list", ".csv"), texts.table(rng))

    def read(self, case: Path) -> None:
        from knnvc.batch.manifest import find_items

        output = case.parent / "output"
        items = find_items(str(case), output, ".wav")
        assert items
        for item in items:
            inside = Path(os.path.normpath(output / item.output))
            assert output in inside.parents, f"{item.output} leaves the folder"


class Cards(Kind):
    """Tables of ready voices, by `list_voices` and `resolve`."""

    def good(self, folder: Path) -> Path:
        (folder / "anna.flac").touch()
        put(folder, b"cards.json", json.dumps(texts.CARDS).encode())
        return folder

    def make(self, rng: Random, folder: Path) -> Path:
        (folder / "anna.flac").touch()
        put(folder, b"cards.json", texts.cards(rng))
        return folder

    def read(self, case: Path) -> None:
        from knnvc.voices import ready

        os.environ[ready.FOLDER_VARIABLE] = str(case)
        try:
            for voice in ready.list_voices().values():
                assert voice.path.is_file()
            ready.resolve("voice:anna")
        finally:
            del os.environ[ready.FOLDER_VARIABLE]


def _noise(seconds: float, seed: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(seed)
    return 0.05 * torch.randn(round(seconds * 16_000), generator=generator)


def _check(made: tuple[Any, int]) -> None:
    import numpy as np

    waveform = np.asarray(made[0])
    assert waveform.ndim == 1
    assert len(waveform) > 0
    assert bool(np.isfinite(waveform).all()), "the result has values that are no numbers"


def tiny_preset(scratch: Path) -> Path:
    """A preset of the tiny published files, made once."""
    from knnvc.presets.importing import import_published

    folder = scratch / "tiny"
    if not folder.exists():
        vocoder = (ASSETS / "hifigan_tiny.pt", ASSETS / "hifigan_tiny.json")
        import_published(ASSETS / "wavlm_tiny.pt", 6, *vocoder, folder)
    return folder


class MatchingSets(Kind):
    """Saved matching sets, by `VoiceConverter.convert`."""

    preset = "tiny"

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        from safetensors import safe_open

        from knnvc import VoiceConverter

        preset: Any = tiny_preset(scratch) if self.preset == "tiny" else self.preset
        self.converter = VoiceConverter.from_preset(preset, device="cpu")
        built = self.converter.matching_set(_noise(1.5, 1), sample_rate=16_000, cache=False)
        self.path = scratch / f"{self.preset}.safetensors"
        built.save(self.path, force=True)
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata()
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        self.entry = json.loads(metadata["matching_set"])
        self.source = _noise(0.3, 2)

    def good(self, folder: Path) -> Path:
        return put(folder, b"good.safetensors", self.path.read_bytes())

    def make(self, rng: Random, folder: Path) -> Path:
        from fuzz.weights import matching_set

        data = matching_set(rng, self.tensors, self.entry, ("matching_set", "sha256"))
        return put(folder, file_name(rng, b"set", ".safetensors"), data)

    def read(self, case: Path) -> None:
        made = self.converter.convert(self.source, case, sample_rate=16_000, cache=False)
        _check(made)


class MiniSets(MatchingSets):
    """Matching sets of mini."""

    preset = "mini"


class Presets(Kind):
    """Preset folders whose preset.json or weights are wrong, by `VoiceConverter`."""

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        self.folder = self.seed()
        self.content = json.loads((self.folder / "preset.json").read_text(encoding="utf-8"))

    def seed(self) -> Path:
        return tiny_preset(self.scratch)

    def good(self, folder: Path) -> Path:
        self._link(folder)
        put(folder, b"preset.json", json.dumps(self.content).encode())
        return folder

    def make(self, rng: Random, folder: Path) -> Path:
        from fuzz import weights
        from fuzz.raw import encoded
        from fuzz.values import as_json, mutated

        self._link(folder)
        content = dict(self.content)
        if rng.random() < 0.2 and self.content["encoder"]["type"] == "wavlm":
            data = self._weights(rng, weights)
            name = rng.choice(("encoder.safetensors", "vocoder.safetensors"))
            (folder / name).unlink()
            put(folder, name.encode(), data[name])
        else:
            parts = ("encoder", "vocoder", "converter", "text_front_end", "speech_converter")
            for part in rng.sample(parts, rng.choice((0, 1, 1, 2))):
                if content.get(part):
                    content[part] = mutated(rng, content[part], most=2)
            if content == self.content:
                content = mutated(rng, content)
        put(folder, b"preset.json", encoded(rng, as_json(rng, content, indent=1)))
        return folder

    def read(self, case: Path) -> None:
        from knnvc import VoiceConverter

        converter = VoiceConverter.from_preset(case, device="cpu")
        reference = _noise(0.6, 1)
        _check(converter.convert(_noise(0.3, 2), reference, sample_rate=16_000, cache=False))

    def _link(self, folder: Path) -> None:
        for path in self.folder.glob("*.safetensors"):
            (folder / path.name).symlink_to(path.resolve())

    def _weights(self, rng: Random, weights: Any) -> dict[str, bytes]:
        from safetensors.torch import load_file

        return {
            name: weights.tensors(rng, load_file(self.folder / name), {})
            for name in ("encoder.safetensors", "vocoder.safetensors")
        }


class MiniPresets(Presets):
    """The same of mini's parts, its text front end included."""

    def seed(self) -> Path:
        from knnvc.presets.search import bundled_folder

        return bundled_folder() / "mini"

    def read(self, case: Path) -> None:
        from knnvc import SpeakOptions, VoiceConverter
        from knnvc.presets.schema import load_preset

        converter = VoiceConverter.from_preset(case, device="cpu")
        _check(converter.convert(_noise(0.3, 2), _noise(0.6, 1), sample_rate=16_000, cache=False))
        if load_preset(case).text_front_end is not None:
            _check(converter.speak("Yes.", None, SpeakOptions(lam=0.0)))


class Checkpoints(Kind):
    """Published WavLM and HiFi-GAN checkpoints, by `import_published`."""

    files = ("wavlm_tiny.pt", "hifigan_tiny.pt", "hifigan_tiny.json")
    place = 0

    def __init__(self, scratch: Path) -> None:
        super().__init__(scratch)
        import torch

        path = ASSETS / self.files[self.place]
        self.data = path.read_bytes()
        self.content = torch.load(path, weights_only=True)
        self.config = json.loads((ASSETS / self.files[-1]).read_text(encoding="utf-8"))

    def good(self, folder: Path) -> list[Path]:
        return [ASSETS / name for name in self.files]

    def make(self, rng: Random, folder: Path) -> list[Path]:
        from fuzz.values import as_json, mutated
        from fuzz.weights import checkpoint

        paths = self.good(folder)
        if self.place and rng.random() < 0.3:
            text = as_json(rng, mutated(rng, self.config)).encode("utf-8", "replace")
            paths[-1] = put(folder, file_name(rng, b"config", ".json"), text)
            return paths
        data = checkpoint(rng, self.content, self.data)
        paths[self.place] = put(folder, file_name(rng, b"weights", ".pt"), data)
        return paths

    def read(self, case: list[Path]) -> None:
        from knnvc import VoiceConverter
        from knnvc.presets.importing import import_published

        out = self.scratch / "imported" / "out"
        out.parent.mkdir(exist_ok=True)
        try:
            import_published(case[0], 6, case[1], case[2], out)
            converter = VoiceConverter.from_preset(out, device="cpu")
            voice = _noise(0.6, 1)
            _check(converter.convert(_noise(0.3, 2), voice, sample_rate=16_000, cache=False))
            shutil.rmtree(out)
        finally:
            left = [path.name for path in out.parent.iterdir() if path != out]
            shutil.rmtree(out.parent)
            assert not left, f"left over: {left}"


class HifiGans(Checkpoints):
    """The same with the vocoder's files wrong."""

    place = 1


class Glows(Checkpoints):
    """Published Glow-TTS checkpoints, by `GlowTts.from_checkpoint`."""

    files = ("glow/glow_tts_ssl_tiny.pth", "glow/config.json")

    def make(self, rng: Random, folder: Path) -> list[Path]:
        from fuzz.values import as_json, mutated
        from fuzz.weights import checkpoint

        paths = self.good(folder)
        if rng.random() < 0.5:
            keys = ("characters", "encoder_params", None)
            key = rng.choice(keys)
            config = dict(self.config)
            if key:
                config[key] = mutated(rng, config[key])
            else:
                config = mutated(rng, config, most=12)
            text = as_json(rng, config).encode("utf-8", "replace")
            paths[1] = put(folder, file_name(rng, b"config", ".json"), text)
            return paths
        data = checkpoint(rng, {"model": self.content["model"]}, self.data)
        paths[0] = put(folder, file_name(rng, b"weights", ".pth"), data)
        return paths

    def read(self, case: list[Path]) -> None:
        import torch

        from knnvc.text.glow import GlowTts

        network = GlowTts.from_checkpoint(case[1], case[0])
        features = network.features("".join(sorted(network.symbols)[:12]))
        assert bool(torch.isfinite(features).all())


KINDS: dict[str, Callable[[Path], Kind]] = {
    "wav": lambda scratch: Sound(scratch, "wav"),
    "flac": lambda scratch: Sound(scratch, "flac"),
    "mp3": lambda scratch: Sound(scratch, "mp3"),
    "srt": lambda scratch: Document(scratch, "srt", texts.SRT),
    "vtt": lambda scratch: Document(scratch, "vtt", texts.VTT),
    "ssml": lambda scratch: Document(scratch, "ssml", texts.SSML),
    "markdown": lambda scratch: Document(scratch, "markdown", texts.MARKDOWN),
    "lexicon": LexiconFile,
    "manifest": Manifest,
    "cards": Cards,
    "set": MatchingSets,
    "mini set": MiniSets,
    "preset": Presets,
    "mini preset": MiniPresets,
    "wavlm": Checkpoints,
    "hifigan": HifiGans,
    "glow": Glows,
}
# Cases of these take long: a run of N cases of each kind takes N / this of them.
SLOWER = {"preset": 2, "wavlm": 3, "hifigan": 3, "mini set": 3, "mini preset": 10}
