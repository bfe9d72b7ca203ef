"""Published encoders and vocoders by name: what they are, where their files come from, which terms.

Imports no torch. Names are what `--encoder` and `--vocoder` take; docs/encoders.md and
docs/vocoders.md are made of these tables. Weights with a known checksum (`knnvc.presets.checksums`)
are compared with it; of all others a warning says that they are unverified. All are opened as
tensors alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knnvc.errors import LONGEST, KnnvcError
from knnvc.files import sha256_file
from knnvc.presets.checksums import SUMS, Sum
from knnvc.presets.download import RemoteFile, download
from knnvc.presets.search import downloads_folder

Progress = Callable[[str, int, "int | None"], None]
_HUB = "https://huggingface.co/"
_FAIRSEQ = "https://dl.fbaipublicfiles.com/fairseq/wav2vec/"
_APACHE, _MIT = "Apache-2.0", "MIT"
_CONFIG, _WEIGHTS, _INPUT = "config.json", "pytorch_model.bin", "preprocessor_config.json"
_NATIVE = "tiny random weights of 15 shapes against transformers, every layer"


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
        sums: of the weights whose checksum is known, by name.
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
    sums: Mapping[str, Sum] = field(default_factory=dict)
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
                raise KnnvcError(self._by_hand("only a person can fetch it"))
            known = self.sums.get(name)
            sha256, size = (known.sha256, known.size) if known else (None, None)
            remote = RemoteFile(name, url, size, sha256, self.licence)
            tell = None if progress is None else _named(progress, f"{self.name}/{name}")
            try:
                download(remote, self.folder, progress=tell)
            except KnnvcError as error:
                raise KnnvcError(self._by_hand(_reason(error))) from error
        return self.folder

    def verify(self) -> list[str]:
        """Names of the weights in the folder that have no known checksum.

        Raises:
            KnnvcError: weights are others than those that were published.
        """
        safe = (self.folder / "model.safetensors").is_file()  # is read instead of the pickle
        given = ["model.safetensors" if safe and n == _WEIGHTS else n for n, _ in self.files]
        weights = [name for name in given if not name.endswith((".json", ".yaml"))]
        for name in weights:
            path, known = self.folder / name, self.sums.get(name)
            if known and (found := sha256_file(path)) != known.sha256:
                raise KnnvcError(
                    f"{path} is not what {self.page} publishes (its sha256 begins with "
                    f"{found[:12]}, not {known.sha256[:12]}): get it again"
                )
        return [name for name in weights if name not in self.sums]

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
    known = SUMS.get(repository, {})
    revisions = {name: known[name].revision if name in known else "main" for name in names}
    return tuple((name, f"{_HUB}{repository}/resolve/{revisions[name]}/{name}") for name in names)


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
        sums=SUMS.get(repository, {}),
        depth=depth,
        checked=_NATIVE,
        **more,
    )


_BYOL_PAGE = "https://github.com/nttcslab/byol-a"
_BYOL_LICENCE = "NTT, evaluation only"
_WAVLM_LICENCE = "CC BY-SA 3.0, to which the model's page points (the code is MIT)"
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
            checked="tiny random weights of 60 shapes against fairseq's code, z and c",
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
                sums=SUMS["nttcslab/byol-a"],
                checked="the published weights against the authors' code"
                if width == 512
                else "as byol-a-512, which has the same code",
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
            width=3072,
            licence=_BYOL_LICENCE,
            page=_BYOL_PAGE,
            files=(("AudioNTT2022-BYOLA-64x96d2048.pth", ""),),
            checked="random weights of its size against the authors' code, spectra against nnAudio",
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
            note="settings of knnvc.encoders.mel.MelConfig",
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


def _bigvgan(name: str, repository: str, rate: int, bands: int, hop: int, top: str) -> Known:
    return Known(
        name=name,
        type="bigvgan",
        summary=f"BigVGAN (Lee et al. 2023), mel to {top}",
        sample_rate=rate,
        hop=hop,
        width=bands,
        licence=_MIT,
        page=f"{_HUB}nvidia/{repository}",
        files=_hub(f"nvidia/{repository}", "bigvgan_generator.pt", _CONFIG),
        sums=SUMS.get(f"nvidia/{repository}", {}),
        checked="tiny random weights of 40 shapes against the authors' code",
    )


def _hifigan(name: str, summary: str, folder: str) -> Known:
    return Known(
        name=name,
        type="hifigan",
        summary=summary,
        sample_rate=22_050,
        hop=256,
        width=80,
        licence=_MIT,
        page=_HIFIGAN_PAGE,
        files=((folder, ""), (_CONFIG, "")),
        checked="tiny random weights of 30 shapes against the authors' code",
        note="the authors keep the files in a Google Drive, from where a person fetches them",
    )


def _ssl_vocoder(name: str, file: str, encoder: str, layer: int, width: int, seen: str) -> Known:
    return Known(
        name=f"ssl-{name}",
        type="hifigan",
        summary=f"HiFi-GAN of ssl-vocoders on {encoder}, {seen}",
        sample_rate=22_050,
        hop=441,
        width=width,
        licence=_MIT,
        page=_SSL_PAGE,
        files=((f"{file}.ckpt", f"{_SSL_PAGE}/resolve/main/{file}/{file}.ckpt"),),
        sums=SUMS["Wataru/ssl-vocoder"],
        encoder=(encoder, layer),
        checked="tiny random weights against the authors' code, in a Lightning checkpoint",
    )


_HIFIGAN_PAGE = "https://github.com/jik876/hifi-gan"
_SSL_PAGE = _HUB + "Wataru/ssl-vocoder"
_PLAIN = "none needed"
_TOP = "22 kHz"
VOCODERS: dict[str, Known] = {
    known.name: known
    for known in (
        Known("world", "world", "WORLD (Morise et al. 2016)", 16_000, 80, 0, _PLAIN,
              checked="it is the package pyworld-prebuilt"),
        Known("griffin-lim", "griffin-lim", "Griffin-Lim on 80 mel bands", 16_000, 256, 80,
              _PLAIN, checked="it is librosa's"),
        Known("griffin-lim-mfcc", "griffin-lim-mfcc", "Griffin-Lim on 20 MFCC of 80 mel bands",
              16_000, 256, 20, _PLAIN, checked="it is librosa's"),
        _hifigan("hifigan-v1", "HiFi-GAN v1 (Kong et al. 2020), UNIVERSAL_V1", "g_02500000"),
        _hifigan("hifigan-v2", "HiFi-GAN v2, VCTK_V2", "generator_v2"),
        _hifigan("hifigan-v3", "HiFi-GAN v3, VCTK_V3", "generator_v3"),
        *(
            _bigvgan(*row)
            for row in (
                ("bigvgan-v2-44khz-512", "bigvgan_v2_44khz_128band_512x", 44_100, 128, 512, _TOP),
                ("bigvgan-v2-44khz-256", "bigvgan_v2_44khz_128band_256x", 44_100, 128, 256, _TOP),
                ("bigvgan-v2-24khz", "bigvgan_v2_24khz_100band_256x", 24_000, 100, 256, "12 kHz"),
                ("bigvgan-v2-22khz", "bigvgan_v2_22khz_80band_256x", 22_050, 80, 256, "11 kHz"),
                ("bigvgan-v2-22khz-8k", "bigvgan_v2_22khz_80band_fmax8k_256x", 22_050, 80, 256,
                 "8 kHz"),
                ("bigvgan-24khz", "bigvgan_24khz_100band", 24_000, 100, 256, "12 kHz"),
                ("bigvgan-base-24khz", "bigvgan_base_24khz_100band", 24_000, 100, 256, "12 kHz"),
                ("bigvgan-22khz", "bigvgan_22khz_80band", 22_050, 80, 256, "8 kHz"),
                ("bigvgan-base-22khz", "bigvgan_base_22khz_80band", 22_050, 80, 256, "8 kHz"),
            )
        ),
        Known("vocos", "vocos", "Vocos (Siuzdak 2024), mel to 12 kHz", 24_000, 256, 100, _MIT,
              page=_HUB + "charactr/vocos-mel-24khz",
              files=_hub("charactr/vocos-mel-24khz", "config.yaml", _WEIGHTS),
              sums=SUMS["charactr/vocos-mel-24khz"],
              checked="tiny random weights of 24 shapes against the authors' code"),
        Known("ssl-mel", "hifigan", "HiFi-GAN of ssl-vocoders on mel to 8 kHz", 22_050, 256, 80,
              _MIT, page=_SSL_PAGE, files=(("mel.ckpt", f"{_SSL_PAGE}/resolve/main/mel/mel.ckpt"),),
              checked="tiny random weights against the authors' code, in a Lightning checkpoint"),
        *(
            _ssl_vocoder(*row)
            for row in (
                ("wavlm-large-l6", "wavlm-large-l6", "wavlm-large", 6, 1024, "layer 6"),
                ("wavlm-large", "wavlm-large", "wavlm-large", -1, 1024, "layer 24, normed"),
                ("wavlm-base-l3", "wavlm-base-l3", "wavlm-base", 3, 768, "layer 3"),
                ("wavlm-base", "wavlm-base", "wavlm-base", 12, 768, "layer 12"),
                ("hubert-large-l6", "hubert-large-l6", "hubert-large", 6, 1024, "layer 6"),
                ("hubert-large", "hubert-large", "hubert-large", -1, 1024, "layer 24, normed"),
                ("hubert-base-l3", "hubert-base-l3", "hubert-base", 3, 768, "layer 3"),
                ("hubert-base", "hubert-base", "hubert-base", 12, 768, "layer 12"),
                ("wav2vec2-large-l6", "wav2vec2-large-l6", "wav2vec2-large", 6, 1024, "layer 6"),
                ("wav2vec2-large", "wav2vec2-large", "wav2vec2-large", -1, 1024, "layer 24"),
                ("wav2vec2-base-l3", "wav2vec2_l3", "wav2vec2-base", 3, 768, "layer 3"),
                ("wav2vec2-base-l6", "wav2vec2_l6", "wav2vec2-base", 6, 768, "layer 6"),
                ("wav2vec2-base-l9", "wav2vec2_l9", "wav2vec2-base", 9, 768, "layer 9"),
                ("wav2vec2-base", "wav2vec2-base", "wav2vec2-base", 12, 768, "layer 12"),
            )
        ),
    )
}  # fmt: skip
