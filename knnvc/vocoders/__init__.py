"""Frames to a waveform."""
