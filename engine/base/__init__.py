"""What every room may use: memory, timers, clocks, buffers, pauses, paths, templates. It imports no room."""
