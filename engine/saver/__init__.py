"""The saver pool: the threads that write, and the loop's side of them."""
