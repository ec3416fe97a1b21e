"""Pages without a template engine: a skeleton with embedded style, tables, and embedded pictures. Nothing is requested."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from omote.evaluation.statistics import Interval
from omote.files import atomic_path

STYLE = """
:root{--ink:#1c1f23;--soft:#5c6670;--line:#d8dde2;--paper:#fff;--tint:#f4f6f8;--model:#0b62a8;--base:#b4540a;--bound:#5c6670;
--good:#1a7f4b;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5b0;--line:#3a424a;--paper:#16191c;--tint:#1f2428;
--model:#6db3f2;--base:#f0a35e;--bound:#9aa5b0;--good:#5fce94;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1200px;padding:20px 16px 60px;font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
color:var(--ink);background:var(--paper);-webkit-text-size-adjust:100%}
h1{font-size:1.6rem;line-height:1.2;margin:.2em 0}h2{font-size:1.2rem;margin:2.2em 0 .5em}h3{font-size:1rem;margin:1.5em 0 .4em}
p,li{max-width:75ch}.soft,small,caption{color:var(--soft)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:.6em 0}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{padding:6px 10px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
thead th{background:var(--tint);font-weight:600;vertical-align:bottom;line-height:1.25}
th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--paper);z-index:1}
thead th:first-child{background:var(--tint)}
tbody tr:last-child>*{border-bottom:0}tr.model th{color:var(--model)}tr.baseline th{color:var(--base)}
tr.bound>*{color:var(--soft)}tr.group>*{border-top:2px solid var(--line)}
tbody th{font-weight:600}td small{display:block;font-size:.78rem}td.text{text-align:left;white-space:normal;min-width:16em}
.better{color:var(--good)}.worse{color:var(--bad)}
.verdict{border-left:4px solid var(--base);background:var(--tint);padding:10px 14px;border-radius:0 6px 6px 0;margin:1em 0}
.verdict p{margin:.3em 0}
.figures{display:flex;flex-wrap:wrap;gap:22px 30px;margin:1em 0}
svg{max-width:100%;height:auto;font:12px system-ui,sans-serif;overflow:visible}
svg text{fill:var(--ink)}svg .t{font-weight:600;font-size:13px}svg .l,svg .v{text-anchor:end}
svg .axis{text-anchor:middle;fill:var(--soft);font-size:11px}svg .grid{stroke:var(--line)}
svg .model{fill:var(--model);stroke:var(--model)}
svg .baseline{fill:var(--base);stroke:var(--base)}svg .bound{fill:var(--bound);stroke:var(--bound)}
svg .hit{fill:var(--model)}svg .miss{fill:var(--base)}svg .none{fill:var(--line)}svg .frame{fill:none;stroke:var(--line)}
svg .n{text-anchor:middle;font-size:11px}svg .n.light{fill:var(--paper)}
.sheet{display:grid;grid-template-columns:1fr;gap:10px;min-width:620px;max-width:760px;padding:10px}
.sheet figure{margin:0}.sheet figcaption{font-size:.85rem;margin-bottom:3px}
.sheet img{display:block;width:100%;border-radius:4px}
.heads{display:grid;grid-template-columns:repeat(7,1fr);font-size:.8rem;text-align:center;color:var(--soft)}
dl{display:grid;grid-template-columns:minmax(7em,13em) 1fr;gap:5px 14px;font-size:.92rem}dt{font-weight:600}
dd{margin:0;overflow-wrap:anywhere;max-width:75ch}
details{margin:.8em 0}summary{cursor:pointer;font-weight:600}
@media(max-width:520px){body{padding:14px 10px 40px;font-size:14px}dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:7px}
th,td{padding:5px 7px}th:first-child,td:first-child{max-width:8.5em;white-space:normal}}
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page, whose content security policy forbids any request."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def write(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a whole page.

    Raises:
        OutputError: it cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(page(title, body), encoding="utf-8")


def facts(run: Mapping[str, object]) -> str:
    """Versions, seeds, commit, machine and counts of a run."""
    return definitions((key, "–" if value is None else str(value)) for key, value in sorted(run.items()))


def number(value: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def with_interval(value: Interval | None, digits: int) -> str:
    """A number above its 95 % interval; a dash where there is none."""
    if value is None:
        return "–"
    if math.isnan(value.low):
        return number(value.value, digits)
    return f"{number(value.value, digits)}<small>{value.low:.{digits}f} to {value.high:.{digits}f}</small>"


def p_value(p: float) -> str:
    """A p-value as p = .03 or p < .001."""
    if math.isnan(p):
        return "no test: too few persons"
    return "p &lt; 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """A table with its own scrolling.

    Args:
        head: HTML of the columns' headings.
        rows: CSS class of each row and HTML of its cells, beginning with the row's name.
    """
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = []
    for kind, (name, *cells) in rows:
        values = "".join(f"<td>{cell}</td>" if not cell.startswith("<td") else cell for cell in cells)
        lines.append(f'<tr class="{kind}"><th scope="row">{name}</th>{values}</tr>')
    return f'<div class="scroll"><table><thead><tr>{names}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms and definitions, both escaped."""
    return "<dl>" + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in pairs) + "</dl>"


def picture(path: Path, alternative: str) -> str:
    """A PNG as embedded data, or a note if it is missing."""
    if not path.exists():
        return '<p class="soft">no picture was kept</p>'
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(alternative, quote=True)}" src="data:image/png;base64,{data}">'
