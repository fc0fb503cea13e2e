"""The other workers of one engine."""
