"""What every room may use: memory, timers, buffers, pauses, background tasks, paths. Imports nothing of ours."""
