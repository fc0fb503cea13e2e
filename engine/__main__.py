"""``python -m engine``: the same as the command ``purgeline``."""

try:
    from engine.cli.main import main
except KeyboardInterrupt:  # Ctrl-C while the modules load
    raise SystemExit(130) from None

if __name__ == "__main__":
    raise SystemExit(main())
