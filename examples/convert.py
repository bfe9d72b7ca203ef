"""Convert one recording, step by step; without arguments the example's own, into converted.wav.

python examples/convert.py
python examples/convert.py talk.wav anna/ talk_as_anna.wav
"""

from __future__ import annotations

import sys
from pathlib import Path

import soundfile

from knnvc import VoiceConverter

AUDIO = Path(__file__).parent / "audio"
source, target, output = sys.argv[1:] or (AUDIO / "source.wav", AUDIO / "target", "converted.wav")

converter = VoiceConverter.from_preset("mini")
voice = converter.matching_set(target)  # all frames of the target speaker
features = converter.encode(source)  # [T, D], one frame every 20 ms
frames = converter.match(features, voice, k=4, lam=1.0)  # the target's nearest frames
waveform = converter.vocode(frames)  # [T * 320] samples

soundfile.write(output, waveform.numpy(), converter.sample_rate)
print(f"{output}: {len(waveform) / converter.sample_rate:.1f} s in the voice of {target}")
