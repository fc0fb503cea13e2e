"""``python -m engine``: the same as the command ``purgeline``."""

from engine.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
