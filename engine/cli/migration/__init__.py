"""Moving an engine's tasks from one store to another: ``purgeline migrate``.

`opening` makes a `side.Side` of each URL, `migrate` copies what one side yields into the other and compares
them. Imports the stores, below; only `engine.cli.local` starts it.
"""
