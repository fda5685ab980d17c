"""The settings of this process that a user's code may change, and that hold only while it runs.

They are torch's, numpy's and Python's: types, devices, threads, warnings, environment, folder, signals. What a file
sets while it is imported holds in each call of its loss, and nowhere else: the network is trained and evaluated as it
is with every other loss.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Setting:
    """How one setting is read and written."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _rounds_tiny_numbers() -> bool:
    """Return whether numbers that are too small for full precision become zero."""
    return float(torch.tensor(1e-40) * 0.5) == 0.0


def _write_warnings(filters: list[Any]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _write_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


def _read_handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}


def _write_handlers(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # no other thread may set handlers, so none has changed them
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _read_working_folder() -> str:
    """Return the working folder; the empty string if it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _write_working_folder(folder: str) -> None:
    if folder:
        with suppress(FileNotFoundError):  # it was removed meanwhile
            os.chdir(folder)


def _of_cudnn(names: tuple[str, ...] = ("enabled", "benchmark", "deterministic", "allow_tf32")) -> Setting:
    def write(values: tuple[Any, ...]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(torch.backends.cudnn, name, value)

    return Setting(lambda: tuple(getattr(torch.backends.cudnn, name) for name in names), write)


def _of_attribute(owner: Any, name: str) -> Setting:
    return Setting(partial(getattr, owner, name), partial(setattr, owner, name))


#: What a file may change while it is imported and in each call; all of it is read at every step, in microseconds.
IN_A_CALL: dict[str, Setting] = {
    "torch's default type": Setting(torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": Setting(
        lambda: str(torch.get_default_device()), lambda name: torch.set_default_device(None if name == "cpu" else name)
    ),
    "torch's deterministic algorithms": Setting(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1]),
    ),
    "torch's precision of matrix products": Setting(
        torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    ),
    "cuDNN's flags": _of_cudnn(),
    "torch's threads": Setting(torch.get_num_threads, torch.set_num_threads),
    "torch's gradient mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's anomaly detection": Setting(torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    "numpy's floating-point errors": Setting(np.geterr, lambda kinds: np.seterr(**kinds)),
    "the working folder": Setting(_read_working_folder, _write_working_folder),
    "standard output": _of_attribute(sys, "stdout"),
    "standard error": _of_attribute(sys, "stderr"),
}

#: Settings that are looked after when the file is imported only, because they take longer to read.
AT_IMPORT: dict[str, Setting] = {
    **IN_A_CALL,
    "torch's use of oneDNN": _of_attribute(torch.backends.mkldnn, "enabled"),
    "torch's rounding of tiny numbers": Setting(_rounds_tiny_numbers, torch.set_flush_denormal),
    "the filters of warnings": Setting(lambda: list(warnings.filters), _write_warnings),
    "environment variables": Setting(lambda: dict(os.environ), _write_environment),
    "handlers of signals": Setting(_read_handlers, _write_handlers),
    "the limit of recursion": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
}

#: Modules and classes whose functions a file may replace.
REPLACEABLE: Mapping[str, Any] = {
    "torch": torch,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "torch.Tensor": torch.Tensor,
    "numpy": np,
}


def _attributes(owner: Any) -> dict[str, Any]:
    """Return what a module has, or a class with all that it inherits."""
    if isinstance(owner, type):
        return {name: getattr(owner, name, None) for name in dir(owner)}
    return dict(vars(owner))


@dataclass(frozen=True)
class Change:
    """A setting that a file has changed while it was imported, and its value since."""

    setting: Setting
    value: Any


@contextmanager
def restored() -> Iterator[dict[str, Change]]:
    """Restore the settings at the end; the yielded dictionary then says what had been changed."""
    changes: dict[str, Change] = {}
    before = {name: setting.read() for name, setting in AT_IMPORT.items()}
    functions = {name: _attributes(owner) for name, owner in REPLACEABLE.items()}
    try:
        yield changes
    finally:
        for owner, known in functions.items():
            for name, value in known.items():
                now = getattr(REPLACEABLE[owner], name, None)
                # A bound method is another object each time, and equal.
                if callable(value) and not isinstance(value, type) and now is not value and now != value:
                    setting = _of_attribute(REPLACEABLE[owner], name)
                    changes[f"{owner}.{name}"] = Change(setting, now)
                    setting.write(value)
        for name, value in before.items():
            if (now := AT_IMPORT[name].read()) != value:
                changes[name] = Change(AT_IMPORT[name], now)
                AT_IMPORT[name].write(value)


@contextmanager
def applied(changes: Mapping[str, Change]) -> Iterator[None]:
    """Apply these changes; at the end, restore them and whatever was changed within."""
    settings = {**IN_A_CALL, **{name: change.setting for name, change in changes.items()}}
    before = {name: setting.read() for name, setting in settings.items()}
    for change in changes.values():
        change.setting.write(change.value)
    try:
        yield
    finally:
        for name, value in before.items():
            if settings[name].read() != value:
                settings[name].write(value)
