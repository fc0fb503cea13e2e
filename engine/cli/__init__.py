"""The command line. The top floor: may import every room; nothing imports it.

Enters: the words of a shell (`main.main`, the entry point ``purgeline``; `arguments` says which commands
there are). `submit` and `views` ask an engine through `client`; `local` runs an engine, checks its
configuration or moves its store (`migration`); `check_nodes` asks the caches themselves, `rendering` prints
what they need (`fragments`), `top` shows an engine live. Leaves: text by `screen` (`cells`, `layout`), and
an exit code (`exits`).

Commands that only talk to an engine import nothing but the standard library; rich, for a terminal alone.
"""
