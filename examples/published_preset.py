"""Convert with published kNN-VC weights: downloaded, or imported from files that you have.

python examples/published_preset.py source.wav target/ converted.wav
python examples/published_preset.py source.wav target/ converted.wav --folder my-preset \
    --encoder WavLM-Large.pt --vocoder prematch_g_02500000.pt --vocoder-config config.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from knnvc import VoiceConverter
from knnvc.presets.importing import import_published, pull

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("source", type=Path)
parser.add_argument("target", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--encoder", type=Path, help="without it, about 1.3 GB are downloaded once")
parser.add_argument("--layer", type=int, default=6)
parser.add_argument("--vocoder", type=Path)
parser.add_argument("--vocoder-config", type=Path)
parser.add_argument("--folder", type=Path, default=Path("published-preset"))
args = parser.parse_args()

if args.encoder is None:
    preset = pull("wavlm-large")
else:
    preset = import_published(
        args.encoder, args.layer, args.vocoder, args.vocoder_config, args.folder, force=True
    )
converter = VoiceConverter.from_preset(preset.folder)
print(converter.convert_file(args.source, args.target, args.output, force=True))
