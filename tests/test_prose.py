"""Docstrings in plain English, as far as a program can tell: functions' begin with a verb, attributes' with a noun."""

import ast
import re

import pytest

from .commands import ROOT

FILES = sorted((ROOT / "wgan_jax").rglob("*.py"))
VERB = re.compile(r"[A-Z][a-z]+s\b")
DANGLING = re.compile(r"(Of|From|For|What|How|With|Where|As|In|If)\b")


def first_lines(tree):
    """Yields (is it a function, first line) of every docstring below the module's own, those of attributes included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
            is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
            yield not is_property, text.splitlines()[0]
        elif isinstance(node, ast.Module | ast.ClassDef):
            for statement in node.body[1:]:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        yield False, text.strip().splitlines()[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_docstrings_begin_as_plain_english_does(path):
    for is_function, line in first_lines(ast.parse(path.read_text())):
        assert not DANGLING.match(line), line
        assert not is_function or VERB.match(line), f"begins with no verb: {line}"


@pytest.mark.parametrize("path", sorted((ROOT / "wgan_jax").glob("*.py")), ids=lambda path: path.name)
def test_the_help_of_a_flag_begins_as_plain_english_does(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith(("DEFINE_", "define_path")):
            for help in [arg.value for arg in node.args[2:] if isinstance(arg, ast.Constant)]:
                assert not isinstance(help, str) or not re.match(r"(Of|What)\b", help.partition(": ")[2] or help), help
