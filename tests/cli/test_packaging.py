"""What a wheel holds: every package of the checkout, and the data files that the code reads."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"tests", "bench", "docs", "build"}


def test_every_package_and_data_file_is_listed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [path.parent.relative_to(ROOT) for path in ROOT.rglob("__init__.py") if ".venv" not in path.parts]
    names = {".".join(("cribble", *folder.parts)) for folder in folders if not NOT_SHIPPED & set(folder.parts)}
    assert names == set(settings["packages"])
    for package, patterns in settings["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: nothing matches {pattern}"
