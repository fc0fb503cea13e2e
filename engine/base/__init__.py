"""What every room may use: memory, timers, buffers, pauses, waiting, paths. Imports nothing of ours."""
