"""Convert with published kNN-VC weights: downloaded, or imported from files that you have.

python examples/published_preset.py --download
python examples/published_preset.py talk.wav anna/ talk_as_anna.wav --folder my-preset \
    --encoder WavLM-Large.pt --vocoder prematch_g_02500000.pt --vocoder-config config.json

Without weights and without --download it converts with `mini`, which comes with knnvc.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from knnvc import UsageError, VoiceConverter
from knnvc.presets.importing import import_published, pull
from knnvc.presets.search import find_preset

AUDIO = Path(__file__).parent / "audio"
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
parser.add_argument("source", type=Path, nargs="?", default=AUDIO / "source.wav")
parser.add_argument("target", type=Path, nargs="?", default=AUDIO / "target")
parser.add_argument("output", type=Path, nargs="?", default=Path("converted.wav"))
parser.add_argument("--download", action="store_true", help="get about 1.3 GB, once")
parser.add_argument("--encoder", type=Path, help="weights that you have, with the next two")
parser.add_argument("--layer", type=int, default=6)
parser.add_argument("--vocoder", type=Path)
parser.add_argument("--vocoder-config", type=Path)
parser.add_argument("--folder", type=Path, default=Path("published-preset"))
args = parser.parse_args()

if args.encoder is not None:
    preset = import_published(
        args.encoder, args.layer, args.vocoder, args.vocoder_config, args.folder, force=True
    )
elif args.download:
    preset = pull("wavlm-large")
else:
    try:
        preset = find_preset("wavlm-large")  # downloaded earlier
    except UsageError:
        print("the published weights are not here (--download gets them): converting with mini")
        preset = find_preset("mini")
converter = VoiceConverter.from_preset(preset.folder)
print(converter.convert_file(args.source, args.target, args.output, force=True))
