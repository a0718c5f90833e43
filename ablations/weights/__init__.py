"""Weights from elsewhere, and of runs: told, converted and evaluated."""
