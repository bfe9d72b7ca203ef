"""Named bundles of parts: what they say, where they lie, download, import, loading."""
