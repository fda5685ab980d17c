"""The source code of a user's own loss: its file, and the modules that it imports from beside the file.

All of it is part of the identity of the loss's cells. Nothing is run to find it: import statements are read. The very
bytes that were hashed are what is imported, and Python's cache of compiled code is not used: it takes an edit for the
old file where size and second of both are equal.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.abc
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.machinery import SOURCE_SUFFIXES, ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from harness.errors import UserError, quoted

#: How the module of a file is named in ``sys.modules``, where no other module can have this name.
PREFIX = "own_losses_of_"

#: The package harness: it counts as installed, also where a user's file lies beside it, in a checkout.
HARNESS = Path(__file__).resolve().parents[1]

#: What this process has imported of users, and the names of all modules that were loaded before the newest of it.
_imported: list[PluginSource] = []
_loaded_before: set[str] = set()


@dataclass(frozen=True)
class SourceFile:
    """A module's file and its content."""

    path: Path
    content: bytes
    folder: str | None

    @property
    def is_python(self) -> bool:
        """Whether it is Python source, and no other file that the loss's code reads."""
        return self.path.suffix in SOURCE_SUFFIXES


@dataclass(frozen=True)
class PluginSource:
    """A user's file and its neighbours, by the names that they are imported by.

    Attributes:
        module: the name of the installed module; empty for a file.
        root: the folder in which neighbours are found.
    """

    file: SourceFile
    module: str
    root: Path
    neighbours: dict[str, SourceFile] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Return 12 hex digits of the file, and 12 more where it imports neighbours."""
        digest = hashlib.sha256()
        for name, neighbour in sorted(self.neighbours.items()):
            digest.update(f"{name} {len(neighbour.content)} ".encode() + neighbour.content)
        own = hashlib.sha256(self.file.content).hexdigest()[:12]
        return own + (digest.hexdigest()[:12] if self.neighbours else "")

    @property
    def name(self) -> str:
        """Return the name of the file's module."""
        return self.module or PREFIX + self.file.path.stem

    def modules(self) -> dict[str, ModuleType]:
        """Return those modules that have been imported, by name; those that harness had loaded before are not its."""
        names = [name for name in (self.name, *self.neighbours) if name not in _loaded_before]
        return {name: sys.modules[name] for name in names if name in sys.modules}


def read(file: Path, module: str = "") -> PluginSource:
    """Read a user's file, or that of an installed module, with all neighbours that its import statements name.

    Raises:
        OSError, SyntaxError, ValueError: the file cannot be read, or it is no Python.
        UserError: a neighbour has the name of an installed module.
    """
    path = file.resolve()
    package = path.stem == "__init__"
    depth = len(module.split(".")) - (0 if package else 1) if module else 0
    found = PluginSource(SourceFile(path, path.read_bytes(), None), module, path.parents[depth])
    inside = module if package else module.rpartition(".")[0]
    _follow(found, found.file, inside)
    return found


def _follow(found: PluginSource, file: SourceFile, package: str) -> None:
    """Add the neighbours that this file imports, and theirs."""
    for name in _imported_names(ast.parse(file.content), package):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or (found.module and top != found.module.partition(".")[0]):
            continue
        for parent, spec in _specs(name, found.root):
            if not (spec.origin and spec.has_location) or parent in found.neighbours or parent == found.module:
                continue
            if Path(spec.origin).resolve().is_relative_to(HARNESS):
                continue
            if "." not in parent and not found.module:
                _refuse_two_of_a_name(parent, spec.origin, found)
            folders = spec.submodule_search_locations
            neighbour = SourceFile(Path(spec.origin), Path(spec.origin).read_bytes(), folders[0] if folders else None)
            found.neighbours[parent] = neighbour
            if neighbour.is_python:
                _follow_neighbour(found, neighbour, parent)


def _follow_neighbour(found: PluginSource, neighbour: SourceFile, name: str) -> None:
    try:
        _follow(found, neighbour, name if neighbour.folder else name.rpartition(".")[0])
    except SyntaxError as error:
        where = f"{neighbour.path}:{error.lineno}"
        raise UserError(f"not a Python module: {error.msg}", where=where, allowed="a Python file") from None


def _imported_names(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the absolute names in all import statements; what is imported from a package may be a module of it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".") if node.level and package else []
            if node.level > len(above):
                continue  # Python itself refuses such an import
            parents = above[: len(above) - node.level + 1]
            base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _specs(name: str, root: Path) -> Iterator[tuple[str, ModuleSpec]]:
    """Yield each part of a dotted name that is found below the folder: a, a.b, a.b.c; nothing is run."""
    path: Sequence[str] | None = [str(root)]
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), path) if path else None
        if spec is None:
            return
        yield spec.name, spec
        path = list(spec.submodule_search_locations or [])


def _refuse_two_of_a_name(name: str, origin: str, found: PluginSource) -> None:
    """Raise a UserError where a neighbour has the name of an installed module.

    To take the neighbour would replace the module for libraries that import it, too, and to take the module would
    depend on what a machine has installed.
    """
    other = _found_elsewhere(name, found.root)
    if other and other.origin and Path(other.origin).resolve() != Path(origin).resolve():
        owners = importlib.metadata.packages_distributions().get(name, [])
        owner = f"of the installed {' and '.join(sorted(set(owners)))}" if owners else "on Python's path"
        neighbour = Path(origin).parent if Path(origin).stem == "__init__" else Path(origin)
        renamed = neighbour.with_name(f"own_{neighbour.name}")
        raise UserError(
            f"it imports {name}, which is {neighbour} beside it, and also a module {owner}: {other.origin}",
            where=str(found.file.path),
            allowed=f"import {renamed.stem}, once the neighbour is renamed; a name that no installed module has",
            next_command=f"mv {quoted(neighbour)} {quoted(renamed)}",
        )


def find_installed(module: str) -> ModuleSpec | None:
    """Return where an installed module lies; unlike ``importlib.util.find_spec``, without running its packages."""
    path: Sequence[str] | None = None
    spec = None
    for count in range(1, len(module.split(".")) + 1):
        name = ".".join(module.split(".")[:count])
        finders = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
        spec = next((found for finder in finders if (found := finder.find_spec(name, path))), None)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or [])
    return spec


class _Source(importlib.abc.SourceLoader):
    """The loader of one file from the bytes that were hashed."""

    def __init__(self, file: SourceFile) -> None:
        self._file = file

    def get_filename(self, name: str) -> str:
        return str(self._file.path)

    def get_data(self, path: str | bytes) -> bytes:
        if path != str(self._file.path):
            raise OSError("compiled code is not cached")
        return self._file.content


class _Finder(importlib.abc.MetaPathFinder):
    """It finds a user's neighbours, and refuses modules that may change while the cells' identity stays the same."""

    def __init__(self, source: PluginSource) -> None:
        self.source = source
        self._path = list(sys.path)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        file = self.source.neighbours.get(name)
        if file is not None:
            return _spec(name, file)
        if path is not None or name in sys.stdlib_module_names:
            return None
        added = [folder for folder in sys.path if folder not in self._path and not _is_installed(folder)]
        spec = PathFinder.find_spec(name, [str(self.source.root), *added])
        if spec and spec.origin and _found_elsewhere(name, self.source.root, added) is None:
            raise ImportError(
                f"{spec.origin} would be no part of the cells' identity, as are an installed module, and one beside "
                f"{self.source.file.path.name} that an import statement names"
            )
        return None


def _is_installed(folder: str) -> bool:
    """Return whether a folder belongs to the environment, such as one that a package adds with what it brings along."""
    installed = (Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib"))
    return any(Path(folder).resolve().is_relative_to(path) for path in installed)


def _found_elsewhere(name: str, root: Path, but: Sequence[str] = ()) -> ModuleSpec | None:
    """Return where a module is found outside of this folder, and of others."""
    others = [folder for folder in sys.path if Path(folder or ".").resolve() != root and folder not in but]
    return PathFinder.find_spec(name, others)


def _spec(name: str, file: SourceFile) -> ModuleSpec | None:
    if not file.is_python:
        return importlib.util.spec_from_file_location(name, file.path)
    locations = [file.folder] if file.folder else None
    return importlib.util.spec_from_file_location(
        name, file.path, loader=_Source(file), submodule_search_locations=locations
    )


def user_code_has_run() -> bool:
    """Return whether this process has imported a user's file, whose code may have changed anything in it."""
    return bool(_imported)


def imported(source: PluginSource) -> ModuleType:
    """Import the file anew, and its neighbours with it; those of files that were imported before are forgotten."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    for earlier in _imported:
        for name in earlier.modules():
            del sys.modules[name]
    _loaded_before.clear()
    _loaded_before.update(sys.modules)
    _imported[:] = [source]
    if source.module:
        return importlib.import_module(source.module)
    sys.meta_path.insert(0, _Finder(source))
    spec = _spec(source.name, source.file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[source.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
