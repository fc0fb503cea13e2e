"""The model: tasks, shares, the region map, documents. Pure: no I/O, no knowledge of who calls."""
