"""Looking into a running engine: its threads, its loop, its memory.

Standard library and msgspec alone; nothing here runs, or is noticed, until somebody asks. What is asked comes
from `engine.api.debug_routes`, and goes back there as structures; of other rooms only `engine.base` is used.
"""
