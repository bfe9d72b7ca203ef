"""Everything that only the preset `mini` does."""
