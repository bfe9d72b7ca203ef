"""Zero-shot voice conversion and text-to-speech with nearest neighbours (kNN-VC, kNN-TTS).

The names below are imported when first used, so that `import knnvc` stays light.
"""

from __future__ import annotations

from importlib import import_module

# As typing has it; importing that takes most of the time until `knnvc.cli.start` hears Ctrl-C.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from knnvc.converters.matching_set import MatchingSet
    from knnvc.encoding import features
    from knnvc.errors import KnnvcError, UsageError
    from knnvc.options import ConvertOptions, SpeakOptions
    from knnvc.pipeline import VoiceConverter, convert, synthesize

__version__ = "0.1.0"
__all__ = [
    "ConvertOptions",
    "KnnvcError",
    "MatchingSet",
    "SpeakOptions",
    "UsageError",
    "VoiceConverter",
    "__version__",
    "convert",
    "features",
    "synthesize",
]

_HOMES = {
    "ConvertOptions": "knnvc.options",
    "KnnvcError": "knnvc.errors",
    "MatchingSet": "knnvc.converters.matching_set",
    "SpeakOptions": "knnvc.options",
    "UsageError": "knnvc.errors",
    "VoiceConverter": "knnvc.pipeline",
    "convert": "knnvc.pipeline",
    "features": "knnvc.encoding",
    "synthesize": "knnvc.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
