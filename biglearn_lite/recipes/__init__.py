"""Recipes: one TOML file a model, read by `biglearn train`."""
