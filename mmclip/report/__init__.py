"""One self-contained HTML page: nothing fetched from anywhere; its one script sorts tables."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from mmclip.artifacts import whole

# base-uri and form-action do not fall back to default-src.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
# A source_id has more digits than a double holds: numeric text is compared by localeCompare if it
# is whole, and as a number otherwise.
SCRIPT = """
document.querySelectorAll("th").forEach(th=>{th.tabIndex=0;const sort=()=>{
const body=th.closest("table").tBodies[0],i=th.cellIndex,up=th.ariaSort!=="ascending";
th.parentNode.querySelectorAll("th").forEach(o=>{o.ariaSort=null});
th.ariaSort=up?"ascending":"descending";
const key=r=>r.cells[i].dataset.v??r.cells[i].textContent,whole=t=>/^\\d+$/.test(t);
const order=(a,b)=>whole(a)&&whole(b)||isNaN(a)||isNaN(b)
?a.localeCompare(b,"en",{numeric:true}):a-b;
[...body.rows].sort((a,b)=>{const x=key(a),y=key(b);
if(x==="–"||y==="–")return(x==="–")-(y==="–");return up?order(x,y):order(y,x)})
.forEach(r=>body.append(r))};
th.onclick=sort;th.onkeydown=e=>{if(e.key==="Enter")sort()}});
const wide=()=>document.querySelectorAll(".scroll").forEach(s=>{
s.classList.toggle("more",s.scrollWidth>s.clientWidth+1&&s.scrollLeft<1)});
document.querySelectorAll(".scroll").forEach(s=>{s.onscroll=wide});addEventListener("resize",wide);
wide();
"""
STYLE = """
:root{color-scheme:light dark;--fg:#1b2430;--bg:#fbfbf9;--soft:#5b6675;--line:#dcdfe3;--card:#fff;
--mark:#b3450a}
@media(prefers-color-scheme:dark){:root{--fg:#e6e9ee;--bg:#12161c;--soft:#9aa5b4;--line:#2c333d;
--card:#181d25;--mark:#ff9b5e}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main,header,footer{max-width:68rem;margin:0 auto;padding:1rem 1.2rem}
header{padding-top:2.5rem}h1{font-size:2.1rem;margin:0 0 .3rem}h2{margin:2.2rem 0 .4rem;
line-height:1.3}section p{max-width:44rem}
header p,footer,figcaption{color:var(--soft)}nav{display:flex;flex-wrap:wrap;gap:.3rem 1.1rem}
nav a{color:inherit;text-underline-offset:.2em}
section{border-top:1px solid var(--line)}.scroll{overflow-x:auto;position:relative}
.scroll.more::before{content:"more columns: scroll →";position:sticky;left:0;font-size:.8rem;
color:var(--soft)}
table{border-collapse:separate;border-spacing:0;font-size:.86rem;margin:.8rem 0;
font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th:first-child,td:first-child{position:sticky;left:0;background:var(--bg)}
th{color:var(--soft);font-weight:600;cursor:pointer}
th[aria-sort=ascending]::after{content:" ↑"}th[aria-sort=descending]::after{content:" ↓"}
tbody tr:hover,tbody tr:hover td:first-child{background:var(--card)}td.n,th.n{text-align:right}
.pictures{display:flex;flex-wrap:wrap;gap:1rem}figure{flex:0 1 32rem;margin:.6rem 0;background:#fff;
border:1px solid var(--line);border-radius:8px;padding:.6rem;max-width:100%}
.wide figure{flex:1 1 100%}figcaption{font-size:.85rem;color:#5b6675}
img{width:100%;height:auto;display:block}
.modelled{display:inline-block;font-size:.75rem;border:1px solid var(--mark);color:var(--mark);
border-radius:4px;padding:.05rem .45rem;margin-left:.6rem;vertical-align:middle}
footer{font-size:.85rem;padding-bottom:3rem}
"""


@dataclass(frozen=True)
class Section:
    """A heading, a text, a table (rows as dictionaries) and pictures (PNG bytes, caption)."""

    title: str
    text: str = ""
    table: Sequence[Mapping[str, Any]] | None = None
    pictures: Sequence[tuple[bytes, str]] = ()
    modelled: bool = False
    wide: bool = False  # pictures take the whole width


def cell(value: Any) -> str:
    """A value as text: whole numbers with all digits, others to four significant ones."""
    if value is None:
        return "–"
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's own, too
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return str(int(value))
    if not isinstance(value, Real):
        return str(value)
    number = float(value)
    if math.isnan(number):
        return "–"
    # Twice: 4g alone would write 12346 as 1.235e+04.
    return f"{float(f'{number:.4g}'):.12g}"


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _cell(value: Any, mark: str) -> str:
    """A table cell; a rounded number keeps its full value to be sorted by."""
    full = ""
    if _number(value) and not isinstance(value, Integral) and math.isfinite(value):
        full = f' data-v="{float(value)!r}"'
    return f"<td{mark}{full}>{escape(cell(value))}</td>"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    mark = {
        n: ' class="n"' if all(r.get(n) is None or _number(r[n]) for r in rows) else ""
        for n in names
    }
    head = "".join(f'<th scope="col"{mark[n]}>{escape(str(n))}</th>' for n in names)
    body = "".join(
        "<tr>" + "".join(_cell(r.get(n), mark[n]) for n in names) + "</tr>" for r in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _section(number: int, section: Section) -> str:
    badge = '<span class="modelled">modelled data</span>' if section.modelled else ""
    parts = [f'<section id="s{number}"><h2>{escape(section.title)}{badge}</h2>']
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.table:
        parts.append(_table(section.table))
    if section.pictures:
        parts.append(f'<div class="pictures{" wide" if section.wide else ""}">')
        for picture, caption in section.pictures:
            body = base64.b64encode(picture).decode()
            words = escape(caption, quote=True)
            parts.append(
                f'<figure><img alt="{words}" src="data:image/png;base64,{body}">'
                f"<figcaption>{words}</figcaption></figure>"
            )
        parts.append("</div>")
    return "".join(parts) + "</section>"


def page(title: str, subtitle: str, sections: Sequence[Section], footer: str) -> str:
    """The whole page; every text in it is escaped."""
    contents = "".join(f'<a href="#s{i}">{escape(s.title)}</a>' for i, s in enumerate(sections, 1))
    body = "".join(_section(i, s) for i, s in enumerate(sections, 1))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>"
        f'<nav aria-label="Contents">{contents}'
        f"</nav></header>"
        f"<main>{body}</main><footer>{escape(footer)}</footer>"
        f"<script>{SCRIPT}</script></body></html>"
    )


def write(path: Path, html: str) -> None:
    """Write the page, whole or not at all."""
    with whole(path) as part:
        part.write_text(html, encoding="utf-8")
