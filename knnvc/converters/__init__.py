"""Rules that map source features to frames of the target."""
