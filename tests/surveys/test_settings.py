"""The settings file: `[fetch]` for the client, one table a survey."""

import pytest

from mmclip import plugins
from mmclip.errors import UsageError
from mmclip.surveys import desi, lamost, settings
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia.settings import Settings as Gaia

# Where each key of the one flat table of version 0.1 is now.
MOVED = {
    "gaia_tap": ("gaia-dr3", "tap"), "gaia_data": ("gaia-dr3", "data"),
    "gaia_bulk": ("gaia-dr3", "bulk"), "data_structure": ("gaia-dr3", "data_structure"),
    "datalink_format": ("gaia-dr3", "format"), "chunk": ("gaia-dr3", "chunk"),
    "chunk_smallest": ("gaia-dr3", "chunk_smallest"), "gaia_true": ("gaia-dr3", "true"),
    "asassn_catalogue_v": ("asassn", "catalogue_v"), "asassn_curve": ("asassn", "curve"),
    "asassn_archive_g": ("asassn", "archive_g"), "asassn_key": ("asassn", "key"),
    "skypatrol": ("asassn", "skypatrol"), "skypatrol_block": ("asassn", "skypatrol_block"),
    "skypatrol_id": ("asassn", "skypatrol_id"), "asassn_heliocentric": ("asassn", "heliocentric"),
    "lamost_catalogue": ("lamost", "catalogue"), "lamost_url": ("lamost", "url"),
    "lamost_spectrum": ("lamost", "spectrum"), "lamost_id_release": ("lamost", "id_release"),
    "desi_catalogue": ("desi", "catalogue"), "desi_url": ("desi", "url"),
    "desi_via": ("desi", "via"), "sparcl": ("desi", "sparcl"),
    "sparcl_chunk": ("desi", "sparcl_chunk"), "desi_redshifts": ("desi-galaxies", "redshifts"),
    "desi_spectype": ("desi-galaxies", "spectype"),
    "provabgs_catalogue": ("provabgs", "catalogue"), "provabgs_cut": ("provabgs", "cut"),
    "legacy_cutout": ("legacy", "cutout"), "legacy_catalogue": ("legacy", "catalogue"),
    "legacy_size": ("legacy", "size"), "legacy_pixscale": ("legacy", "pixscale"),
    "legacy_bands": ("legacy", "bands"), "legacy_covered": ("legacy", "covered"),
    "apogee_catalogue": ("apogee", "catalogue"),
}  # fmt: skip


def written(tmp_path, text):
    path = tmp_path / "c.toml"
    path.write_text(text)
    return path


def test_each_survey_reads_its_own_table(tmp_path):
    text = '[fetch]\ntries = 2\n[gaia-dr3]\nchunk = 7\n[lamost]\nurl = "http://x"\n[train]\nk = 1\n'
    ours, own = settings.read(written(tmp_path, text))
    client = Client(settings=ours, own=own)
    assert client.settings.tries == 2
    assert client.of(Gaia).chunk == 7
    assert client.of(lamost.Settings).url == "http://x"
    assert client.of(desi.Settings) == desi.Settings()


@pytest.mark.parametrize("key", MOVED)
def test_a_key_of_the_old_flat_table_is_refused_with_its_new_place(tmp_path, key):
    table, field = MOVED[key]
    with pytest.raises(UsageError) as caught:
        settings.read(written(tmp_path, f"[fetch]\n{key} = 1\n"))
    assert f"it is {field} of [{table}]" in str(caught.value)
    assert f"[{table}]\n{field} = ..." in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [("[gaia-dr33]\nchunk = 7\n", "there is no survey"), ("[lamost]\nurll = 'x'\n", "'url'"),
     ("[demo]\nx = 1\n", "no settings"), ("[fetch]\ntires = 3\n", "did you mean 'tries'")],
)  # fmt: skip
def test_what_is_no_setting_is_named(tmp_path, text, says):
    with pytest.raises(UsageError, match=says):
        settings.read(written(tmp_path, text))


@pytest.mark.parametrize("name", plugins.names("surveys"))
def test_settings_of_a_survey_are_frozen_and_have_defaults(name):
    kind = plugins.load("surveys", name, "SURVEY").settings
    if kind is not None:
        made = kind()
        with pytest.raises(AttributeError):
            setattr(made, next(iter(vars(made))), "x")
