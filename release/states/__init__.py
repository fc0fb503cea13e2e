"""Salt: the state tree that is shipped, and how it is applied."""
