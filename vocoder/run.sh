#!/usr/bin/env bash
# The whole recipe of the preset `mini`, from nothing to a preset folder. Every step resumes: after
# an interruption, run the same command again. Other values: vocoder/run.sh my-config.json
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=${1:-vocoder/configs/mini.json}
step() { printf '\n=== %s\n' "$*"; "${PYTHON:-python3}" vocoder/mini.py "$@"; }

step corpus --corpus corpus --config "$config"
step twins --corpus corpus --config "$config"
speech=${SPEECH:-../shared/speech/train}
step people --corpus corpus --speech "$speech"
step own --corpus corpus
step encoder --corpus corpus --out runs/encoder-1 --config "$config" --steps 500
# Aligned again by what was learnt: the preset's encoder hears fewer phones rightly.
step people --corpus corpus --speech "$speech" --encoder runs/encoder-1/encoder.safetensors
step encoder --corpus corpus --out runs/encoder --config "$config" --start runs/encoder-1/encoder.safetensors
step refiner --corpus corpus --out runs/refiner --config "$config"
refiner=runs/refiner/refiner.safetensors
step prematch --corpus corpus --refiner $refiner --out runs/matched.safetensors
step vocoder --corpus corpus --prematched runs/matched.safetensors --out runs/vocoder --config "$config"
step package --refiner $refiner --out runs/mini
