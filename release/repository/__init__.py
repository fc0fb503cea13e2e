"""Published artefacts and their signed index, on any transport."""
