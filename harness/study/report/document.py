"""What a report prints, as plain text and lists: ``report.typ`` reads a Document as JSON and sets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PrintedTable:
    """A table whose first ``labels`` columns are names; ``note`` says where the rows are that it leaves out."""

    header: list[str]
    rows: list[list[str]]
    note: str = ""
    labels: int = 0


@dataclass(frozen=True)
class VerdictRow:
    """A verdict in words. ``settle``: what would decide the claim; ``study``: its experiment, in a document of many."""

    name: str
    says: str
    source: str
    setting: str
    published: str
    measured: str
    interval: str
    seeds: str
    word: str
    why: str
    settle: str
    study: str = ""


@dataclass(frozen=True)
class VerdictTable:
    """The rows of a table of verdicts; ``note`` says where the rows are that it leaves out."""

    rows: list[VerdictRow]
    note: str = ""


@dataclass(frozen=True)
class ClaimSection:
    """The section of one claim; ``figure``: the name of its figure's file, or empty."""

    name: str
    says: str
    source: str
    measure: str
    verdicts: list[VerdictRow]
    published: str
    figure: str = ""


@dataclass(frozen=True)
class Design:
    """What was trained and how it was evaluated. A field is empty where a cell has nothing of the kind."""

    methods: list[str]
    losses: list[str]
    varied: str
    seeds: str
    backbone: str
    width: str
    head_layers: str
    head_hidden: str
    head_dim: str
    bn_groups: str
    bn_passes: str
    crop_min: str
    flip: str
    jitter: str
    gray: str
    blur: str
    optimizer: str
    momentum: str
    weight_decay: str
    lr_rule: str
    warmup: str
    schedule: str
    precision: str
    validation: str
    evaluation: str


@dataclass(frozen=True)
class Chapter:
    """One experiment at a scale, in the order in which the template prints it.

    ``panels``: how many the figure of accuracy has. ``figures``: the names of the figures' files, by figure.
    """

    title: str
    name: str
    scale: str
    dataset: str
    question: str
    answer: str
    caveat: str
    cells_line: str
    panels: int
    heading: str
    table: PrintedTable
    verdicts: VerdictTable
    pairing: list[str]
    claims: list[ClaimSection]
    published: PrintedTable
    unread: list[str]
    limitations: list[str]
    design: Design
    diagnostics: PrintedTable
    collapsed: list[str]
    confounds: PrintedTable
    excluded: list[str]
    run: list[tuple[str, str]]
    appendix: PrintedTable
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PaperSection:
    """The verdicts on the claims of one paper, over all experiments."""

    title: str
    caption: str
    verdicts: VerdictTable


@dataclass(frozen=True)
class Overview:
    """What a document of many experiments says before their chapters."""

    line: str
    answer: str
    papers: list[PaperSection]


@dataclass(frozen=True)
class Document:
    """A report of one experiment, or of many with an ``overview``."""

    title: str
    name: str
    studies: list[Chapter]
    overview: Overview | None = None
