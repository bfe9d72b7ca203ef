"""Text to phonemes, and text front ends."""
