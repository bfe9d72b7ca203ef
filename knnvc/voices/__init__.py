"""Target speakers: references, matching sets, ready voices, the cache."""
