"""The shared store, on Redis: single, Sentinel or Cluster."""
