"""Who imports whom: the order of the rooms, and what stays outside of each."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from .commands import ROOT, environment

PACKAGE = ROOT / "wgan_jax"
COMMANDS = ("train", "sample", "evaluate", "prepare", "benchmark", "aot")

# Every arrow from a room, or from a file beside the rooms, to another. Each may import only what stands above it here.
ARROWS = {
    "errors": "",
    "version": "",
    "files": "errors",
    "method": "errors",
    "networks": "",
    "data": "errors method",
    "config": "errors method networks data",
    "devices": "errors method",
    "metrics": "errors method data devices",
    "report": "errors files method data",
    "run": "errors version files method data config devices metrics report",
    "cost": "errors method data config devices",
    "cli": "errors devices",
    "train": "config devices run cli",
    "sample": "errors method report run cli",
    "evaluate": "metrics run cli",
    "prepare": "data cli",
    "benchmark": "cost cli",
    "aot": "config cost cli",
    "experiments": "errors version files method networks data config metrics report cli",
    "wgan_jax": "errors version method config run",
}

MOST_ARROWS = 68

# What the rooms of mathematics may import from elsewhere: no settings, files, clocks, flags or pictures.
MATHEMATICS = {
    *("__future__", "collections", "dataclasses", "enum", "functools", "itertools", "math", "operator", "typing"),
    *("contextlib", "chex", "flax", "jax", "numpy", "optax"),
}

# What knows files, folders and networks of computers.
PLACES = {"glob", "http", "io", "os", "pathlib", "pickle", "shutil", "socket", "tempfile", "urllib", "zipfile"}

# The modules of metrics that may import some of them: one finds, fetches and reads the files of pretrained weights, and
# one takes the bytes of such a file apart.
READERS = {
    "wgan_jax.metrics.weights": {"http", "os", "pathlib", "urllib"},
    "wgan_jax.metrics.torch_file": {"io", "pickle", "zipfile"},
}

# What other rooms may not import from elsewhere.
FOREIGN = {
    "data": {"absl", "flax", "jax", "optax", "orbax"},  # no players and no compiled calls
    "devices": {"absl", "ml_collections"},  # numbers and digests, not a config
    "metrics": {"absl", *PLACES},  # a state, not a workdir
    "report": {"absl", "ml_collections"},
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Returns the modules that one imports, anywhere in its text: ours and others."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            assert node.module is not None
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in full}
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.partition(".")[0] == "wgan_jax"}


def room_of(module: str) -> str:
    """Returns the room that a module is in, or the name of a file that stands beside the rooms."""
    return module.split(".")[1] if "." in module else module


def members(room: str) -> list[str]:
    return [module for module in MODULES if room_of(module) == room]


def reached(modules: list[str]) -> set[str]:
    """Returns what is imported with some modules, over any number of others; a module brings its room's `__init__`."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            parent = module.rpartition(".")[0]
            waiting += [*ours(module), *([parent] if "." in parent else [])]
    return found


def test_rooms_import_what_the_table_says_and_nothing_else():
    rooms = {room_of(module) for module in MODULES}
    found = {room: {room_of(name) for module in members(room) for name in ours(module)} - {room} for room in rooms}
    assert found == {room: set(arrows.split()) for room, arrows in ARROWS.items()}
    assert sum(map(len, found.values())) <= MOST_ARROWS


def test_no_arrow_points_up_and_nobody_imports_a_command_or_an_experiment_or_the_face():
    order = list(ARROWS)
    for room, arrows in ARROWS.items():
        for other in arrows.split():
            assert order.index(other) < order.index(room), f"{room} imports {other}"
            assert other not in (*COMMANDS, "experiments", "wgan_jax"), f"{room} imports {other}"


def test_modules_have_no_circle():
    for module in MODULES:
        assert ours(module) <= MODULES.keys(), f"{module} imports what is not there"
    graph = {module: ours(module) - {module} for module in MODULES}
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("room", "known"),
    [
        ("method", {"errors"}),
        ("networks", set()),
        ("data", {"errors", "method"}),
        ("config", {"errors", "method", "networks", "data"}),
        ("devices", {"errors", "method"}),
        ("metrics", {"errors", "method", "data", "devices"}),
        ("report", {"errors", "files", "method", "data"}),
    ],
)
def test_what_a_room_knows_of_the_others_even_indirectly(room, known):
    assert {room_of(module) for module in reached(members(room))} - {room} == known


def test_only_config_joins_our_networks_to_a_gan():
    joins = {m for m in MODULES if any(room_of(n) == "networks" for n in ours(m)) and room_of(m) != "networks"}
    assert {room_of(module) for module in joins} == {"config", "experiments"}
    assert not any("wgan_jax.method.gan" in ours(m) for m in joins if room_of(m) == "experiments")


@pytest.mark.parametrize("room", ["method", "networks", "errors"])
def test_the_rooms_of_mathematics_know_no_setting_file_or_clock(room):
    allowed = MATHEMATICS | ({"difflib", "sys"} if room == "errors" else set())  # hints, and a line on stderr
    for module in members(room):
        others = {name.partition(".")[0] for name in imports(module) - ours(module)}
        assert others <= allowed, f"{module} imports {others - allowed}"
        if room != "errors":
            called = {getattr(node.func, "id", "") for node in ast.walk(tree_of(module)) if isinstance(node, ast.Call)}
            assert not called & {"open", "print", "input"}, module


@pytest.mark.parametrize("room", FOREIGN)
def test_what_stays_outside_of_a_room(room):
    for module in members(room):
        others = {name.partition(".")[0] for name in imports(module)}
        assert others & FOREIGN[room] == READERS.get(module, set()), f"{module} imports {others & FOREIGN[room]}"


def test_two_modules_of_metrics_touch_files():
    """One that reads and fetches weights, and one that looks whether a cascade of OpenCV's is there."""
    touching = {"wgan_jax.metrics.weights", "wgan_jax.metrics.faces"}
    calls = {m: [n.func for n in ast.walk(tree_of(m)) if isinstance(n, ast.Call)] for m in members("metrics")}
    named = {m: {getattr(f, "id", getattr(f, "attr", "")) for f in functions} for m, functions in calls.items()}
    files = {"open", "fromfile", "memmap", "savez", "read_bytes", "read_text", "write_bytes", "write_text", "is_file"}
    assert {m for m in members("metrics") if named[m] & files} == touching


def test_every_import_is_written_as_one():
    """A module that is imported by its name as a text would pass by the tests above."""
    for module in MODULES:
        names = {getattr(node, "attr", getattr(node, "id", "")) for node in ast.walk(tree_of(module))}
        names |= {
            alias.name for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom) for alias in node.names
        }
        assert not names & {"import_module", "__import__", "run_module", "run_path"}, module


IMPORT_ALL = """
import importlib, sys
import wgan_jax
before = {name: getattr(wgan_jax, name) for name in wgan_jax.__all__}
for name in sys.argv[1:]:
    importlib.import_module(name)
for name, value in before.items():
    assert getattr(wgan_jax, name) is value, name
assert callable(wgan_jax.sample)
"""


def test_no_import_changes_what_the_package_gives():
    names = [name for name in MODULES if name != "wgan_jax"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
