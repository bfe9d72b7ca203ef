"""The matching set: the target speaker's frames, and where each of them came from.

On disk a set is one safetensors file (never a pickle, so a set from a stranger is safe to open):

- tensors `synth` [N, Ds] and, unless it equals `synth`, `match` [N, Dm], float16; `frame_start`
  [F] int64;
- the metadata entry `matching_set`, a JSON object with the fields of `SetInfo` and the flag
  `match_is_synth`;
- the metadata entry `sha256`, of all that (`knnvc.tensors.checksum`): a set whose bytes have
  changed is refused, and not used for another voice.

Older sets may hold tensors `adaptation.NAME`, and `adaptations` in the metadata, which fitted the
networks of that time to the speaker. Neither is read.

A tensor that holds values beyond float16's 65504 is stored as float32 instead: features that large
are rare (some encoders have such outlier dimensions), and clipping them would change distances.

N frames, one every `hop` samples; F source files; Dm features to search in; Ds features to build
the output from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knnvc.errors import KnnvcError, KnnvcWarning, UsageError
from knnvc.processes import computing
from knnvc.tensors import checksum, read_tensors, write_tensors

FORMAT_VERSION = 2
SUFFIX = ".safetensors"

_METADATA_KEY = "matching_set"
_CHECKSUM_KEY = "sha256"
_MATCH_IS_SYNTH = "match_is_synth"
_ADAPTATIONS, _ADAPTATION = "adaptations", "adaptation."  # of older sets: a field, names of tensors


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class SetInfo:
    """What is known about a matching set besides its frames.

    Attributes:
        preset: name of the preset that encoded it, for messages.
        encoder: fingerprint of the encoder (sha256 of weights and layers); decides what fits.
        hop: samples from one frame to the next.
        sample_rate: in Hz, of the audio that was encoded.
        files: names of the source files, in the order of their frames.
        seconds: duration of each file as encoded.
        speaker: whose voice it is.
        licence: on what terms the recordings may be used.
        created: when, in ISO 8601, UTC.
        format_version: of the file format.
    """

    preset: str
    encoder: str
    hop: int
    sample_rate: int
    files: tuple[str, ...]
    seconds: tuple[float, ...]
    speaker: str = ""
    licence: str = ""
    created: str = field(default_factory=_now)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        """Check every field, as a set may come from anywhere.

        Raises:
            KnnvcError: a field has the wrong type or an impossible value.
        """
        for name in ("preset", "encoder", "speaker", "licence", "created"):
            _require(isinstance(getattr(self, name), str), f"{name} is no text")
        for name in ("hop", "sample_rate"):
            value = getattr(self, name)
            _require(type(value) is int and 0 < value < 10**9, f"{name} is no positive number")
        _require(_is_tuple(self.files, str), "files is no list of names")
        _require(_is_tuple(self.seconds, (int, float)), "seconds is no list of numbers")
        # A comparison, unlike isfinite, is false for NaN and takes integers of any size.
        _require(all(0 <= s < 1e9 for s in self.seconds), "seconds has an impossible value")
        _require(len(self.files) == len(self.seconds) > 0, "files and seconds differ in number")


@dataclass(frozen=True, eq=False)  # == on tensors has no single truth value
class MatchingSet:
    """The frames of one target speaker (or of several, merged).

    Attributes:
        match: [N, Dm] float32, the features to search in.
        synth: [N, Ds] float32, the features to build the output from; may be the same tensor.
        frame_start: [F] int64, the first frame of each source file; the first is 0.
        info: where it came from.
        origin: the file it was loaded from, so that an index of it is worth keeping; None if none.
    """

    match: Tensor
    synth: Tensor
    frame_start: Tensor
    info: SetInfo
    origin: Path | None = None

    def __post_init__(self) -> None:
        """Check that the tensors fit each other.

        Raises:
            KnnvcError: a shape, dtype or value is impossible, or there are no frames.
        """
        computing()
        for name, features in {"match": self.match, "synth": self.synth}.items():
            valid = features.ndim == 2 and features.dtype == torch.float32
            _require(valid, f"{name} is no float32 matrix")
            _require(0 not in features.shape, f"{name} holds no frames")
            _require(_is_finite(features), f"{name} holds NaN or infinite values")
        _require(len(self.match) == len(self.synth), "match and synth differ in frames")
        start = self.frame_start
        _require(start.dtype == torch.int64 and start.ndim == 1, "frame_start is no list of frames")
        _require(len(start) == len(self.info.files), "frame_start and files differ in number")
        _require(
            bool(start[0] == 0 and (start.diff() >= 0).all() and start[-1] <= len(self.match)),
            "frame_start does not rise from 0 to the number of frames",
        )

    @property
    def seconds(self) -> float:
        """Duration in seconds of all frames."""
        return len(self.match) * self.info.hop / self.info.sample_rate

    def check_encoder(self, fingerprint: str, preset: str = "") -> None:
        """Raise KnnvcError unless this set was made by the encoder with this fingerprint.

        Args:
            fingerprint: of the encoder about to be used.
            preset: name of the preset it belongs to, for the message.
        """
        if self.info.encoder != fingerprint:
            speaker = f" of {self.info.speaker}" if self.info.speaker else ""
            own = f"{self.info.preset!r} ({self.info.encoder[:8]})"
            other = f"{preset!r} ({fingerprint[:8]})" if preset else f"({fingerprint[:8]})"
            raise KnnvcError(
                f"the set{speaker} fits the encoder of preset {own} and not {other}: "
                f"convert with --preset {self.info.preset}, or build the set again"
            )

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the set to `path`, which ends in .safetensors, all of it or nothing.

        Features are rounded to float16, or stored as float32 where they exceed its range.

        Raises:
            UsageError: the suffix is another one, or the file exists and `force` is not given.
            KnnvcError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise UsageError(f"{path}: a matching set is saved as NAME{SUFFIX}")
        match_is_synth = self.match is self.synth or torch.equal(self.match, self.synth)
        tensors = {"synth": _compact(self.synth), "frame_start": self.frame_start}
        if not match_is_synth:
            tensors["match"] = _compact(self.match)
        entry: dict[str, Any] = dataclasses.asdict(self.info) | {_MATCH_IS_SYNTH: match_is_synth}
        entry["format_version"] = FORMAT_VERSION
        # A file name that is not UTF-8 reaches us with surrogates, which no JSON reader likes.
        text = json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace").decode()
        metadata = {_METADATA_KEY: text, _CHECKSUM_KEY: checksum(tensors, text)}
        write_tensors(path, tensors, metadata, force=force)


def load(path: str | Path) -> MatchingSet:
    """Read the matching set that `MatchingSet.save` wrote to `path`; features become float32.

    Raises:
        KnnvcError: the file is missing, damaged, no matching set, or of another format.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    if _METADATA_KEY not in metadata:
        raise KnnvcError(f"{path} is no matching set: make one with `knnvc set build`")
    text = metadata[_METADATA_KEY]
    try:
        info, match_is_synth = _parse_entry(text)
        if metadata.get(_CHECKSUM_KEY) != checksum(tensors, text):
            raise KnnvcError("its bytes have changed since it was saved; get or build it again")
        expected = {"synth", "frame_start"} if match_is_synth else {"match", "synth", "frame_start"}
        found = {name for name in tensors if not name.startswith(_ADAPTATION)}
        _require(found == expected, "other tensors than it should have")
        synth = _expand(tensors["synth"])
        return MatchingSet(
            match=synth if match_is_synth else _expand(tensors["match"]),
            synth=synth,
            frame_start=tensors["frame_start"],
            info=info,
            origin=path,
        )
    except KnnvcError as error:
        raise KnnvcError(f"{path} cannot be used: {error}") from error


def merge(sets: Sequence[MatchingSet]) -> MatchingSet:
    """Join matching sets of one encoder into one that holds the frames of all, in order.

    Names of speakers and licences are joined. A recording that several sets hold is in the result
    once: it would be its own nearest neighbour.

    Warns:
        KnnvcWarning: a recording was left out, as it was there already.

    Raises:
        UsageError: there are no sets.
        KnnvcError: they come from different encoders.
    """
    if not sets:
        raise UsageError("there is nothing to merge: name at least one matching set")
    first = sets[0]
    for other in sets[1:]:
        other.check_encoder(first.info.encoder, first.info.preset)
        if _layout(other) != _layout(first):
            raise KnnvcError(
                "the matching sets differ in hop, sample rate or dimensions: "
                "build them all again with one version of one preset"
            )
    offsets = torch.tensor([0, *(len(s.match) for s in sets[:-1])]).cumsum(0)
    synth = torch.cat([s.synth for s in sets])
    separate = any(s.match is not s.synth for s in sets)
    infos = [s.info for s in sets]
    merged = MatchingSet(
        match=torch.cat([s.match for s in sets]) if separate else synth,
        synth=synth,
        frame_start=torch.cat([s.frame_start + o for s, o in zip(sets, offsets, strict=True)]),
        info=dataclasses.replace(
            first.info,
            files=tuple(name for info in infos for name in info.files),
            seconds=tuple(duration for info in infos for duration in info.seconds),
            speaker=_join(info.speaker for info in infos),
            licence=_join(info.licence for info in infos),
            created=_now(),
        ),
    )
    made, repeated = without_repeats(merged)
    if repeated:
        warnings.warn(repeats(repeated), KnnvcWarning, stacklevel=2)
    return made


def without_repeats(one: MatchingSet) -> tuple[MatchingSet, list[str]]:
    """The set with every recording in it once, and the names of those that were left out.

    Recordings are the same if their frames are, as float16: of those that came from a file and
    those that were encoded now, the first have been stored so.
    """
    starts = one.frame_start.tolist()
    ends = [*starts[1:], len(one.synth)]
    seen: set[bytes] = set()
    kept: list[int] = []
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        digest = hashlib.sha256(_compact_bytes(one.synth[start:end])).digest()
        if end == start or digest not in seen:
            kept.append(number)
        seen.add(digest)
    if len(kept) == len(starts):
        return one, []
    frames = torch.cat([torch.arange(starts[number], ends[number]) for number in kept])
    lengths = torch.tensor([0, *(ends[number] - starts[number] for number in kept[:-1])])
    info = one.info
    synth = one.synth[frames]
    made = dataclasses.replace(
        one,
        synth=synth,
        match=synth if one.match is one.synth else one.match[frames],
        frame_start=lengths.cumsum(0),
        info=dataclasses.replace(
            info,
            files=tuple(info.files[number] for number in kept),
            seconds=tuple(info.seconds[number] for number in kept),
        ),
        origin=None,
    )
    return made, [info.files[number] for number in range(len(starts)) if number not in kept]


def repeats(names: Sequence[str]) -> str:
    """What to say of recordings that `without_repeats` left out."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the recording {names[0]}{more} is there twice: it counts once"


def _layout(matching_set: MatchingSet) -> tuple[int, int, int, int]:
    """What must agree for the frames of two sets to stand in one."""
    return (
        matching_set.info.hop,
        matching_set.info.sample_rate,
        matching_set.match.shape[1],
        matching_set.synth.shape[1],
    )


def _join(texts: Iterable[str]) -> str:
    named = (name for text in texts for name in text.split("; "))
    return "; ".join(dict.fromkeys(name for name in named if name))


def _parse_entry(text: str) -> tuple[SetInfo, bool]:
    """Read the metadata: the info, and whether match is synth."""
    try:
        entry = json.loads(text)
        json.dumps(entry, ensure_ascii=False).encode()  # lone surrogates could not be printed
    except (ValueError, RecursionError) as error:  # RecursionError: nested beyond all reason
        raise KnnvcError("its metadata is damaged; get or build it again") from error
    _require(isinstance(entry, dict), "metadata is no object")
    version = entry.get("format_version")
    if type(version) is int and version > FORMAT_VERSION:
        raise KnnvcError(f"it has format {version} of a newer knnvc; upgrade knnvc to read it")
    if version == 1:
        raise KnnvcError(
            "it has format 1 of an older knnvc, without a checksum; build it again with "
            "`knnvc set build`"
        )
    _require(version == FORMAT_VERSION, f"format {str(version)[:20]!r} is unknown")
    match_is_synth = entry.pop(_MATCH_IS_SYNTH, None)
    _require(isinstance(match_is_synth, bool), f"{_MATCH_IS_SYNTH} is no true or false")
    entry.pop(_ADAPTATIONS, None)
    names = {f.name for f in dataclasses.fields(SetInfo)}
    _require(entry.keys() == names, "metadata has other fields than it should have")
    values: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in entry.items()}
    return SetInfo(**values), match_is_synth


def _compact(features: Tensor) -> Tensor:
    """`features` in float16, or in float32 where that cannot hold them."""
    fits = features.abs().max() <= torch.finfo(torch.float16).max
    return features.half() if fits else features


def _compact_bytes(features: Tensor) -> bytes:
    stored: bytes = _compact(features).contiguous().numpy().tobytes() if len(features) else b""
    return stored


def _expand(features: Tensor) -> Tensor:
    """What `_compact` stored, in float32; of any other type nothing is believed."""
    stored = features.dtype in (torch.float16, torch.float32)
    _require(stored, f"features are stored as {features.dtype}")
    return features.float()


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _is_tuple(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, tuple) and all(isinstance(item, kind) for item in value)


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise KnnvcError(f"the matching set is invalid ({problem}); get or build it again")
