"""BibTeX entries and acknowledgements, as each survey's folder has them; keys are ADS bibcodes."""

import re
from collections.abc import Iterable
from pathlib import Path

from mmclip import plugins
from mmclip.errors import NotFound
from mmclip.surveys import Survey


def key(bibcode: str) -> str:
    """A BibTeX key of a bibcode: letters and digits only."""
    return "".join(c for c in bibcode if c.isalnum())


def read(file: Path) -> dict[str, str]:
    """The entries of a BibTeX file by their keys, each word for word."""
    entries = re.split(r"^(?=@)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = ((re.match(r"@\w+\{\s*([^,\s]+)\s*,", e), e.strip()) for e in entries)
    return {match[1]: text for match, text in found if match}


def known() -> dict[str, str]:
    """Every entry of every survey that can be found, by its key."""
    files = dict.fromkeys(it.references for it in surveys(plugins.names("surveys")))
    return {k: e for file in files if file is not None for k, e in read(file).items()}


def surveys(names: Iterable[str]) -> list[Survey]:
    """The surveys of these names; one that is not installed here is left out."""
    found = []
    for name in names:
        try:
            found.append(plugins.load("surveys", name, "SURVEY"))
        except NotFound:  # rows imported from files name surveys that nobody fetches
            continue
    return found


def entries(bibcodes: Iterable[str]) -> list[str]:
    """A BibTeX entry for each bibcode; for one that no survey has, one with its address alone."""
    held = known()
    return [held.get(key(b)) or held.get(b) or _bare(b) for b in bibcodes]


def _bare(bibcode: str) -> str:
    url = f"https://ui.adsabs.harvard.edu/abs/{bibcode.replace('&', '%26')}"
    return f"@misc{{{key(bibcode)},\n  note = {{{bibcode}}},\n  adsurl = {{{url}}}\n}}"


def thanks(names: list[str], bibcodes: list[str]) -> list[str]:
    """Acknowledgements of surveys and of the catalogues they brought along, each once."""
    everyone = surveys(plugins.names("surveys"))
    texts = [a for it in surveys(names) for a in it.acknowledgements if not a.cited]
    brought = {a.cited: a for it in everyone for a in it.acknowledgements if a.cited}
    texts += [brought[b] for b in bibcodes if b in brought]
    lines = (f"{a.text} (full text: {a.address})" for a in texts)
    return list(dict.fromkeys(lines))
