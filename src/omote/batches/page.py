"""The contact sheet of a batch: one page with every thumbnail, filters, and the reasons of what failed. Nothing is requested.

Rows are data in the page, which a script shows as text, so no name becomes markup. Thumbnails are embedded; those of very large
batches stay files beside the page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path

from omote.batches.rows import ScanRow, counted
from omote.evaluation.report.html import STYLE
from omote.files import atomic_path

# Beyond this number a page of embedded thumbnails, about 8 kB each, would be slow to open.
MOST_EMBEDDED = 3000

PAGE_STYLE = """
.bar{position:sticky;top:0;z-index:2;display:flex;flex-wrap:wrap;gap:8px;align-items:center;padding:10px 0;
background:var(--paper);border-bottom:1px solid var(--line)}
.bar button,.bar input,.bar select{font:inherit;color:inherit;background:var(--tint);border:1px solid var(--line);
border-radius:6px;padding:5px 10px}
.bar button[aria-pressed=true]{background:var(--model);border-color:var(--model);color:var(--paper)}
.bar input{flex:1;min-width:12em}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(264px,1fr));gap:14px;margin:14px 0}
.card{border:1px solid var(--line);border-radius:8px;overflow:hidden;background:var(--tint);font-size:.86rem}
.card img{display:block;width:100%;aspect-ratio:3;background:#888}
.card .none{padding:10px 10px 0;color:var(--bad);font-weight:600}
.card .text{padding:7px 10px}.card b,.card p{overflow-wrap:anywhere}.card p{margin:.25em 0 0;color:var(--soft)}
.card .bad{color:var(--bad)}.card a{color:var(--model);margin-right:.8em}
"""

SCRIPT = """
const rows = JSON.parse(document.getElementById('rows').textContent);
const grid = document.querySelector('.grid'), count = document.getElementById('count'), end = document.getElementById('end');
const search = document.querySelector('input'), order = document.querySelector('select');
const STEP = 120, fold = text => text.normalize('NFKC').toLowerCase();
let kind = 'all', shown = [], drawn = 0;
const add = (parent, name, text, kind) => {
  const made = parent.appendChild(document.createElement(name));
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const link = (parent, text, path) => {
  add(parent, 'a', text).href = path.split('/').map(encodeURIComponent).join('/');
};
function card(row) {
  const made = document.createElement('article');
  made.className = 'card';
  if (row.made) {
    const picture = add(made, 'img');
    if (!row.embedded) picture.loading = 'lazy';
    picture.alt = 'source, avatar at rest, one expression';
    picture.src = row.embedded || row.picture.split('/').map(encodeURIComponent).join('/');
  } else add(made, 'div', row.kind, 'none');
  const text = add(made, 'div', '', 'text');
  add(text, 'b', row.scan);
  if (row.made) {
    const facts = [];
    if (row.median_mm !== null) facts.push('fit ' + row.median_mm.toFixed(2) + ' mm');
    if (row.unit) facts.push(row.unit);
    if (row.confidence !== null) facts.push('confidence ' + row.confidence.toFixed(2));
    add(text, 'p', facts.join(' · '));
    if (row.doubtful) add(text, 'p', 'the pose is doubtful: check it', 'bad');
    const links = add(text, 'p');
    link(links, 'GLB', row.avatar);
    link(links, 'report', row.report);
  } else add(text, 'p', row.reason);
  return made;
}
function more() {
  shown.slice(drawn, drawn + STEP).forEach(row => grid.append(card(row)));
  drawn = Math.min(drawn + STEP, shown.length);
}
const wanted = {all: () => true, made: row => row.made, failed: row => !row.made, doubtful: row => row.doubtful};
const orders = {
  given: () => 0, name: (a, b) => a.scan.localeCompare(b.scan),
  fit: (a, b) => (b.median_mm ?? -1) - (a.median_mm ?? -1), confidence: (a, b) => (a.confidence ?? 9) - (b.confidence ?? 9)
};
function show() {
  const words = fold(search.value).split(/\\s+/).filter(Boolean);
  const fits = wanted[kind] || (row => row.kind === kind);
  shown = rows.filter(row => fits(row) && words.every(word => fold(row.scan + ' ' + row.reason).includes(word)));
  if (order.value !== 'given') shown.sort(orders[order.value]);
  grid.replaceChildren();
  drawn = 0;
  more();
  count.textContent = shown.length.toLocaleString() + ' of ' + rows.length.toLocaleString() + ' scans';
}
document.querySelectorAll('button').forEach(button => button.addEventListener('click', () => {
  kind = button.value;
  document.querySelectorAll('button').forEach(other => other.setAttribute('aria-pressed', other === button));
  show();
}));
search.addEventListener('input', show);
order.addEventListener('change', show);
new IntersectionObserver(entries => { if (entries[0].isIntersecting) more(); }, {rootMargin: '800px'}).observe(end);
show();
"""


def write_page(rows: Sequence[ScanRow], out: Path, *, missing: int = 0) -> Path:
    """Write ``index.html`` into the folder of a batch.

    Args:
        rows: rows of the scans.
        out: folder of the batch.
        missing: number of scans that are not done yet.

    Returns:
        The page.

    Raises:
        OutputError: it cannot be written.
    """
    embedded = sum(row.made for row in rows) <= MOST_EMBEDDED
    data = [_shown(row, out, embedded) for row in rows]
    path = out / "index.html"
    with atomic_path(path) as temporary:
        temporary.write_text(_page(rows, json.dumps(data), missing, embedded), encoding="utf-8")
    return path


def _shown(row: ScanRow, out: Path, embedded: bool) -> dict[str, object]:
    names = (
        "scan",
        "made",
        "kind",
        "reason",
        "avatar",
        "report",
        "picture",
        "unit",
        "confidence",
        "doubtful",
        "median_mm",
    )
    data: dict[str, object] = {name: getattr(row, name) for name in names}
    if embedded and row.made:
        picture = (out / row.picture).read_bytes()
        data["embedded"] = f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
    return data


def _page(rows: Sequence[ScanRow], data: str, missing: int, embedded: bool) -> str:
    made, failed, doubtful = (
        sum(row.made for row in rows),
        sum(not row.made for row in rows),
        sum(bool(row.doubtful) for row in rows),
    )
    kinds = [("all", "all", len(rows)), ("made", "made", made), ("failed", "failed", failed)]
    kinds += [("doubtful", "doubtful pose", doubtful)] if doubtful else []
    kinds += [(kind, kind, count) for kind, count in counted(rows).items()]
    buttons = "".join(
        f'<button type="button" value="{escape(value)}" aria-pressed="{"true" if value == "all" else "false"}">'
        f"{escape(text)} {count:,}</button>"
        for value, text, count in kinds
    )
    notes = [f"{made:,} avatars of {len(rows):,} scans, {failed:,} failed."]
    notes += [f"{missing:,} scans are not done yet."] if missing else []
    notes += [] if embedded else ["The pictures lie in files beside this page."]
    notes += ["Each picture: the scan as the networks saw it, the avatar at rest, and with one expression."]
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: 'self' file:"
    # "<" in a name would end the script's element.
    safe = data.replace("<", "\\u003c")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>omote: {made:,} avatars</title>\n<style>{STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n<h1>Avatars</h1>\n"
        f'<p class="soft">{" ".join(notes)}</p>\n'
        f'<div class="bar">{buttons}<input type="search" placeholder="part of a name or reason" aria-label="search">'
        '<select aria-label="order"><option value="given">as given</option><option value="name">by name</option>'
        '<option value="fit">worst fit first</option><option value="confidence">least confident first</option></select>'
        '<span class="soft" id="count" role="status"></span></div>\n'
        '<main class="grid"></main>\n<div id="end"></div>\n'
        f'<script type="application/json" id="rows">{safe}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
    )
