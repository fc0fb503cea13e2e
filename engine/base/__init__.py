"""What every room may use: memory, timers, buffers, pauses, paths, templates. Imports nothing of ours."""
