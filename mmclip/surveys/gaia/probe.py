"""What is assumed of Gaia's archive, compared with its answers about one star."""

from mmclip.surveys.client import tap
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import datalink, discovery
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Release
from mmclip.surveys.probe import Answer, Finding, find

STAR = 5_937_083_312_263_887_616  # of DR3, with an XP spectrum; others have their own numbers


def probe(release: Release, client: Client) -> list[Finding]:
    """One query, one spectrum, and for an assumed release its list of tables."""
    name, settings = release.survey, _settings.of(client, release.settings)
    found: list[Finding] = []
    if release.assumed:
        found.append(
            find(name, f"its tables lie in {settings.schema}", lambda: _schema(client, release))
        )
        return found
    query = f"SELECT TOP 1 g.source_id, g.has_xp_continuous FROM {release.source} AS g WHERE "

    def rows(condition: str) -> int:
        return int(tap.run(client, settings.tap, f"{query}{condition}").num_rows)

    def known() -> Answer:
        count = rows(f"g.source_id = {STAR}")
        return Answer(count == 1, f"{count} row of {release.source} for {STAR}")

    def true() -> Answer:
        other = "True" if settings.true == "t" else "t"
        if rows(f"g.source_id = {STAR} AND g.has_xp_continuous = '{settings.true}'"):
            return Answer(True, f"'{settings.true}' is understood")
        return Answer(False, f"'{settings.true}' finds nothing", "true", other)

    def structure() -> Answer:
        datalink.ask(client, release.products["xp"], [STAR], release, True)
        took = client.learned["data_structure"]
        return Answer(took == settings.data_structure, f"takes {took}", "data_structure", took)

    found.append(find(name, f"{settings.tap} answers queries", known))
    found.append(find(name, f"a true flag is written '{settings.true}'", true))
    words = f"DataLink takes DATA_STRUCTURE={settings.data_structure}"
    found.append(find(name, words, structure))
    return found


def _schema(client: Client, release: Release) -> Answer:
    wanted = _settings.of(client, release.settings).schema
    told = discovery.settle(client, release)
    schema = told.source.rpartition(".")[0]
    lacking = client.learned[release.survey]["lacking"]
    return Answer(
        schema == wanted, f"schema {schema}; {len(lacking)} assumed columns are absent", "schema",
        schema,
    )  # fmt: skip
