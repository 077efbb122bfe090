"""The measures, one file each. Every module in this folder is imported, and what it registers joins the grammar."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
