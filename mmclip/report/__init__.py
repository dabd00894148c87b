"""One self-contained HTML page: no script from elsewhere, no request to anywhere."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mmclip.artifacts import write_atomic

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root{color-scheme:light dark;--fg:#1b2430;--bg:#fbfbf9;--soft:#5b6675;--line:#dcdfe3;--card:#fff;
--mark:#b3450a}
@media(prefers-color-scheme:dark){:root{--fg:#e6e9ee;--bg:#12161c;--soft:#9aa5b4;--line:#2c333d;
--card:#181d25;--mark:#ff9b5e}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",sans-serif}
main,header,footer{max-width:68rem;margin:0 auto;padding:1rem 1.2rem}
header{padding-top:2.5rem}h1{font-size:2.1rem;margin:0 0 .3rem}h2{margin:2.2rem 0 .4rem}
header p,footer,figcaption{color:var(--soft)}nav a{margin-right:1.1rem;color:inherit}
section{border-top:1px solid var(--line)}.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums;margin:.8rem 0}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right}
.pictures{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:.6rem 0;background:#fff;
border:1px solid var(--line);border-radius:8px;padding:.6rem;max-width:100%}
figcaption{font-size:.85rem;color:#5b6675}img{max-width:100%;height:auto;display:block}
.modelled{display:inline-block;font-size:.75rem;border:1px solid var(--mark);color:var(--mark);
border-radius:4px;padding:.05rem .45rem;margin-left:.6rem;vertical-align:middle}
footer{font-size:.85rem;padding-bottom:3rem}
"""


@dataclass(frozen=True)
class Section:
    """A heading, a text, a table (rows as dictionaries) and pictures (PNG bytes, caption)."""

    title: str
    text: str = ""
    table: Sequence[dict[str, Any]] | None = None
    pictures: Sequence[tuple[bytes, str]] = ()
    modelled: bool = False


def cell(value: Any) -> str:
    """A value as text: whole numbers with all digits, others to four."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None else str(value)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    numeric = {
        n: all(isinstance(r.get(n), int | float | None) and not isinstance(r.get(n), bool)
               for r in rows)
        for n in names
    }  # fmt: skip
    mark = {n: ' class="n"' if numeric[n] else "" for n in names}
    head = "".join(f"<th{mark[n]}>{escape(str(n))}</th>" for n in names)
    body = "".join(
        "<tr>" + "".join(f"<td{mark[n]}>{escape(cell(r.get(n)))}</td>" for n in names) + "</tr>"
        for r in rows
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
        parts.append('<div class="pictures">')
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
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p><nav>{contents}</nav></header>"
        f"<main>{body}</main><footer>{escape(footer)}</footer></body></html>"
    )


def write(path: Path, html: str) -> None:
    """Write the page, whole or not at all."""
    write_atomic(path, html.encode())
