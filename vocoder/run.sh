#!/usr/bin/env bash
# The whole recipe of the preset `mini`, from nothing to a preset folder. Every step resumes: after
# an interruption, run the same command again. Other values: vocoder/run.sh my-config.json
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=${1:-vocoder/configs/mini.json}
step() { printf '\n=== %s\n' "$*"; "${PYTHON:-python3}" vocoder/mini.py "$@"; }

step corpus --corpus corpus --config "$config"
step twins --corpus corpus --config "$config"
step recordings --corpus corpus --config "$config"
step encoder --corpus corpus --out runs/encoder --config "$config"
step refiner --corpus corpus --out runs/refiner --config "$config" --recorded-share 0
first=runs/refiner/refiner.safetensors second=runs/refiner-2/refiner.safetensors
step refiner --corpus corpus --out runs/refiner-2 --config "$config" --start $first --rate 0.0005
step prematch --corpus corpus --refiner $first --out runs/matched.safetensors
step vocoder --corpus corpus --prematched runs/matched.safetensors --out runs/vocoder --config "$config"
step package --refiner $first --refiner $second --out runs/mini
