"""The fingerprint of a data set's content.

It is part of a cell's identity: the same name over other bytes is another experiment. It is taken of content only
(paths relative to the root, decompressed bytes), so that it is equal on every machine. Because hashing 60,000 files, or
gigabytes, takes seconds, it is remembered in the user's cache under the files' names, sizes and times.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from harness.files import cache_folder, read_json, write_json


def content_fingerprint(folder: Path, files: Iterable[Path]) -> tuple[str, int]:
    """16 hex digits over names (relative, without .gz) and decompressed content; and the size of the files in bytes."""
    files = list(files)
    stats = [(str(path), (status := path.stat()).st_size, status.st_mtime_ns) for path in files]
    size = sum(length for _, length, _ in stats)
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:24]
    remembered = cache_folder() / "fingerprints" / f"{key}.json"
    if known := read_json(remembered):
        return str(known["fingerprint"]), size
    digest = hashlib.sha256()
    for path in files:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as content:
            digest.update(str(path.relative_to(folder)).removesuffix(".gz").encode() + b"\0")
            digest.update(hashlib.file_digest(content, "sha256").digest())
    fingerprint = digest.hexdigest()[:16]
    remembered.parent.mkdir(parents=True, exist_ok=True)
    write_json(remembered, {"fingerprint": fingerprint})
    return fingerprint, size
