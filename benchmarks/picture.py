"""The figures of a run as SVG: a panel for each row, a bar for each contestant."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from benchmarks.contestants import CONTESTANTS
from benchmarks.report import columns, figure
from benchmarks.results import Results
from benchmarks.works import Row

_ACROSS = 3
_PANEL_WIDTH = 330
_NAME_WIDTH = 128
_BAR_WIDTH = 130
_BAR_HEIGHT = 13
_STEP = 18
_HEADER = 46
_MARGIN = 16
_OURS, _OURS_SWITCHED, _PEER = "#1f6feb", "#8cb8f7", "#c3c8d0"
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600}.unit,.value{fill:#57606a;font-size:11px}"
)


@dataclass
class _Panel:
    row: Row
    bars: list[tuple[str, float]]

    @property
    def height(self) -> int:
        return _HEADER + _STEP * len(self.bars) + _MARGIN

    def draw(self, left: int, top: int) -> str:
        better = "less is better" if self.row.lower_is_better else "more is better"
        unit = f"{self.row.unit}, {better}" if self.row.unit else better
        parts = [
            f'<text class="title" x="{left}" y="{top + 18}">{escape(self.row.title)}</text>',
            f'<text class="unit" x="{left}" y="{top + 34}">{escape(unit)}</text>',
        ]
        longest = max(value for _, value in self.bars) or 1.0
        for number, (name, value) in enumerate(self.bars):
            y = top + _HEADER + _STEP * number
            width = max(1.0, _BAR_WIDTH * value / longest)
            bar_left = left + _NAME_WIDTH
            parts += [
                f'<text x="{bar_left - 8}" y="{y + 11}" text-anchor="end">{escape(CONTESTANTS[name].title)}</text>',
                f'<rect x="{bar_left}" y="{y}" width="{width:.1f}" height="{_BAR_HEIGHT}" fill="{_colour(name)}"/>',
                f'<text class="value" x="{bar_left + width + 6:.1f}" y="{y + 11}">{figure(value)}</text>',
            ]
        return "\n".join(parts)


def svg(results: Results) -> str:
    """Rows that less than two contestants have a figure for are left out: there is nothing to see."""
    panels = [panel for row in results.rows() if len((panel := _panel(results, row)).bars) > 1]
    parts: list[str] = []
    top = _MARGIN
    for start in range(0, len(panels), _ACROSS):
        line = panels[start : start + _ACROSS]
        parts += [panel.draw(_MARGIN + _PANEL_WIDTH * column, top) for column, panel in enumerate(line)]
        top += max(panel.height for panel in line)
    width, height = _PANEL_WIDTH * _ACROSS + 2 * _MARGIN, top + _MARGIN
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        )
    )


def _panel(results: Results, row: Row) -> _Panel:
    values = ((name, results.value(row, name)) for name in columns(results))
    return _Panel(row, [(name, value) for name, value in values if value is not None])


def _colour(name: str) -> str:
    return {"broker": _OURS, "broker-switch": _OURS_SWITCHED}.get(name, _PEER)
