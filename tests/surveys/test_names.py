"""Names to positions and ids, without astroquery ever being imported for nothing."""

import subprocess
import sys

import pytest

from mmclip.cli.fetch import read_cone
from mmclip.errors import NotFound, RemoteError, UsageError
from mmclip.surveys import id_list, names
from mmclip.surveys.client.http import Client


def test_a_cone_may_be_around_a_name(monkeypatch):
    monkeypatch.setattr(names, "position", lambda name, client: {"M 67": (132.85, 11.81)}[name])
    assert read_cone("M 67, 0.5", Client()) == (132.85, 11.81, 0.5)
    assert read_cone("56.75,24.12,2", Client()) == (56.75, 24.12, 2.0)
    for text in ("M 67", "1,2", "a,b,c"):
        with pytest.raises((UsageError, KeyError)):
            read_cone(text, Client())


def test_the_gaia_id_of_a_name_is_that_of_simbad(monkeypatch):
    from astropy.table import Table

    class Simbad:
        def query_objectids(self, name):
            known = ["Gaia DR2 5", "Gaia DR3 4472832130942575872", "HIP 87937"]
            return Table({"id": known if name == "Barnard's star" else ["HIP 1"]})

    monkeypatch.setattr(names, "_simbad", lambda client: Simbad())
    monkeypatch.setattr(names, "position", lambda name, client: (269.45, 4.69))
    found = names.identify("Barnard's star", Client())
    assert found.ids == {"DR2": 5, "DR3": 4472832130942575872}
    joined = id_list.joined(id_list.Ids(dr3=(1,)), [found])
    assert joined.dr3 == (1, 4472832130942575872)
    assert joined.dr2 == ()
    with pytest.raises(NotFound, match="no Gaia id"):
        names.identify("Nobody", Client())


def test_offline_nothing_is_looked_up():
    for act in (names.position, names.identify):
        with pytest.raises(RemoteError, match="offline"):
            act("M 67", Client(offline=True))


def test_a_fetch_without_a_name_imports_no_astroquery():
    code = "import sys, mmclip.surveys.names, mmclip.cli.fetch; print('astroquery' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False"
