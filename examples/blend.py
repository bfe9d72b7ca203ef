"""Walk from the source's voice to the target's (λ), and halfway between two targets (weights).

python examples/blend.py
python examples/blend.py talk.wav anna/ ben/ blends/
"""

from __future__ import annotations

import sys
from pathlib import Path

from knnvc import ConvertOptions, VoiceConverter

SOURCE = Path(__file__).parent / "audio/source.wav"
source, first, second, output = sys.argv[1:] or (SOURCE, "voice:emma", "voice:george", "blends")

converter = VoiceConverter.from_preset("mini")
a, b = converter.matching_set(first), converter.matching_set(second)

for lam in (0.0, 0.5, 1.0):
    path = Path(output) / f"lam_{lam}.wav"
    print(converter.convert_file(source, a, path, ConvertOptions(lam=lam), force=True))

for share in (0.25, 0.5, 0.75):
    path = Path(output) / f"blend_{share}.wav"
    voices = [(a, share), (b, 1 - share)]
    print(converter.convert_file(source, voices, path, force=True))
