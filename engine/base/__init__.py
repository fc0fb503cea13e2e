"""What every room may use: memory, timers, buffers. Imports nothing of ours."""
