"""Exploration: goals at the frontier of what was visited, and costs of novelty and of disagreement."""
