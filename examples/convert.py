"""Convert one recording, step by step.

python examples/convert.py examples/audio/source.wav examples/audio/target converted.wav
"""

from __future__ import annotations

import sys

import soundfile

from knnvc import VoiceConverter

source, target, output = sys.argv[1:]

converter = VoiceConverter.from_preset("mini")
voice = converter.matching_set(target)  # all frames of the target speaker
features = converter.encode(source)  # [T, D], one frame every 20 ms
frames = converter.match(features, voice, k=4, lam=1.0)  # the target's nearest frames
waveform = converter.vocode(frames)  # [T * 320] samples

soundfile.write(output, waveform.numpy(), converter.sample_rate)
print(f"{output}: {len(waveform) / converter.sample_rate:.1f} s in the voice of {target}")
