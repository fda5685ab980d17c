"""Whatever stands in an experiment file, the answer is one screen: what is wrong, where, and what would be right."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.sweep.declare.safe_yaml import MOST_BYTES, MOST_VALUES
from tests.support.tiny import TINY

#: 10 ** 9 words.
LAUGHS = "\n".join(
    ["laugh0: &laugh0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    + [f"laugh{i}: &laugh{i} [{', '.join([f'*laugh{i - 1}'] * 10)}]" for i in range(1, 9)]
)


def edited(old: str, new: str) -> bytes:
    assert old in TINY
    return TINY.replace(old, new).encode()


def added(text: str) -> bytes:
    return f"{TINY}{text}\n".encode()


def with_axes(text: str) -> bytes:
    return edited("  temperature: [0.1]\n", f"  {text}\n")


#: What is wrong, the file, and words that the answer holds beside the file's name.
FILES: dict[str, tuple[bytes, list[str]]] = {
    # no YAML, or none of ours
    "empty": (b"", ["a mapping of keys"]),
    "blank lines": (b"\n\n   \n", ["a mapping of keys"]),
    "only a comment": (b"# nothing\n", ["a mapping of keys"]),
    "a list": (b"- axes\n- grids\n", ["a mapping of keys"]),
    "a word": (b"axes\n", ["a mapping of keys"]),
    "a number": (b"42\n", ["a mapping of keys"]),
    "null": (b"~\n", ["a mapping of keys"]),
    "an empty mapping": (b"{}\n", ["scale"]),
    "binary garbage": (bytes(range(256)) * 20, ["not a YAML file"]),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ["1: not a YAML file", "0x89"]),
    "NUL bytes": (edited("A tiny study", "A \0 study"), [":11: not a YAML file", r"\x00"]),
    "no UTF-8": (edited("A tiny study", "A study").replace(b"A study", b"caf\xe9"), [":11: not a YAML file", "0xe9"]),
    "UTF-16": (TINY.encode("utf-16"), ["not a YAML file", "UTF-8"]),
    "UTF-16 without a mark": (TINY.encode("utf-16-le"), ["not a YAML file"]),
    "tabs": (edited("  width: 4", "\twidth: 4"), [":15: not a YAML file", "cannot start any token"]),
    "two documents": (added("---\ntitle: another"), ["not a YAML file", "another document"]),
    "an open bracket": (edited("[64, 256]", "[64, 256"), ["not a YAML file"]),
    "an open quote": (edited("title: A tiny study", "title: 'A tiny study"), ["not a YAML file"]),
    "wrong indentation": (edited("  width: 4", " width: 4\n   name: x"), ["not a YAML file"]),
    "an unknown anchor": (edited("A tiny study", "*nowhere"), [":11: not a YAML file", "undefined alias"]),
    "ten thousand brackets": (b"axes: " + b"[" * 10_000, ["nested too deeply"]),
    "a hundred levels": (b"axes: " + b"[" * 100 + b"]" * 100, ["more than 30 levels"]),
    "ten megabytes": (TINY.encode() + b"# comment\n" * 1_000_000, ["too large", "1,000,000 bytes"]),
    "three hundred thousand values": (added(f"loss: [{'a,' * 300_000}]"), ["lines and values", "20,000"]),
    "billion laughs": (added(LAUGHS), ["aliases that stand for", "not allowed here"]),
    "an anchor that holds itself": (added("loop: &loop [*loop]"), ["an anchor that holds itself"]),
    "a mapping that holds itself": (added("loop: &loop {again: *loop}"), ["an anchor that holds itself"]),
    "a merge of a number": (edited("  width: 4", "  <<: 5"), [":15: '<<' merges a mapping"]),
    "a merge that brings a typo": (edited("  width: 4", "  <<: {widht: 4}"), [":15: backbone.widht", "'width'"]),
    "a python object": (edited("A tiny study", "!!python/object/apply:os.system [ls]"), [":11: the tag", "python"]),
    "a python name": (edited("A tiny study", "!!python/name:os.system"), [":11: the tag"]),
    "a tag of one's own": (edited("A tiny study", "!study A"), [":11: the tag !study"]),
    "a binary value": (edited("A tiny study", "!!binary aGk="), [":11: the tag !!binary"]),
    "a set": (edited("loss: [infonce, dcl]", "loss: !!set {infonce, dcl}"), [":17: the tag !!set"]),
    "a tag that lies": (edited("width: 4", "width: !!int four"), ["not plain values", "four"]),
    "a list for a key": (added("? [a, b]\n: 3"), ["the key", "as text"]),
    "a key of no": (added("no: 3"), ["YAML does not read the key 'no' as text"]),
    "a number for a key": (added("5: 3"), ["the key '5'"]),
    "an empty key": (added("~: 3"), ["the key '~'"]),
    "an environment variable": (edited("A tiny study", "${oc.env:HOME}"), [":11: interpolation is not allowed"]),
    "an environment variable behind a hash": (edited("A tiny study", "'# ${oc.env:HOME}'"), [":11: interpolation"]),
    "a reference to another key": (edited("  width: 4", "  width: ${head.dim}"), [":15: interpolation"]),
    # keys
    "an unknown key": (edited("title: A", "titel: A"), [":11: titel", "did you mean 'title'"]),
    "an unknown key of a group": (edited("  width: 4", "  wdith: 4"), [":15: backbone.wdith", "'width'"]),
    "an unknown key of a part": (added("optimizer: {lrr: 1}"), ["optimizer.lrr", "did you mean 'lr'"]),
    "an unknown key of failures": (added("failures: {retry: 1}"), ["failures.retry", "retries, max_failures, alike"]),
    "an unknown key of the cluster": (added("cluster: {world_size: 2}"), ["cluster.world_size", "gpus, nodes"]),
    "an unknown key of the budget": (added("budget: {epoch: 2}"), ["budget.epoch", "did you mean 'epochs'"]),
    "an unknown key of a claim": (edited("    source: nowhere", "    origin: nowhere"), ["claims[0]", "origin"]),
    "an unknown key in a scale": (edited("  demo: {}", "  demo: {axis: {}}"), ["axis", "did you mean 'axes'"]),
    "an unknown dotted key in a scale": (edited("  demo: {}", "  demo: {head.dims: 3}"), ["head.dims", "'dim'"]),
    "a key twice": (edited("title: A tiny study", "title: a\ntitle: b"), [":12: 'title' is there twice", "11 and 12"]),
    "an axis twice": (with_axes("seed: [4]"), ["'axes.seed' is there twice"]),
    "a key twice in a scale": (edited("  demo: {}", "  demo: {head.dim: 3, head: {dim: 4}}"), ["there twice"]),
    # types
    "a word for a number": (edited("  width: 4", "  width: four"), [":15: backbone.width", "'four'", "whole number"]),
    "a list for a number": (edited("  width: 4", "  width: [4]"), [":15: backbone.width: one value", "whole number"]),
    "a list for a word": (edited("title: A tiny study", "title: [A]"), [":11: title: one value", "a word"]),
    "a number for a group": (edited("backbone:\n  width: 4", "backbone: 4"), ["backbone: a mapping of keys"]),
    "a group beside the defaults": (added("optimizer: lars"), ["optimizer: a mapping", "in defaults, - optimizer"]),
    "nothing for the axes": (b"axes:\n" + edited("axes:\n", "views:\n"), ["axes: a mapping of keys"]),
    "a list of axes": (edited("axes:\n  loss: [infonce, dcl]\n", "axes: []\nzip:\n"), ["axes: a mapping of keys"]),
    "an axis of one word": (edited("loss: [infonce, dcl]", "loss: dcl"), [":17: axes.loss: an axis is a list"]),
    "an empty axis": (edited("loss: [infonce, dcl]", "loss: []"), [":17: axes.loss: an axis is a list"]),
    "an axis of nothing": (edited("loss: [infonce, dcl]", "loss:"), [":17: axes.loss: an axis is a list"]),
    "an axis of mappings": (edited("loss: [infonce, dcl]", "loss: [{name: dcl}]"), ["axes.loss", "not of type str"]),
    "an axis with a gap": (edited("loss: [infonce, dcl]", "loss: [dcl, ]\n  lr: [0.1, null]"), ["axes.lr: None"]),
    "no for a loss": (edited("loss: [infonce, dcl]", "loss: [no]"), [":17: axes.loss: False, as which YAML reads no"]),
    "yes for a number": (with_axes("momentum: [yes]"), [":19: axes.momentum: True, as which YAML reads no, off"]),
    "on for a seed": (edited("seed: [0, 1, 2]", "seed: [on]"), ["axes.seed: True, as which YAML reads"]),
    "an octal number": (edited("[64, 256]", "[064]"), [":18: YAML reads 064 as a number in octal"]),
    "a time": (edited("[64, 256]", "[10:30]"), [":18: YAML reads 10:30 as a number in base 60"]),
    "a date": (edited("seed: [0, 1, 2]", "seed: [2024-01-01]"), ["axes.seed: '2024-01-01' is not of type int"]),
    "a fraction of an image": (edited("[64, 256]", "[1e2]"), ["axes.batch_size: 100.0 is not of type int"]),
    "a small fraction of an image": (edited("[64, 256]", "[1e-4]"), ["axes.batch_size: 0.0001 is not of type int"]),
    "a number in quotes": (edited("[64, 256]", "['64']"), ["axes.batch_size: '64' is not of type int"]),
    "a word for true": (added("comparable: perhaps"), ["comparable", "'perhaps'", "true, false"]),
    # values
    "an unknown loss": (edited("[infonce, dcl]", "[infonse]"), [":17: axes.loss", "did you mean 'infonce'"]),
    "a loss of half a million letters": (edited("[infonce, dcl]", f"[{'x' * 500_000}]"), ["axes.loss: unknown loss"]),
    "a key of half a million letters": (added(f"? {'x' * 900}\n: 3"), ["unknown key"]),
    "a negative seed": (edited("seed: [0, 1, 2]", "seed: [-1]"), ["axes.seed: -1 is out of range", "0 <= value"]),
    "a negative number of seeds": (edited("seed: [0, 1, 2]", "seed: -1"), ["axes.seed: -1 seeds are out of range"]),
    "a huge seed": (edited("seed: [0, 1, 2]", f"seed: [1{'0' * 400}]"), ["axes.seed", "out of range"]),
    "no number": (edited("temperature: [0.1]", "temperature: [.nan]"), ["axes.temperature: nan is no number"]),
    "infinity": (edited("temperature: [0.1]", "temperature: [.inf]"), ["axes.temperature: inf is no number"]),
    "infinity by digits": (edited("temperature: [0.1]", "temperature: [1e999]"), ["inf is no number"]),
    "infinity beside the axes": (added("optimizer: {lr: -.inf}"), ["optimizer.lr: -inf is no number"]),
    "a negative temperature": (edited("temperature: [0.1]", "temperature: [-1]"), ["axes.temperature", "0 < value"]),
    "a billion points": (
        edited("seed: [0, 1, 2]", f"seed: 100000\n  lr: {list(range(1, 5001))}"),
        ["2,000,000,000 points", "at most 1,000,000"],
    ),
    "more seeds than memory": (edited("seed: [0, 1, 2]", "seed: 100000000000"), ["axes.seed", "out of range"]),
    "a zip of unequal lengths": (added("zip: [{lr: [1, 2], momentum: [0.1]}]"), ["zip[0].momentum", "has 2 values"]),
    "an exclusion without a reason": (added("exclude: [{where: loss=dcl}]"), ["exclude[0]", "'reason'"]),
    "an exclusion of nothing": (added("exclude: [{where: loss=eqco, reason: x}]"), ["exclude[0]", "nothing is"]),
    "no filter": (added("exclude: [{where: dcl, reason: x}]"), ["exclude[0].where: 'dcl' is not a condition"]),
    "an inclusion without its seed": (added("include: [{loss: dcl, batch_size: 8}]"), ["include[0]: seed has several"]),
    "conditions in a circle": (added("when: {loss: batch_size>9, batch_size: loss=dcl}"), ["depend on each other"]),
    "a condition of itself": (added("when: {loss: loss=dcl}"), ["when.loss: it depends on itself"]),
    "two budgets": (added("budget: {epochs: 3, steps: 3}"), ["budget.steps: a budget is of epochs or of steps"]),
    "a budget beside an axis": (added("budget: {epochs: 3}"), ["axes.epochs: epochs vary, and budget.epochs too"]),
    "an unknown rule": (added("derive: {bn_groups: {group_of: 32}}"), ["derive.bn_groups", "'groups_of'"]),
    "a rule without a number": (added("derive: {bn_groups: {groups_of: many}}"), ["derive.bn_groups", "no number"]),
    "resources without a filter": (added("resources: [{gpus: 2}]"), ["resources[0]", "'where'"]),
    "a stream of no folder": (added("dataset: {stream: true}"), ["digits is held in memory; only an image folder"]),
    "a stream that is a number": (added("dataset: {stream: 3}"), ["dataset.stream", "not of type bool"]),
    "ranks that cannot share": (added("cluster: {gpus: 3}"), ["cluster.gpus: 3 ranks cannot share a batch of 64"]),
    "a claim of nothing": (edited("claims:\n", "claims:\n  - 5\n"), ["claims[0]: a claim is a mapping"]),
    "a claim of an unknown measure": (edited("measure: drop", "measure: drp"), ["claims[0].measure", "'drop'"]),
    "a claim of an arm that is no filter": (edited("arms: [loss=dcl,", "arms: [dcl,"), ["claims[0].arms", "condition"]),
    "a claim of an unknown field": (edited("arms: [loss=dcl,", "arms: [lss=dcl,"), ["claims[0].arms", "'loss'"]),
    "a claim along nothing": (edited("over: batch_size", "over: ''"), ["claims[0].over", "along an axis"]),
    "a claim along an unknown axis": (edited("over: batch_size", "over: size"), ["claims[0].over", "'size'"]),
    "a claim of too many arms": (edited("loss=dcl, loss=infonce", "loss=dcl, loss=dclw, loss=eqco"), ["takes 1 or 2"]),
    "a claim of one arm without a margin": (edited("[loss=dcl, loss=infonce]", "[loss=dcl]"), ["needs a margin"]),
    "a margin that is a word": (edited("over: batch_size", "over: batch_size\n    margin: half"), ["no number"]),
    "a margin of nothing": (edited("over: batch_size", "over: batch_size\n    margin: .nan"), ["a finite number"]),
    "a claim along seeds": (edited("over: batch_size", "over: seed"), ["claims[0].over", "no axis of numbers"]),
    "a claim along words": (edited("over: batch_size", "over: lr_rule"), ["claims[0].over", "no axis of numbers"]),
    "a claim that says nothing": (edited("says: DCL loses", "says: ''\n    # "), ["claims[0].says", "not empty"]),
    "a claim of an unknown paper": (edited("over: batch_size", "over: batch_size\n    paper: dlc"), ["'dcl'"]),
    "a claim of an unknown number": (
        edited("over: batch_size", "over: batch_size\n    published: [dcl.best]"),
        ["claims[0].published", "dcl has no number 'best'"],
    ),
    # scales and defaults
    "an unknown scale": (edited("scale: demo", "scale: dmo"), [":13: scale: no scale 'dmo', did you mean 'demo'"]),
    "no scale": (edited("scale: demo\n", ""), ["no scale ''", "demo, wide, big"]),
    "a scale that is a number": (edited("  demo: {}", "  demo: 5"), ["scales.demo: scales are named overlays"]),
    "scales that are a list": (edited("  demo: {}", "  - demo").split(b"  wide:")[0], ["scales: a mapping"]),
    "a list where a scale has a mapping": (edited("  demo: {}", "  demo: {axes: [3]}"), ["axes: a mapping"]),
    "a word where a scale has a list": (edited("  demo: {}", "  demo: {exclude: dcl}"), ["exclude: a list"]),
    "an unknown data set": (edited("dataset: digits", "dataset: digit"), ["did you mean 'digits'"]),
    "an unknown group": (edited("  - dataset: digits", "  - data: digits"), ["unknown group 'data', did you"]),
    "no schema": (edited("  - schema\n", ""), ["defaults", "the typed schema"]),
    "defaults that are a word": (edited(TINY[1 : TINY.index("title")], "defaults: schema\n"), ["defaults are a list"]),
    "defaults that are numbers": (edited("  - schema\n", "  - schema\n  - 5\n"), ["defaults are a list"]),
    "defaults that bring in the file itself": (edited("  - schema\n", "  - schema\n  - tiny\n"), ["tiny.yaml again"]),
    "defaults that bring in a circle": (edited("  - schema\n", "  - schema\n  - other\n"), ["tiny.yaml again"]),
    "defaults that bring in garbage": (edited("  - schema\n", "  - schema\n  - garbage\n"), ["garbage.yaml", "UTF-8"]),
    "defaults that bring in nothing": (edited("  - schema\n", "  - schema\n  - nowhere\n"), ["nowhere"]),
    "defaults that name a group twice": (edited("  - schema\n", "  - schema\n  - dataset: cifar10\n"), ["dataset"]),
}  # fmt: skip


def answer(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What ``harness plan`` says of a file that it refuses, as it must."""
    results = path.parent / "results"
    monkeypatch.setattr(sys, "argv", ["harness", *(words or ["plan"]), str(path), "--results", str(results)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2, said.err
    assert "Traceback" not in said.err
    assert said.err.startswith("harness: ")
    assert re.search(r"^  (allowed|next): ", said.err, re.MULTILINE), f"no remedy: {said.err}"
    lines = said.err.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) < 1500
    assert path.name in said.err or "garbage.yaml" in said.err
    assert not results.exists()
    assert not (path.parent / "outputs").exists()
    return said.err


@pytest.mark.tried("hostile archives and files", "an experiment file that is none, or constructs objects")
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_wrong_is_refused_on_one_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, words = FILES[name]
    path = tmp_path / "tiny.yaml"
    path.write_bytes(content)
    (tmp_path / "other.yaml").write_text("defaults: [tiny]\n")
    (tmp_path / "garbage.yaml").write_bytes(b"\xff\xfe\x00")
    said = answer(path, capsys, monkeypatch)
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("name", ["binary garbage", "an unknown loss", "conditions in a circle", "UTF-16"])
def test_a_sweep_refuses_it_too_before_it_writes_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_bytes(FILES[name][0])
    answer(path, capsys, monkeypatch, "sweep")
    assert list(tmp_path.glob("*")) == [path] or {file.name for file in tmp_path.glob("*")} == {"tiny.yaml", "cache"}


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling link", "device"])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "tiny.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere.yaml")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    answer(path, capsys, monkeypatch)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    path.chmod(0)
    assert "cannot be read" in answer(path, capsys, monkeypatch)


def test_a_pipe_among_the_defaults_is_not_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_bytes(edited("  - schema\n", "  - schema\n  - pipe\n"))
    os.mkfifo(tmp_path / "pipe.yaml")
    monkeypatch.setattr(sys, "argv", ["harness", "plan", str(path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "pipe.yaml: it is no file" in capsys.readouterr().err


OVERRIDES = ["axes=3", "axes.seed=-1", "exclude=5", "exclude={a:1}", "zip=dcl", "when.loss=dcl", "derive.lr=3",
             "resources=[3]", "budget=3", "budget.steps=many", "include=[[1]]", "grids=[1]", "failures.retries=x",
             "title=${oc.env:HOME}", "axes.loss=[", "~nothing", "+axes", "=3", "seed=[1,2]", "cluster=slurmm",
             "x" * 100_000 + "=1"]  # fmt: skip


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda override: override[:20])
def test_overrides_that_are_wrong_are_refused_alike(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "plan", str(tiny), override])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("harness: ")
    assert re.search(r"^  (allowed|next): ", said, re.MULTILINE), said
    assert max(map(len, said.splitlines())) < 1500


@pytest.mark.e2e
def test_the_largest_file_that_is_read_takes_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.yaml"
    text = f"{TINY}caveat: [{'a, ' * (MOST_VALUES - 100)}{'b' * 900_000}]\n"
    assert 0.9 * MOST_BYTES < len(text) <= MOST_BYTES
    path.write_text(text)
    assert "caveat: one value belongs here" in answer(path, capsys, monkeypatch)
