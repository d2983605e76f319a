"""A chart of ratios: one dot per pair, with its range, on a logarithmic axis."""
import math
from xml.sax.saxutils import escape

LEFT, WIDTH, LINE = 430, 420, 18
TICKS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4]


def x(ratio):
    low, high = math.log(TICKS[0]), math.log(TICKS[-1])
    at = (math.log(min(max(ratio, TICKS[0]), TICKS[-1])) - low) / (high - low)
    return LEFT + at * WIDTH


def draw(rows):
    """The chart as SVG. Left of 1, windlass takes less CPU."""
    pairs = [row for row in rows if row.ratios]
    height = 60 + LINE * len(pairs) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 30}" height="{height}" '
        f'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{LEFT}" y="16" font-size="13">CPU per operation: windlass ÷ the other server '
        "(median and range)</text>",
    ]
    for tick in TICKS:
        colour, width = ("#333", 1.5) if tick == 1 else ("#ddd", 1)
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="40" y2="{height - 20}" '
                     f'stroke="{colour}" stroke-width="{width}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="34" text-anchor="middle">{tick:g}</text>')
    for number, row in enumerate(pairs):
        y = 54 + LINE * number
        colour = "#2a7" if row.ratio <= 1 else "#c43"
        label = escape(f"{row.service}, {row.case}: {row.contender}")
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{label}</text>',
            f'<line x1="{x(min(row.ratios)):.1f}" x2="{x(max(row.ratios)):.1f}" y1="{y}" y2="{y}" '
            f'stroke="{colour}" stroke-width="2"/>',
            f'<circle cx="{x(row.ratio):.1f}" cy="{y}" r="4" fill="{colour}"/>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
