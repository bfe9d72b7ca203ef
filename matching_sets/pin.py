"""Pin voices to a preset of `mini`'s kind: frames that references are converted into.

    python matching_sets/pin.py runs/mini emma=emma.opus heart=heart.opus george=george.opus

Speaker adaptation (knnvc/mini/adaptation.py) converts a part of the references into other voices
and back. These voices are an asset of the preset, so that a user's voice depends on nothing but its
recordings and the preset. Run this after training another encoder; give matching sets of the
encoder, or recordings, of a few voices. Writes PRESET/voices.safetensors and names it in
preset.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from knnvc import VoiceConverter
from knnvc.errors import UsageError
from knnvc.files import atomic_path
from knnvc.mini.adaptation import write_voices

ASSET = "voices.safetensors"


def main() -> None:
    """Read the command line, encode, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("preset", type=Path, help="its folder")
    parser.add_argument("voices", nargs="+", metavar="NAME=PATH", help="recordings of a voice")
    options = parser.parse_args()
    named = dict(one.split("=", 1) for one in options.voices if "=" in one)
    if len(named) < len(options.voices):
        raise UsageError("name each voice as NAME=PATH")
    converter = VoiceConverter.from_preset(options.preset, "cpu")
    sets = {name: converter.matching_set(path) for name, path in named.items()}
    write_voices(options.preset / ASSET, sets)
    table = options.preset / "preset.json"
    values = json.loads(table.read_text(encoding="utf-8"))
    for part in ("converter", "speech_converter"):
        if values.get(part, {}).get("type") == "mini":
            values[part]["assets"] = {"voices": ASSET}
    with atomic_path(table) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
