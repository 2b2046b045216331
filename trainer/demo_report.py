"""What the demonstration ends with: one table for the terminal, one page for a browser."""

from html import escape
from typing import NamedTuple

from trainer.oracle_wins import WinRate

HEADINGS = [
    "checkpoint",
    "status",
    "rankings",
    "reward accuracy, held out",
    "length-only baseline",
    "KL to base, nats",
    "oracle's win rate over the base, 95 % interval",
    "mean words",
    "mean tokens",
    "minutes of the turn",
]


class CheckpointRow(NamedTuple):
    name: str
    status: str
    rankings: int
    reward: dict
    evaluation: dict
    win_rate: WinRate | None
    mean_words: float
    mean_tokens: float
    minutes: float
    example: tuple[str, str]

    def cells(self) -> list[str]:
        return [
            self.name,
            self.status,
            str(self.rankings),
            share_with_interval(self.reward.get("accuracy")),
            share_with_interval(self.reward.get("length_baseline")),
            f"{self.evaluation['kl']:.1f}" if "kl" in self.evaluation else "0.0",
            str(self.win_rate) if self.win_rate else "–",
            f"{self.mean_words:.1f}",
            f"{self.mean_tokens:.1f}",
            f"{self.minutes:.1f}" if self.minutes else "–",
        ]


def share_with_interval(estimate: dict | None) -> str:
    if not estimate:
        return "–"
    if "low" not in estimate:
        return f"{estimate['value']:.0%}"
    return f"{estimate['value']:.0%} [{estimate['low']:.0%}, {estimate['high']:.0%}]"


def as_table(rows: list[CheckpointRow]) -> str:
    """The rows under their headings, in columns as wide as they need; a heading breaks over several lines."""
    cells = [row.cells() for row in rows]
    widths = [max(12, *(len(row[i]) for row in cells)) for i in range(len(HEADINGS))]
    headings = [wrapped(heading, width) for heading, width in zip(HEADINGS, widths, strict=True)]
    depth = max(map(len, headings))
    headings = [[""] * (depth - len(lines)) + lines for lines in headings]
    lines = [[heading[i] for heading in headings] for i in range(depth)]
    lines += [["─" * width for width in widths], *cells]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def as_html(title: str, rows: list[CheckpointRow]) -> str:
    """A page that stands alone: the table, a bar for each win rate, one completion of each checkpoint."""
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row.cells())}</tr>" for row in rows)
    bars = "".join(win_rate_bar(row) for row in rows if row.win_rate)
    examples = "".join(f"<dt>{escape(row.name)}</dt><dd>{escape(row.example[1])}</dd>" for row in rows)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Whetstone: {escape(title)}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse }}
th, td {{ text-align: left; vertical-align: bottom; padding: .4rem .8rem; border-bottom: 1px solid #8886 }}
dd {{ margin: 0 0 1rem; white-space: pre-wrap }}
</style>
<h1>{escape(title)}</h1>
<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
<h2>Win rate over the base, by the hidden preference, on held-out prompts</h2>
<svg viewBox="0 0 640 {40 * max(1, len(rows) - 1) + 30}" role="img" aria-label="The table has the numbers"
 font-size="14" fill="currentColor">
<line x1="390" x2="390" y1="0" y2="{40 * max(1, len(rows) - 1)}" stroke="currentColor" stroke-dasharray="3 3"/>
<text x="378" y="{40 * max(1, len(rows) - 1) + 20}">50 %</text>
{bars}
</svg>
<h2>One completion each</h2>
<p>Prompt: {escape(rows[0].example[0])}</p>
<dl>{examples}</dl>
</html>
"""


def win_rate_bar(row: CheckpointRow) -> str:
    """A point with its interval on an axis from 0 to 100 %, 160 to 620 units from the left."""
    number = int(row.name.rsplit("-", 1)[-1])
    y = 40 * number - 20
    low, value, high = (160 + 460 * share for share in (row.win_rate.low, row.win_rate.value, row.win_rate.high))
    return (
        f'<text x="0" y="{y + 5}">{escape(row.name[-20:])}</text>'
        f'<line x1="{low:.0f}" x2="{high:.0f}" y1="{y}" y2="{y}" stroke="currentColor" stroke-width="3"/>'
        f'<circle cx="{value:.0f}" cy="{y}" r="6"/>'
    )
