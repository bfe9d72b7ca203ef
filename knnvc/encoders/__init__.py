"""Speech to features."""
