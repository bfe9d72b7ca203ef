"""Speak a text in the voice of a reference, sentence by sentence, and once with λ = 0 to compare.

python examples/tts.py
python examples/tts.py "It was the best of times." anna/ spoken.wav
"""

from __future__ import annotations

import sys

from knnvc import SpeakOptions, VoiceConverter

arguments = sys.argv[1:] or ("It was the best of times.", "voice:heart", "spoken.wav")
text, target, output, *preset = arguments

converter = VoiceConverter.from_preset(preset[0] if preset else "mini")
voice = converter.matching_set(target)  # encoded once, for every text that follows

converter.speak_file(text, voice, output, SpeakOptions(speed=1.0, seed=0), force=True)
print(f"{output}: in the voice of {target}")

own = output.replace(".wav", "_own_voice.wav")
converter.speak_file(text, None, own, SpeakOptions(lam=0.0), force=True)
print(f"{own}: the front end's own voice, which no reference has touched")
