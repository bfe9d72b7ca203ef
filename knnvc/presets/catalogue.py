"""Published encoders and vocoders by name: what they are, where their files come from, which terms.

Imports no torch. Names are what `--encoder` and `--vocoder` take; docs/encoders.md and
docs/vocoders.md are made of these tables. No checksum of these files is published where they lie,
so none stands here: they are opened as tensors alone, and a warning says that they are unverified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knnvc.errors import LONGEST, KnnvcError
from knnvc.presets.download import RemoteFile, download
from knnvc.presets.search import downloads_folder

Progress = Callable[[str, int, "int | None"], None]
_HUB = "https://huggingface.co/"
_FAIRSEQ = "https://dl.fbaipublicfiles.com/fairseq/wav2vec/"
_APACHE, _MIT = "Apache-2.0", "MIT"
_CONFIG, _WEIGHTS, _INPUT = "config.json", "pytorch_model.bin", "preprocessor_config.json"
_NATIVE = "tiny random weights against transformers, every layer"


@dataclass(frozen=True)
class Known:
    """One encoder or vocoder by name.

    Attributes:
        name: on the command line.
        type: in `knnvc.registry`.
        summary: what it is.
        sample_rate: Hz of what an encoder hears or a vocoder makes.
        hop: samples of a frame.
        width: columns of a frame.
        licence: of the weights.
        page: where a person finds the files; empty for parts without any.
        files: name in the folder and address; without an address, the user brings the file.
        depth: layers above layer 0; 0 where there are none to choose.
        layer: that is taken where nobody says; None is the last one.
        config: of the part.
        encoder: of a vocoder: the encoder's name and layer; empty for its own mel spectra.
        checked: what its code was held to.
        note: what a user must know besides.
    """

    name: str
    type: str
    summary: str
    sample_rate: int
    hop: int
    width: int
    licence: str
    page: str = ""
    files: tuple[tuple[str, str], ...] = ()
    depth: int = 0
    layer: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    encoder: tuple[str, int] | tuple[()] = ()
    checked: str = ""
    note: str = ""

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    @property
    def folder(self) -> Path:
        """Where its files lie, or are put by hand."""
        return downloads_folder() / self.name

    @property
    def missing(self) -> list[str]:
        """Names of the files that are not there."""
        there = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        if "model.safetensors" in there:
            there.add(_WEIGHTS)
        return [name for name, _ in self.files if name not in there]

    def fetch(self, progress: Progress | None = None) -> Path:
        """The folder with its files; those that are missing are downloaded.

        Raises:
            KnnvcError: they cannot be; the message says which files to put where.
        """
        urls = dict(self.files)
        for name in self.missing:
            url = urls[name]
            if not url:
                raise KnnvcError(self._by_hand("its licence lets nobody pass it on"))
            remote = RemoteFile(name, url, None, None, self.licence)
            tell = None if progress is None else _named(progress, f"{self.name}/{name}")
            try:
                download(remote, self.folder, progress=tell)
            except KnnvcError as error:
                raise KnnvcError(self._by_hand(_reason(error))) from error
        return self.folder

    def _by_hand(self, why: str) -> str:
        *others, last = self.missing or [name for name, _ in self.files]
        listed = f"{', '.join(others)} and {last}" if others else last
        page = self.page.removeprefix("https://")
        what = f"{self.name} is not here: put {listed} from {page} into {self.folder}"
        told = f"{self.name} is not here ({why}): put {listed} from {page} into {self.folder}"
        return told if len(told) <= LONGEST else what  # the path must not lose its middle


def find_known(table: Mapping[str, Known], name: str) -> Known | None:
    """The entry of this name, or of a shorter or longer one that means the same."""
    return table.get(name) or table.get(ALIASES.get(name, name))


def _reason(error: KnnvcError) -> str:
    text = str(error)
    _, opened, inner = text.partition("(")
    return (inner.rpartition("):")[0] if opened else text)[:60]


def _named(progress: Progress, name: str) -> Callable[[int, int | None], None]:
    return lambda done, total: progress(name, done, total)


def _hub(repository: str, *names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{_HUB}{repository}/resolve/main/{name}") for name in names)


def _ssl(
    name: str, repository: str, summary: str, width: int, depth: int, licence: str, **more: Any
) -> Known:
    """An encoder in the format of transformers."""
    return Known(
        name=name,
        type="huggingface",
        summary=summary,
        sample_rate=16_000,
        hop=320,
        width=width,
        licence=licence,
        page=_HUB + repository,
        files=_hub(repository, _CONFIG, _INPUT, _WEIGHTS),
        depth=depth,
        checked=_NATIVE,
        **more,
    )


_BYOL_PAGE = "https://github.com/nttcslab/byol-a"
_BYOL_LICENCE = "NTT, evaluation only"
_WAVLM_LICENCE = "MIT (code); the model's page names CC BY-SA 3.0"
ENCODERS: dict[str, Known] = {
    known.name: known
    for known in (
        Known(
            name="wav2vec",
            type="wav2vec",
            summary="wav2vec large (Schneider et al. 2019): z is layer 0, c the last one",
            sample_rate=16_000,
            hop=160,
            width=512,
            licence=_MIT,
            page="https://github.com/facebookresearch/fairseq/tree/main/examples/wav2vec",
            files=(("wav2vec_large.pt", _FAIRSEQ + "wav2vec_large.pt"),),
            depth=12,
            checked="tiny random weights against fairseq's code, z and c",
        ),
        _ssl(
            "wav2vec2-base",
            "facebook/wav2vec2-base",
            "wav2vec 2.0 base (Baevski et al. 2020)",
            768,
            12,
            _APACHE,
        ),
        _ssl(
            "wav2vec2-large",
            "facebook/wav2vec2-large",
            "wav2vec 2.0 large (Baevski et al. 2020)",
            1024,
            24,
            _APACHE,
        ),
        _ssl(
            "hubert-base",
            "facebook/hubert-base-ls960",
            "HuBERT base (Hsu et al. 2021)",
            768,
            12,
            _APACHE,
        ),
        _ssl(
            "hubert-large",
            "facebook/hubert-large-ll60k",
            "HuBERT large (Hsu et al. 2021)",
            1024,
            24,
            _APACHE,
        ),
        _ssl(
            "wavlm-base",
            "microsoft/wavlm-base",
            "WavLM base (Chen et al. 2022)",
            768,
            12,
            _WAVLM_LICENCE,
        ),
        _ssl(
            "wavlm-base-plus",
            "microsoft/wavlm-base-plus",
            "WavLM base+ (Chen et al. 2022)",
            768,
            12,
            _WAVLM_LICENCE,
        ),
        _ssl(
            "wavlm-large",
            "microsoft/wavlm-large",
            "WavLM large (Chen et al. 2022)",
            1024,
            24,
            _WAVLM_LICENCE,
            layer=6,
            config={"normalize": False},
            note="heard as it comes, as kNN-VC does; the preset of this name, once pulled, goes "
            "first",
        ),
        _ssl(
            "data2vec-audio-base",
            "facebook/data2vec-audio-base",
            "data2vec base (Baevski et al. 2022)",
            768,
            12,
            _APACHE,
        ),
        _ssl(
            "data2vec-audio-large",
            "facebook/data2vec-audio-large",
            "data2vec large (Baevski et al. 2022)",
            1024,
            24,
            _APACHE,
        ),
        *(
            Known(
                name=name,
                type="byol-a",
                summary=f"BYOL-A (Niizumi et al. 2021), AudioNTT2020, {width} columns",
                sample_rate=16_000,
                hop=1280,
                width=width,
                licence=_BYOL_LICENCE,
                page=_BYOL_PAGE,
                files=((f"AudioNTT2020-BYOLA-64x96d{width}.pth", ""),),
                checked="tiny random weights against the authors' code",
                note="settings mean and std: of the log-mel spectra of your data",
            )
            for name, width in (("byol-a", 2048), ("byol-a-1024", 1024), ("byol-a-512", 512))
        ),
        Known(
            name="byol-a-v2",
            type="byol-a",
            summary="BYOL-A (Niizumi et al. 2023), AudioNTT2022",
            sample_rate=16_000,
            hop=640,
            width=2048,
            licence=_BYOL_LICENCE,
            page=_BYOL_PAGE,
            files=(("AudioNTT2022-BYOLA-64x96d2048.pth", ""),),
            checked="tiny random weights: network against the authors' code; spectra (nnAudio's in "
            "the original) were not",
            note="settings mean and std: of the log-mel spectra of your data",
        ),
        Known(
            name="log-mel",
            type="log-mel",
            summary="log-mel spectra, HiFi-GAN's computation, 80 bands to 8 kHz",
            sample_rate=16_000,
            hop=160,
            width=80,
            licence="none needed",
            checked="against HiFi-GAN's code",
            note="settings: those of knnvc.encoders.mel.MelConfig",
        ),
        Known(
            name="mfcc",
            type="mfcc",
            summary="13 MFCC with Δ and ΔΔ, 25 ms windows (Kaldi's, as HuBERT's first targets)",
            sample_rate=16_000,
            hop=160,
            width=39,
            licence="none needed",
            checked="against an independent statement of the formulas",
        ),
    )
}

ALIASES = {
    "byol-a-2048": "byol-a",
    "data2vec": "data2vec-audio-base",
    "data2vec-audio": "data2vec-audio-base",
    "data2vec-base": "data2vec-audio-base",
    "data2vec-large": "data2vec-audio-large",
    "hubert": "hubert-base",
    "mel": "log-mel",
    "wav2vec-large": "wav2vec",
    "wav2vec2": "wav2vec2-base",
    "wavlm-base+": "wavlm-base-plus",
}
