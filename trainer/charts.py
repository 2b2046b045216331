"""Charts of a run, drawn by pygal as SVG images from its RunMetric rows.

An image has a document of its own, so that its colours follow the reader's light or dark mode by themselves; its style
is one constant, named by its hash in the Content-Security-Policy of the response. No script, nothing inline elsewhere.
"""

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import pygal
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from pygal.style import Style

from trainer.models import RunMetric, TrainingRun

MOST_POINTS = 300
WIDTH, HEIGHT = 400, 240


class Chart(NamedTuple):
    """One picture: its name in the address, its title, and the metrics in it with what they are called."""

    name: str
    title: str | Promise
    series: tuple[tuple[str, str | Promise], ...]

    @property
    def alt(self) -> str:
        names = ", ".join(str(label) for _key, label in self.series)
        return _("%(title)s by step: %(names)s. The numbers are in the table below.") % {
            "title": self.title,
            "names": names,
        }


CHARTS = (
    Chart("reward_loss", gettext_lazy("Loss of the reward model"), (("reward/loss", gettext_lazy("loss")),)),
    Chart(
        "accuracy",
        gettext_lazy("Pairs that the reward model gets right"),
        (("reward/accuracy", gettext_lazy("share")),),
    ),
    Chart(
        "score",
        gettext_lazy("Score of what the policy writes"),
        (
            ("objective/scores", gettext_lazy("reward model")),
            ("objective/judge", gettext_lazy("independent judge")),
        ),
    ),
    Chart("kl", gettext_lazy("KL to the reference, in nats"), (("objective/kl", gettext_lazy("KL")),)),
    Chart(
        "length",
        gettext_lazy("Length in tokens"),
        (("length/mean", gettext_lazy("mean")), ("length/p95", gettext_lazy("95th percentile"))),
    ),
    Chart(
        "loss",
        gettext_lazy("Loss of the policy and its critic"),
        (("ppo/loss/policy", gettext_lazy("policy")), ("ppo/loss/value", gettext_lazy("critic"))),
    ),
    Chart(
        "critic", gettext_lazy("Variance that the critic explains"), (("ppo/val/var_explained", gettext_lazy("share")),)
    ),
    Chart(
        "text",
        gettext_lazy("Variety of the text"),
        (
            ("text/distinct_2", gettext_lazy("distinct word pairs")),
            ("text/repetition", gettext_lazy("repetition")),
        ),
    ),
)
BY_NAME = {chart.name: chart for chart in CHARTS}

# Paper, ink and two colours that differ in lightness too: told apart without colour vision, on white and on black.
CSS = """
svg{font-family:system-ui,sans-serif;font-size:12px}
text{fill:#55585d;stroke:none}
.background,.plot .background{fill:none}
.line,.axis .line{fill:none;stroke:#85827b;stroke-width:1}
.axis .guide.line{stroke:#dcd8d0}
.axis.x text{text-anchor:middle}
.axis.y text{text-anchor:end}
.legends text{font-size:12px}
.nofill{fill:none}
.serie-0 .line,.serie-1 .line,.serie-2 .line{stroke-width:2.5}
.color-0 .line,.line.color-0,.serie-0 .line{stroke:#1d4f91}
.serie-1 .line{stroke:#b06a00;stroke-dasharray:6 3}
.serie-2 .line{stroke:#0b6358;stroke-dasharray:2 3}
.serie-0 .dot,.legend rect.color-0{fill:#1d4f91}
.serie-1 .dot,.legend rect.color-1{fill:#b06a00}
.serie-2 .dot,.legend rect.color-2{fill:#0b6358}
.no_data{text-anchor:middle;font-size:14px}
.tooltip,.text-overlay,.crosshair{display:none}
@media (prefers-color-scheme:dark){
text{fill:#a9adb3}
.line,.axis .line{stroke:#7d848d}
.axis .guide.line{stroke:#363b42}
.color-0 .line,.line.color-0,.serie-0 .line{stroke:#8db8f0}
.serie-1 .line{stroke:#f0b860}
.serie-2 .line{stroke:#63c9b8}
.serie-0 .dot,.legend rect.color-0{fill:#8db8f0}
.serie-1 .dot,.legend rect.color-1{fill:#f0b860}
.serie-2 .dot,.legend rect.color-2{fill:#63c9b8}
}
"""
CSS_SOURCE = f"'sha256-{base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()}'"


class Row(NamedTuple):
    """A line of the table under a chart: the step, and one value a series, None where it was not measured."""

    step: int
    values: list[float | None]


class Drawable(NamedTuple):
    chart: Chart
    labels: list[str]
    rows: list[Row]


def drawables(run: TrainingRun) -> list[Drawable]:
    """What can be drawn of a run now: the charts with two steps or more, each with the rows of its table."""
    metrics = list(run.metrics.order_by("id"))
    found = [Drawable(chart, *table(chart, metrics)) for chart in CHARTS]
    return [drawable for drawable in found if len(drawable.rows) > 1]


def table(chart: Chart, metrics: Iterable[RunMetric]) -> tuple[list[str], list[Row]]:
    """The labels of the series that have numbers, and the steps at which there is one."""
    measured = [row for row in metrics if any(key in row.values for key, _label in chart.series)]
    series = [(key, label) for key, label in chart.series if any(key in row.values for row in measured)]
    rows = [Row(row.step, [row.values.get(key) for key, _label in series]) for row in thinned(measured)]
    return [str(label) for _key, label in series], rows


def thinned(rows: list) -> list:
    """At most MOST_POINTS of them, evenly, the last one always."""
    if len(rows) <= MOST_POINTS:
        return rows
    stride = -(-len(rows) // MOST_POINTS)
    return rows[(len(rows) - 1) % stride :: stride]


def draw(chart: Chart, run: TrainingRun) -> bytes:
    """The chart as an SVG document."""
    labels, rows = table(chart, run.metrics.order_by("id"))
    drawing = pygal.XY(
        width=WIDTH,
        height=HEIGHT,
        js=[],
        css=[],
        style=Style(),
        title=None,
        no_prefix=True,
        show_dots=False,
        dots_size=4,
        show_legend=len(labels) > 1,
        legend_at_bottom=True,
        legend_box_size=10,
        truncate_legend=-1,
        legend_at_bottom_columns=1 if len(labels) > 2 else 2,
        margin=8,
        spacing=6,
        max_scale=6,
        value_formatter=short,
        x_value_formatter=short,
        no_data_text=_("No numbers yet"),
    )
    if rows:
        drawing.x_labels = whole_steps(rows[0].step, rows[-1].step)
    for place, label in enumerate(labels):
        points = [(row.step, row.values[place]) for row in rows if row.values[place] is not None]
        drawing.add(label, points)
    drawing.add_xml_filter(lambda root: plain(root, str(chart.title)))
    return drawing.render()


def whole_steps(first: int, last: int) -> list[int]:
    """Up to eight steps to mark on the axis, evenly, with no half step between them."""
    stride = max(1, -(-(last - first) // 7))
    return list(range(first, last + 1, stride))


def short(value: float) -> str:
    return f"{value:.4g}"


def plain(root, title: str):
    """Take pygal's script and its style out, put ours in, and name the picture."""
    defs = root.find("defs")
    for child in list(defs):
        if child.tag in ("script", "style"):
            defs.remove(child)
    style = defs.makeelement("style", {})
    style.text = CSS
    defs.insert(0, style)
    root.find("title").text = title
    root.attrib.pop("id", None)
    return root
