"""A contract for import-linter: what runs on a host by itself imports the standard library alone."""

import sys
from typing import cast

import grimp
from importlinter import Contract, ContractCheck, fields, output


class StandardLibraryContract(Contract):
    """Broken by every import that is neither of the package itself nor of Python's standard library.

    Configuration: ``packages``, a list, with all that lies below them.
    """

    type_name = "standard_library"
    packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        """Return whether the contract is kept, with the imports that break it."""
        foreign: list[str] = []
        for package in cast("list[str]", self.packages):
            for module in sorted({package} | graph.find_descendants(package)):
                foreign += [
                    f"{module} imports {imported}"
                    for imported in sorted(graph.find_modules_directly_imported_by(module))
                    if imported.partition(".")[0] not in sys.stdlib_module_names
                    and f"{imported}.".partition(f"{package}.")[0]
                ]
        return ContractCheck(kept=not foreign, metadata={"foreign": foreign})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print the imports that break it."""
        for line in check.metadata["foreign"]:
            output.print_error(line)
