"""What the URI of a tracking store says, and what of it may be shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.sweep.tracking.tracking_uri import (
    VARIABLE,
    default_uri,
    embedded,
    lock_folder,
    public,
    redacted,
    with_secret,
)

PASSWORDS = [
    ("http://alice:S3cr3t@host:5000/a", "http://host:5000/a"),
    ("https://S3cr3t@host", "https://host"),
    ("https://alice:S3cr3t@x@host/a@b", "https://host/a@b"),
    ("postgresql+psycopg2://alice:S3cr3t@db:5432/mlflow", "postgresql+psycopg2://alice@db:5432/mlflow"),
    ("postgresql://alice:S3cr3t/x@db/mlflow", "postgresql://alice@db/mlflow"),
    ("mysql://db/mlflow?user=alice&password=S3cr3t", "mysql://db/mlflow?user=alice"),
    ("https://host/?access_token=S3cr3t", "https://host/"),
]
PLAIN = [
    "http://host:5000/a@b",
    "sqlite:////home/me@x/mlflow.db",
    "postgresql://db/mlflow?sslmode=require",
    "databricks://profile",
    "postgresql://alice@db/mlflow",
    "mlruns",
    "",
]


@pytest.mark.parametrize(("uri", "shown"), [*PASSWORDS, *((uri, uri) for uri in PLAIN)])
def test_an_address_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert public(uri) == shown
    assert public(shown) == shown


@pytest.mark.parametrize("uri", [uri for uri, _ in PASSWORDS])
def test_a_text_is_shown_without_the_secrets_of_an_address(uri: str) -> None:
    assert "S3cr3t" not in redacted(f"cannot reach {uri} as alice: {public(uri)}", uri)


def test_a_secret_is_hidden_in_each_form_that_libraries_print() -> None:
    uri = "http://alice:p%40ss@host"
    assert redacted("p%40ss p@ss alice:p@ss YWxpY2U6cEBzcw==", uri) == "*** *** *** ***"
    assert redacted("host", uri) == "host"
    assert redacted("as it was", "http://host") == "as it was"


def test_the_password_comes_from_the_environment_where_the_address_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_secret("http://host") == "http://host"
    monkeypatch.setenv(VARIABLE, "http://alice:S3cr3t@host")
    assert with_secret("http://host") == "http://alice:S3cr3t@host"
    assert with_secret("http://other") == "http://other"
    assert with_secret("") == ""


def test_the_lock_of_a_store_is_the_same_however_its_address_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (tmp_path / "link").symlink_to(results)
    monkeypatch.chdir(tmp_path)
    same = [
        "sqlite:///results/mlflow.db",
        f"sqlite+pysqlite:///{results}/mlflow.db",
        f"sqlite:///{results}/../results/mlflow.db",
    ]
    same += [f"sqlite:///{tmp_path}/link/mlflow.db", f"sqlite:///{results}/mlflow.db?timeout=5"]
    for uri in same:
        assert lock_folder(results, uri) == lock_folder(results, default_uri(results)), uri
        assert embedded(uri) == results / "mlflow.db"
    assert lock_folder(tmp_path / "other", same[1]) == lock_folder(results, default_uri(results))


def test_two_results_folders_share_the_lock_of_a_store_that_both_write_to(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/shared.db"
    assert lock_folder(tmp_path / "a", uri) == lock_folder(tmp_path / "b", uri)


def test_the_lock_of_a_server_has_one_name_with_and_without_a_password(tmp_path: Path) -> None:
    assert lock_folder(tmp_path, "http://alice:S3cr3t@host") == lock_folder(tmp_path, "http://host")
