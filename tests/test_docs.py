"""README, CONTRIBUTING and the documentation site: their Python runs, and what they name is there."""

import ast
import dataclasses
import importlib
import importlib.util
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ml_collections import ConfigDict

from wgan_jax.config import check, default
from wgan_jax.config.settings import flatten

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {str(page.relative_to(ROOT)): page.read_text() for page in PAGES}
"""Every page by its path. What the changelog names was true when it was written; it is no page here."""

FENCED_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PLACEHOLDER = re.compile(r"…|\bNAME\b")

page = pytest.mark.parametrize("name", TEXTS)


def test_readme_is_short() -> None:
    """A reader has it read within five minutes: at most 1,300 words."""
    assert len(TEXTS["README.md"].split()) <= 1_300


def test_contributing_is_one_screen() -> None:
    assert len(TEXTS["CONTRIBUTING.md"].splitlines()) <= 50


def test_the_readmes_command_for_the_tests_is_what_is_checked() -> None:
    (command,) = re.findall(r"^    (python3 -m venv .*pytest.*)$", TEXTS["README.md"], re.MULTILINE)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if FENCED_PYTHON.search(text)])
@pytest.mark.usefixtures("quick_compilation")
def test_python_runs_as_pasted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's blocks run one after another, as in the cells of a notebook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cells = ModuleType("cells")
    monkeypatch.setitem(sys.modules, "cells", cells)  # where a class that is pasted looks its module up
    for block in FENCED_PYTHON.findall(TEXTS[name]):
        exec(compile(block, name, "exec"), cells.__dict__)


@page
def test_links_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target.read_text()) or _resolves(anchor), link


def _anchors(text: str) -> list[str]:
    """The anchors of a page's headings, as MkDocs and GitHub alike make them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles]


@page
def test_files_exist(name: str) -> None:
    for path in re.findall(r"(?<![\w/.-])(?:configs|notebooks|tests|wgan_jax)/[\w/]+\.(?:py|ipynb|md)\b", TEXTS[name]):
        assert PLACEHOLDER.search(path) or (ROOT / path).is_file(), path


@page
def test_names_of_the_library_exist(name: str) -> None:
    for dotted in set(re.findall(r"(?<![\w/.])wgan_jax(?:\.[A-Za-z]\w*)+", TEXTS[name])) - {"wgan_jax.lock"}:
        if not PLACEHOLDER.search(dotted):
            assert _resolves(dotted), dotted


def _resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, *rest = dotted.split(".")
    thing: Any = importlib.import_module(module)
    for part in rest:
        module = f"{module}.{part}"
        if hasattr(thing, part):
            thing = getattr(thing, part)
        elif isinstance(thing, ModuleType) and importlib.util.find_spec(module):
            thing = importlib.import_module(module)
        else:
            return False
    return True


def test_the_reference_has_every_module() -> None:
    named = {name for text in TEXTS.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}
    files = [path for path in (ROOT / "wgan_jax").glob("*/*.py") if path.name != "__init__.py"]
    assert named == {f"wgan_jax.{path.parent.name}.{path.stem}" for path in files}


@page
def test_settings_exist(name: str) -> None:
    keys = dict(flatten(default()))
    sections = {key.rpartition(".")[0] for key in keys}
    for key in re.findall(r"(?<![\w./(])config\.([a-z]\w*(?:\.\w+)*)", TEXTS[name].replace("config.json", "")):
        if not PLACEHOLDER.search(key):
            assert key in keys or key in sections, key


@page
def test_commands_exist(name: str) -> None:
    """Each command names a module with these flags, and a config that `check` accepts with these settings."""
    for module, given in _commands(TEXTS[name]):
        if PLACEHOLDER.search(module):
            continue
        assert importlib.util.find_spec(module), module
        settings = {key.removeprefix("config."): value for key, value in given.items() if key.startswith("config.")}
        flags = {key for key in given if not key.startswith("config.")}
        assert flags <= _flags(module) | {"help"}, module
        if "config" in given and not PLACEHOLDER.search(given["config"]):
            check(_config(given["config"], settings))


def _commands(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The module and the flags of every command of this package that a page has."""
    for module, rest in re.findall(r"python3? -m (wgan_jax[\w.]*)([^\n`']*)", re.sub(r"\\\n\s*", "", text)):
        flags = re.split(r"\s(?:&&|#)", rest)[0]
        yield module, dict(re.findall(r"--([\w.-]+)(?:=([^\s\]]+))?", flags))


def _flags(module: str) -> set[str]:
    """The flags that a command defines."""
    if module.startswith("wgan_jax.experiments."):
        things = vars(importlib.import_module(module)).values()
        settings = [thing for thing in things if dataclasses.is_dataclass(thing) and thing.__module__ == module]
        return {"workdir", "preset"} | {field.name for setting in settings for field in dataclasses.fields(setting)}
    source = (ROOT / (module.replace(".", "/") + ".py")).read_text()
    defined = set(re.findall(r"(?:DEFINE_\w+|define_path)\(\s*\"([\w-]+)\"", source))
    return defined | ({"config"} if "define_config(" in source else set())


def _config(argument: str, settings: dict[str, str]) -> ConfigDict:
    """What `--config=ARGUMENT` with `--config.KEY=VALUE` gives."""
    path, _, choice = argument.partition(":")
    spec = importlib.util.spec_from_file_location("config_file", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(choice) if choice else module.get_config()
    kinds = {key: type(value) for key, value in flatten(config)}
    for key, value in settings.items():
        assert key in kinds, f"config.{key}"
        if not PLACEHOLDER.search(value):
            config.update_from_flattened_dict({key: value if kinds[key] is str else ast.literal_eval(value)})
    return config
