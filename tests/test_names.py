"""The package speaks one language: a name means one thing, and a docstring is a sentence."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import harness

PACKAGE = Path(harness.__file__).parent
TREES = {path.relative_to(PACKAGE.parent): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}
#: A docstring that begins so has neither subject nor verb.
FRAGMENT = re.compile(r"(Of|Those|As|By|Where|Until|In|When|Who|Whose|From|With|Not|Once|Here|There) ")
#: Words of a private language that the package once had; docs/glossary.md has those in their place.
#: (The key "kin" stands in manifests on disk, which stay readable.)
PRIVATE = re.compile(r"\b(told|Said|kin|mend|hear)\b(?<!\"kin(?=\"))")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def documented() -> Iterator[tuple[str, str]]:
    """Every docstring with its place."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, Documented) and (text := ast.get_docstring(node)):
                yield f"{path}:{getattr(node, 'lineno', 1)}", text


def test_no_class_name_means_two_things() -> None:
    names = Counter(
        node.name
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_a_docstring_begins_with_a_sentence() -> None:
    assert [place for place, text in documented() if FRAGMENT.match(text)] == []


def test_no_word_of_the_private_language_is_left() -> None:
    found = [
        f"{path}: {line.strip()}"
        for path in TREES
        for line in (PACKAGE.parent / path).read_text("utf-8").splitlines()
        if PRIVATE.search(line)
    ]
    assert found == []
