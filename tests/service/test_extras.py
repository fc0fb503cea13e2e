"""Every module of the engine is imported when a release is unpacked, also where no extra is installed."""

import subprocess
import sys
from pathlib import Path

from engine.base.form import is_compiled

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("cryptography", "isal", "jwt", "opentelemetry", "pygments", "rich", "uvloop")
IMPORT_ALL = """
import importlib, pkgutil, sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Without())
import engine
for module in pkgutil.walk_packages(engine.__path__, "engine."):
    if not module.name.endswith(".__main__"):
        importlib.import_module(module.name)
print("imported")
"""


def test_no_module_needs_an_extra_to_be_imported() -> None:
    """A release whose hot modules are compiled brings librt, which they need."""
    extras = EXTRAS if is_compiled() else (*EXTRAS, "librt")
    said = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *extras], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.stdout == "imported\n", said.stderr[-2000:]
