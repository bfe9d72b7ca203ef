#!/usr/bin/env bash
# Some minutes of training on an accelerator: vocoder/accelerated.sh PART MINUTES [OPTION ...]
#
# PART is encoder, refiner or vocoder; options are those of that step. It packs what the training
# needs into one file of 60 MB or less, trains, and leaves weights in files of 16 MB or less. Each of
# the three is skipped or resumed where an earlier call left it. Variables, all of them optional:
#   CORPUS      the corpus to pack                            [corpus]
#   START       weights to begin with                         [encoder: Whisper base's; else none]
#   ENCODER     for the refiner, or to teach the vocoder      [refiner: runs/encoder/encoder.safetensors]
#   PREMATCHED  what `prematch` wrote, for the vocoder
#   CONFIG      options of the step                           [vocoder/configs/mini.json]
#   PACKED      the packed file; what is there is taken       [runs/packed-PART.zip]
#   PACK_ONLY   set to 1, it packs and does nothing else
#   RUN         where it unpacks and trains                   [runs/accelerated-PART]
#   OUT         where the weights go                          [RUN/weights]
#   DEVICE      of the networks                               [cuda]
#   WORKERS     processes that draw batches                   [all cores but two]
#   PYTHON      the interpreter                               [python3]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
part=${1:-} minutes=${2:-}
if [[ ! $part =~ ^(encoder|refiner|vocoder)$ || ! $minutes =~ ^[0-9.]+$ ]]; then
    echo "usage: vocoder/accelerated.sh encoder|refiner|vocoder MINUTES [OPTION ...]" >&2
    exit 2
fi
shift 2
packed=${PACKED:-runs/packed-$part.zip}
run=${RUN:-runs/accelerated-$part}
out=${OUT:-$run/weights}
cores=$(nproc)
workers=${WORKERS:-$((cores > 2 ? cores - 2 : 0))}
export OMP_NUM_THREADS=1
step() { printf '\n=== %s\n' "$*"; "${PYTHON:-python3}" vocoder/mini.py "$@"; }

if [[ ! -e $packed ]]; then
    step pack "$part" --corpus "${CORPUS:-corpus}" ${START:+--start "$START"} \
        ${ENCODER:+--encoder "$ENCODER"} ${PREMATCHED:+--prematched "$PREMATCHED"} --out "$packed"
fi
if [[ -n ${PACK_ONLY:-} ]]; then exit; fi

step unpack "$packed" --out "$run/corpus"
weights=$run/corpus/weights
given=()
if [[ -e $weights/start.safetensors ]]; then given+=(--start "$weights/start.safetensors"); fi
if [[ -e $weights/encoder.safetensors ]]; then given+=(--encoder "$weights/encoder.safetensors"); fi
if [[ $part == vocoder && -e $weights/prematched.safetensors ]]; then
    given+=(--prematched "$weights/prematched.safetensors")
fi
step "$part" --corpus "$run/corpus" --out "$run/$part" "${given[@]}" \
    --config "${CONFIG:-vocoder/configs/mini.json}" --minutes "$minutes" --device "${DEVICE:-cuda}" \
    --workers "$workers" --bf16 "$@"
step split "$run/$part/$part.safetensors" --out "$out"
if [[ $part == refiner ]]; then
    step split "$run/$part/content.safetensors" --out "$out/content"
    cp "$run/$part/speakers.safetensors" "$out/" 2>/dev/null || true
fi
cp "$run/$part/log.jsonl" "$out/" 2>/dev/null || true
