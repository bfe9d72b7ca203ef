"""The features of `mini`: what encoder, refiner, vocoder and text front end agree on.

Synthesis columns of a frame of 20 ms are `MELS · SUBSTEPS` log-mel values (oldest spectrum first),
log2 of f0 in Hz, and the probability of voicing. Match columns are log2 f0, voicing, the square
root of the posterior of silence, those of three states for each phone, and content columns.
"""

from __future__ import annotations

SAMPLE_RATE = 16_000  # Hz
HOP = 320  # samples of a frame
WINDOW = 400  # samples that the first frame takes, as in published encoders
MEL_SHIFT, MEL_SCALE = 0.5, 2.5  # bring log magnitudes of speech to about unit scale
PITCH_CENTRE = 7.2288  # log2 of 150 Hz: what the pitch head predicts around
