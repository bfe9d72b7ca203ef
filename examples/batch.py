"""Convert every recording of a folder into one voice: load and encode once, convert many times.

python examples/batch.py
python examples/batch.py anna/ recordings/ converted/
"""

from __future__ import annotations

import sys
from pathlib import Path

from knnvc import KnnvcError, VoiceConverter

AUDIO = Path(__file__).parent / "audio"
target, sources, output = sys.argv[1:] or (AUDIO / "target", AUDIO, "converted")

converter = VoiceConverter.from_preset("mini")
voice = converter.matching_set(target)
print(f"{voice.seconds:.0f} s of {target}")

failed = 0
for source in sorted(Path(sources).glob("*.wav")):
    try:
        print(converter.convert_file(source, voice, Path(output) / source.name, force=True))
    except KnnvcError as error:  # one bad file does not stop the others
        print(f"{source}: {error}", file=sys.stderr)
        failed += 1
sys.exit(1 if failed else 0)
