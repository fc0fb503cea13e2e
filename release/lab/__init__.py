"""Real caches, an origin and a small caching proxy, for the demo and the tests."""
