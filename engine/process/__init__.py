"""The process around an engine: assembly, start, drain and close, single process or worker."""
