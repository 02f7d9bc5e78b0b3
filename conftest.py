"""Loads the hooks for notebooks, which must act above both tests/ and notebooks/."""

pytest_plugins = ["tests.notebook_hooks"]
