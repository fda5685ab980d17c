"""What the URI of a tracking store says, read without importing mlflow; a password in it stays within the process."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from pathlib import Path
from urllib.parse import unquote

#: The environment variable with the URI of the tracking store. It may hold a password: only its owner can read it.
VARIABLE = "HARNESS_TRACKING_URI"
#: The folder of the artifacts of an embedded store, in the results.
ARTIFACTS = "mlartifacts"
SECRET_KEY = re.compile(r"pass|pwd|token|secret|key|cred", re.IGNORECASE)
#: What stands in place of a secret.
HIDDEN = "***"


def default_uri(results: Path) -> str:
    """Return the URI of the store in a results folder."""
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


def embedded(uri: str) -> Path | None:
    """Return the file of a store that needs no server, the same for each way to write it; None for a server's URI."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:(?://)?(?:/([^?]+))?(?:\?.*)?", uri, re.DOTALL)
    return Path(match[1] or ":memory:").resolve() if match else None


def lock_folder(results: Path, uri: str) -> Path:
    """Return the folder with the lock of a store's writers.

    The lock of an embedded store lies next to its file, so that it has the same name for every results folder, on every
    machine and for each way to write the URI. That of a server lies next to the records, so all their mirrors see it.
    """
    store = embedded(uri)
    if store is not None:
        return store.with_name(f"{store.stem}-mirror") / "here"
    return results / "mlflow-mirror" / hashlib.sha256(public(uri).encode(errors="surrogateescape")).hexdigest()[:12]


def public(uri: str) -> str:
    """Return the URI as it may be shown and written: without passwords, and without the user part of a web address.

    That part may be a token; the name of a database's user is kept.
    """
    address, mark, query = uri.partition("?")
    if user := _user_part(address):
        name = "" if _is_web(address) else user.partition(":")[0]
        address = address.replace(f"{user}@", f"{name}@" if name else "", 1)
    pairs = [pair for pair in query.split("&") if not SECRET_KEY.search(pair.partition("=")[0])]
    return f"{address}{mark}{'&'.join(pairs)}" if pairs else address


def with_secret(uri: str) -> str:
    """Return the URI of the environment, where it differs from this one only by its password; else this one."""
    complete = os.environ.get(VARIABLE, "")
    return complete if uri and public(complete) == uri else uri


def redacted(text: str, uri: str) -> str:
    """Return the text with ``***`` in place of the secrets of the URI."""
    user = _user_part(uri.partition("?")[0])
    pairs = [pair.partition("=") for pair in uri.partition("?")[2].split("&")]
    values = [value for key, _, value in pairs if SECRET_KEY.search(key)]
    values += (
        [user, base64.b64encode(unquote(user).encode(errors="surrogateescape")).decode()] if uri != public(uri) else []
    )
    values += [user.partition(":")[2]]
    forms = {form for value in values for form in (value, unquote(value)) if form}
    for secret in sorted(forms, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _is_web(address: str) -> bool:
    return address.startswith("http")


def _user_part(address: str) -> str:
    """Return ``alice:password`` of ``http://alice:password@host/path``."""
    rest = address.partition("://")[2]
    authority = re.split(r"[/#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rpartition("@")[0]
    # A password that SQLAlchemy reads may hold a slash.
    match = None if _is_web(address) else re.match(r"[^/@:]*:[^@]*(?=@)", rest)
    return match[0] if match else ""
