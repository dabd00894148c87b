"""One file of an observer's, a survey's or another project's -> rows of a view.

A reader of one more format is one file that defines `READER`. `read(file, modality)` is pure: it
opens one file, guards itself against damaged and hostile ones (`files`), and returns a table with
one row an object (`views`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mmclip import plugins
from mmclip.errors import UsageError
from mmclip.modalities import Modality, registry
from mmclip.readers import errors, files, views
from mmclip.readers.files import Loaded, Source
from mmclip.readers.views import AS_IS, Options

__all__ = ["AS_IS", "Loaded", "Options", "Reader", "Source", "read", "readers"]


@dataclass(frozen=True)
class Reader:
    """How one format of files is read.

    Attributes:
        name: As `import --reader` takes it.
        recognises: (file, its HDUs if it is FITS) -> whether the file is of this format; None for
            a reader of any table, which is asked where no other recognises the file.
        read: (file, modality, how the user describes it) -> a table made by `views.observations`.
        views: Names of the modalities whose rows it gives; empty: any.
        citations: Bibcodes by the survey that its files are of.
    """

    name: str
    recognises: Callable[[Loaded, list[Any]], bool] | None
    read: Callable[[Loaded, Modality, Options], pa.Table]
    views: tuple[str, ...] = ()
    citations: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def readers(modality: Modality, name: str = "") -> tuple[Reader, ...]:
    """The readers of a modality in the order in which they are asked; the last reads any table.

    Args:
        modality: What is looked for.
        name: The one reader to use; a dotted name for one of the user's. Empty: the file decides.

    Raises:
        NotFound: If there is no reader of that name.
        UsageError: If it does not give that view.
    """
    if name:
        one: Reader = plugins.load("readers", name, "READER")
        if one.views and modality.name not in one.views:
            raise UsageError(
                f"the reader {name} gives {', '.join(one.views)}, not {modality.name}",
                f"--as {one.views[0]}, or leave --reader out",
            )
        return (one,)
    every: list[Reader] = [plugins.load("readers", n, "READER") for n in plugins.names("readers")]
    special = [r for r in every if r.recognises and (not r.views or modality.name in r.views)]
    own = [r for r in every if not r.recognises and modality.name in r.views]
    anything = [r for r in every if not r.recognises and not r.views]
    return (*special, *own, *anything)


def citations(survey: str) -> tuple[str, ...]:
    """Bibcodes of a survey whose files are read here; none for others."""
    every: list[Reader] = [plugins.load("readers", n, "READER") for n in plugins.names("readers")]
    return next((r.citations[survey] for r in every if survey in r.citations), ())


@np.errstate(invalid="ignore", over="ignore")  # damaged floats are NaN or infinite, no news
def read(
    source: Source,
    modality: Modality | str,
    options: Options = AS_IS,
    among: Sequence[Reader] | None = None,
) -> pa.Table:
    """One file as a view table (see `views`).

    Args:
        source: A path, the bytes of a file, or an open binary file.
        modality: What the file holds, or its name; `xp` gives `xp_coefficients` if the file has
            coefficients.
        options: How the user describes the file; columns that are named go before what a format
            says of itself.
        among: The readers to ask; None for `readers(modality)`.

    Raises:
        NotFound, UsageError, IntegrityError: If the file is not there, does not hold that view,
            is damaged or hostile; one sentence each.
    """
    modality = registry.imported(modality) if isinstance(modality, str) else modality
    asked, data = readers(modality) if among is None else among, files.body(source)
    # The formats are read by parsers, each with exceptions of its own for content that none
    # expected; whatever is left of these is one sentence too.
    with files.hearing() as heard, files.reading(data.name, modality.name):
        reader = _reader(data, asked, options)
        made = errors.given(reader.read(data, modality, options), modality, options)
        for note in heard:
            made = views.told(made, note)
        return made.replace_schema_metadata({**(made.schema.metadata or {}), "reader": reader.name})


def _reader(data: Loaded, asked: Sequence[Reader], options: Options) -> Reader:
    """The first reader that recognises the file, or the first that reads any table."""
    special = [r for r in asked if r.recognises]
    general = [r for r in asked if not r.recognises]
    if not general:
        return special[0]
    if special and not options.columns:
        if files.kind(data, data.name) == "fits":
            with files.fits_units(data, True) as units:
                found = next(
                    (r for r in special if r.recognises and r.recognises(data, units)), None
                )
        else:
            found = next((r for r in special if r.recognises and r.recognises(data, [])), None)
        if found is not None:
            return found
    return general[0]
