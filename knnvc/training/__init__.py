"""Recipes that make the presets. Never imported by inference."""
