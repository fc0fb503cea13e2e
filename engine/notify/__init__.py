"""Callbacks and alerts."""
