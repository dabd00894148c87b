"""Modalities by name: built in, announced as an entry point, or a dotted module name.

A view is stored under the short name of its modality (`echelle`), which has no dot and so is fit
for files, columns and parts of a model. Where that name does not find the modality again, because
it was named `mylab.echelle`, its origin is stored beside it: with the statistics of a data set, a
run and a decoder, and in the manifest of an import.
"""

import dataclasses

from mmclip import plugins
from mmclip.errors import UsageError, nearest
from mmclip.modalities import Modality, Statistics
from mmclip.modalities.settings import configured


def modality(name: str) -> Modality:
    """The modality of a name: `spectra`, `mylab.echelle`, or `spectra@miles` for one raw artefact.

    Raises:
        NotFound: If there is none.
    """
    found: Modality = plugins.load("modalities", name, "MODALITY")
    origin = plugins.base(name)
    known = origin.replace("-", "_") == plugins.base(found.name)
    return found if known else dataclasses.replace(found, origin=origin)


def of_view(name: str, statistics: Statistics) -> Modality:
    """The modality of a stored view, under the settings it was prepared with."""
    base, at, place = name.partition("@")
    return configured(modality(f"{statistics.origin or base}{at}{place}"), statistics.settings)


def importable() -> list[str]:
    """Names of the modalities that a file may hold: those that read a raw view of their own."""
    return [n for n in plugins.names("modalities") if not modality(n).view]


def imported(name: str) -> Modality:
    """What `import --as` means: a modality by its name or another word for it (`lightcurve`).

    Raises:
        UsageError: If there is none, or it is made from the raw view of another.
    """
    known = importable()
    if "." not in name and name.replace("-", "_") not in known:
        every = [modality(n) for n in known]
        found = next((m for m in every if name in m.aliases), None)
        if found is not None:
            return found
        if name.replace("-", "_") not in plugins.names("modalities"):
            raise UsageError(
                f"--as '{name}' is no view; {nearest(name, known)}",
                f"--as {'|'.join(known)}, or a modality of yours: --as my_package.my_modality",
            )
    found = modality(name)
    if found.view:
        raise UsageError(
            f"--as {name}: {found.name} is made from the raw view {found.view}",
            f"--as {found.view}, then mmclip preprocess --modalities {found.name}",
        )
    return found
