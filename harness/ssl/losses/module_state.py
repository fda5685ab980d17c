"""The values that a user's modules hold, by name: what changes between two steps is state that no checkpoint has."""

from __future__ import annotations

import hashlib
import pickle
import random
import types
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def fingerprints(modules: Mapping[str, ModuleType]) -> dict[str, str]:
    """Return a hash of each global value of these modules, such as ``{"CENTER": "9f8e..."}``.

    Caches of ``functools`` are not looked into: they change no result.
    """
    walk = _Walk(modules)
    return {name: walk.fingerprint(value) for name, value in _globals(modules)}


def trainable(modules: Mapping[str, ModuleType]) -> list[str]:
    """Return the names of the values in these modules that hold tensors which require a gradient."""
    walk = _Walk(modules)
    return [
        name
        for name, value in _globals(modules)
        if any(tensor.requires_grad and tensor.is_leaf for tensor in walk.tensors(value))
    ]


def _globals(modules: Mapping[str, ModuleType]) -> Iterator[tuple[str, Any]]:
    for number, (module_name, module) in enumerate(modules.items()):
        for name, value in list(vars(module).items()):
            if not name.startswith("__") and not issubclass(type(value), ModuleType):
                yield (name if number == 0 else f"{module_name}.{name}"), value


class _Walk:
    """A walk through everything that a value holds, as far as it belongs to the user's modules."""

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        self._modules = set(modules)

    def fingerprint(self, value: Any) -> str:
        """Return a hash of all that the value holds; that of nothing where it cannot be looked into."""
        digest = hashlib.sha256()
        for leaf in self._leaves(value):
            with suppress(Exception):  # a tensor without content, for example
                digest.update(_bytes_of(leaf))
        return digest.hexdigest()[:16]

    def tensors(self, value: Any) -> list[Tensor]:
        return [leaf for leaf in self._leaves(value) if isinstance(leaf, Tensor)]

    def _leaves(self, value: Any) -> list[Any]:
        try:
            return list(self._parts(value, set()))
        except Exception:  # noqa: BLE001  (the object of a stranger may raise anything when it is read)
            return []

    def _parts(self, value: Any, seen: set[int]) -> Iterator[Any]:
        """Yield the leaves, in a fixed order; a value that was seen already ends a circle."""
        if isinstance(value, str | bytes | int | float | complex | None | Tensor | np.ndarray):
            yield value
            return
        if id(value) in seen:
            return
        seen.add(id(value))
        yield type(value).__name__
        for inner in self._inner(value):
            yield from self._parts(inner, seen)

    def _inner(self, value: Any) -> Iterator[Any]:
        """Yield what a value holds; itself, as bytes, where nothing is known about its kind."""
        match value:
            case Mapping():
                for key, held in list(value.items()):
                    yield key if isinstance(key, str | int) else repr(key)
                    yield held
            case list() | tuple() | deque():
                yield from list(value)
            case set() | frozenset():
                yield from sorted(map(repr, value))
            case torch.Generator():
                yield value.get_state()
            case np.random.Generator():
                yield repr(value.bit_generator.state)
            case np.random.RandomState():
                yield repr(value.get_state(legacy=False))
            case random.Random():
                yield repr(value.getstate())
            case _ if callable(value) and not isinstance(value, nn.Module):
                yield from self._inside_callable(value)
            case _:
                yield from self._inside_object(value)

    def _inside_callable(self, value: Any) -> Iterator[Any]:
        own = getattr(value, "__module__", "") in self._modules
        if isinstance(value, partial):
            yield from (value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            yield value.__self__
        elif isinstance(value, types.FunctionType) and own:
            cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
            yield from (vars(value), value.__defaults__, value.__kwdefaults__, cells)
        elif isinstance(value, type) and own:
            yield {name: held for name, held in vars(value).items() if not name.startswith("__")}
        elif hasattr(value, "__wrapped__"):  # a cache of functools
            yield value.__wrapped__
        elif type(value).__module__ in self._modules:
            yield from self._inside_object(value)

    def _inside_object(self, value: Any) -> Iterator[Any]:
        if isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            yield from (frame.f_lasti, frame.f_locals) if frame else (None,)
        elif isinstance(value, nn.Module) or type(value).__module__ in self._modules:
            yield getattr(value, "__dict__", {})
            yield [getattr(value, name, None) for name in getattr(type(value), "__slots__", ())]
        else:
            yield _pickled(value)


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _pickled(value: Any) -> bytes:
    """Return the value as bytes, of an iterator how far it has come; nothing where it cannot be written."""
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  (the object of a stranger may raise anything)
        return b""


def _bytes_of(leaf: Any) -> bytes:
    if isinstance(leaf, Tensor):
        return _bytes_of_tensor(leaf.detach())
    if isinstance(leaf, np.ndarray):
        return f"{leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes()
    return leaf if isinstance(leaf, bytes) else f"{leaf!r} ".encode()


def _bytes_of_tensor(tensor: Tensor) -> bytes:
    dense = tensor.to_dense() if tensor.is_sparse else tensor
    described = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    return described + (dense.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b"")
