"""Benchmarks of frozen encoders in the manner of SUPERB and HEAR, and tasks of one's own."""
