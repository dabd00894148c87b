"""`mmclip fetch`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from mmclip.cli.options import Config, Force, Name, Where

if TYPE_CHECKING:
    from mmclip.artifacts import Artifact
    from mmclip.surveys import Request, Survey
    from mmclip.surveys.client.http import Client


def command(
    survey: Annotated[
        list[str],
        Option(help="A survey, or SURVEY:RELEASE (docs/surveys lists them); repeatable."),
    ],
    ids: Annotated[
        Path | None, Option(help="Source ids: text, any astropy table, or - for stdin.")
    ] = None,
    query_name: Annotated[
        list[str] | None, Option("--query-name", help="A star's name (SIMBAD); repeatable.")
    ] = None,
    cone: Annotated[
        str | None, Option(help='RA,DEC,RADIUS in deg, or a name: "M 67, 0.5".')
    ] = None,
    healpix: Annotated[str | None, Option(help="ORDER:PIXEL[,PIXEL...], nested.")] = None,
    adql: Annotated[str | None, Option(help="A query (or a file) that returns source_id.")] = None,
    sample: Annotated[int | None, Option(min=1, help="A random sample of this many.")] = None,
    where: Annotated[str | None, Option(help='Cuts: "ruwe < 1.4 and parallax > 1".')] = None,
    products: Annotated[
        str | None, Option(help="xp,sampled,rvs,labels,astrometry,2mass,wise,lightcurve-v,...")
    ] = None,
    find: Annotated[str, Option(help="Of several rows of a star: best or all.")] = "best",
    join: Annotated[str, Option(help="Stars that stay: 1and2, all1 or 1not2.")] = "1and2",
    choose: Annotated[
        str | None, Option(help="Best by: snr, first, last, random or nearest.")
    ] = None,
    bulk: Annotated[bool, Option("--bulk", help="Spectra from the bulk files.")] = False,
    hats: Annotated[bool, Option("--hats", help="Also write the tables as HATS.")] = False,
    modelled_rvs: Annotated[
        bool, Option("--modelled-rvs", help="Add the MODELLED RVS view, where there is one.")
    ] = False,
    seed: Annotated[int, Option(min=0, max=2**32 - 1, help="Seed of the sample.")] = 42,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print queries, rows and bytes to expect; fetch nothing.")
    ] = False,
    retry_missing: Annotated[
        bool, Option("--retry-missing", help="Ask again for what the artefact lacks.")
    ] = False,
    offline: Annotated[bool, Option("--offline", help="Use only the cache.")] = False,
    name: Name = None,
    force: Force = False,
    config: Config = None,
    workspace: Where = None,
) -> "list[Artifact]":
    """Fetch views of stars from surveys into Parquet."""
    from dataclasses import replace

    from mmclip import plugins
    from mmclip.cli import output
    from mmclip.errors import UsageError, nearest
    from mmclip.surveys import FIND, JOIN, Request, id_list, names
    from mmclip.surveys import settings as settings_
    from mmclip.surveys.client.http import Client

    if name is not None and len(survey) > 1:
        raise UsageError("--name fits one --survey only", "leave --name out")
    for option, value, words in (("find", find, FIND), ("join", join, JOIN)):
        if value not in words:
            raise UsageError(f"--{option} '{value}': {nearest(value, list(words))}", "")
    listed = id_list.read(ids)
    if listed.repeated:
        output.say(f"{listed.repeated} ids were given more than once; each is asked for once")
    settings, own_settings = settings_.read(config)

    def client() -> Client:
        return Client(settings=settings, own=own_settings, offline=offline, say=output.say)

    if query_name:
        listed = id_list.joined(listed, [names.identify(n, client()) for n in query_name])
    request = Request(
        sample=sample, cone=read_cone(cone, client()), adql=read_adql(adql),
        modelled_rvs=modelled_rvs, seed=seed, healpix=read_healpix(healpix),
        where=where, products=read_products(products), find=find, join=join,
        choose=choose or "", bulk=bulk,
    )  # fmt: skip
    request = listed.given(request, "DR3")
    one_selection(request)
    chosen = [(plugins.load("surveys", s.partition(":")[0], "SURVEY"), s) for s in survey]
    known = sorted({p for it, _ in chosen for p in it.products})
    for product in request.products:
        if product not in known:
            raise UsageError(
                f"--products: none of these surveys has '{product}'; {nearest(product, known)}",
                f"known: {', '.join(known) or 'none'}",
            )
    failures = []
    for it, written in chosen:
        mine = tuple(p for p in request.products if p in it.products)
        own = replace(request, products=mine, release=written.partition(":")[2])
        if it.ids != "DR3" and not request.follows:
            own = listed.given(own, it.ids)
        elif it.ids != "DR3":
            own = replace(own, ids=request.dr4_ids, dr3_ids=request.ids, dr4_ids=())
        if dry_run:
            announce(it, own, client())
            continue
        artifact = gather(it, own, client(), name, force, retry_missing, hats, workspace)
        failures.append(artifact)
        if not request.follows and len(chosen) > 1:
            request = following(request, it, artifact)
    if dry_run:
        return []
    output.say("next: mmclip preprocess")
    from mmclip.datasets import ingest

    for artifact in failures:
        ingest.complain(artifact)
    return failures


def gather(
    it: "Survey", request: "Request", client: "Client", name: str | None, force: bool,
    retry: bool, hats: bool, workspace: Path | None,
) -> "Artifact":  # fmt: skip
    """Fetch from one survey and say what came."""
    import re

    from mmclip import artifacts
    from mmclip.cli import output
    from mmclip.datasets import ingest

    artifacts.sweep(client.cache / "index")
    label = f"{it.name}-{request.release}" if request.release else it.name
    place = output.workspace(workspace).place("raw", name or re.sub(r"[^\w-]+", "-", label))
    artifact = ingest.collect(it, request, place, force, client, retry, hats)
    rows = artifact.manifest.rows
    output.modelled(artifact.manifest.provenance)
    views = ", ".join(f"{rows[v]} {v}" for v in artifact.manifest.provenance if v in rows)
    output.say(f"{artifact.path}: {rows['objects']} objects ({views})")
    for key in ("unmatched", "ambiguous", "repeated_rows_dropped"):
        if artifact.manifest.notes.get(key):
            output.say(f"  {key.replace('_', ' ')}: {artifact.manifest.notes[key]}")
    if rows.get("absent"):
        output.say(f"  {rows['absent']} observations do not exist (listed in ledger.parquet)")
    for view, n in artifact.manifest.notes.get("balance", {}).items():
        parts = " + ".join(f"{n[k]} {k}" for k in ingest.BALANCE)
        output.say(f"  {view}: {n['requested']} requested = {parts}")
    return artifact


def following(request: "Request", it: "Survey", artifact: "Artifact") -> "Request":
    """The first survey selects; the others are asked for the same stars."""
    from dataclasses import replace

    from mmclip.datasets import ingest

    objects = ingest.read_view(artifact, "objects")
    ids = tuple(objects["source_id"].to_pylist())
    ra, dec, target = (
        objects[n].to_pylist() if n in objects.column_names else [None] * len(ids)
        for n in ("ra", "dec", "targetid")
    )
    known = tuple(
        (i, a, d, t or 0) for i, a, d, t in zip(ids, ra, dec, target, strict=True)
        if a is not None and d is not None
    )  # fmt: skip
    later = it.ids == "DR4"
    return replace(
        request, ids=() if later else ids, dr4_ids=ids if later else (), dr2_ids=(), dr3_ids=(),
        cone=None, healpix=None, adql=None, sample=None, where=None, follows=it.name, known=known,
    )  # fmt: skip


def announce(it: "Survey", request: "Request", client: "Client") -> None:
    """What would be asked of a survey, and what to expect."""
    from mmclip.errors import visible

    if it.outline is None:
        print(f"{it.title}: read locally, no query")
        return
    plan = it.outline(request, client)
    print(visible("\n\n".join(plan.queries)))
    about = "" if plan.exact else "about "
    rows = "unknown until asked" if plan.rows is None else f"{about}{plan.rows:,}"
    size = "unknown" if plan.bytes is None else f"{about}{plan.bytes / 1e6:,.1f} MB"
    print(f"\n-- {it.name}: rows to expect: {rows}; bytes: {size}")


def one_selection(request: "Request") -> None:
    """Refuse two selections that exclude each other.

    Raises:
        UsageError: Naming both.
    """
    from mmclip.errors import UsageError

    ids = request.ids or request.dr2_ids or request.dr3_ids or request.dr4_ids
    listed = [n for n, given in (("ids", ids), ("adql", request.adql)) if given]
    cuts = [n for n in ("cone", "healpix", "sample", "where") if getattr(request, n)]
    if len(listed) > 1 or (listed and cuts):
        both = " and ".join(f"--{n}" for n in [*listed, *cuts])
        raise UsageError(f"{both} cannot be combined", "give a list, a query, or cuts")


def read_ids(path: Path | None) -> tuple[int, ...]:
    """DR3 source_ids of a file or of standard input (`-`); order kept, repeats dropped.

    Raises:
        UsageError: If one is no DR3 id.
    """
    from mmclip.surveys import id_list, parse_source_id

    found = id_list.read(path)
    if found.dr2:
        parse_source_id(f"Gaia DR2 {found.dr2[0]}")
    return found.dr3


def read_products(text: str | None) -> tuple[str, ...]:
    """`xp,rvs` as names; repeats dropped."""
    return tuple(dict.fromkeys(p.strip() for p in (text or "").split(",") if p.strip()))


def read_cone(
    text: str | None, client: "Client | None" = None
) -> tuple[float, float, float] | None:
    """`RA,DEC,RADIUS` in deg as three numbers; `NAME, RADIUS` by the name's position.

    Raises:
        UsageError: If it is not three finite numbers in range, or a name and a radius.
        NotFound, RemoteError: If the name is not known, or Sesame does not answer.
    """
    from mmclip.errors import UsageError
    from mmclip.surveys import names

    if text is None:
        return None
    try:
        ra, dec, radius = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        name, _, last = text.rpartition(",")
        try:
            radius = float(last)
        except ValueError:
            name = ""
        if client is None or not any(c.isalpha() for c in name):
            raise UsageError(
                f"--cone '{text}' is not RA,DEC,RADIUS", '--cone 56.75,24.12,2 or "M 67, 0.5"'
            ) from None
        ra, dec = names.position(name.strip(), client)
    if not (0 <= ra < 360 and -90 <= dec <= 90 and 0 < radius <= 180):
        raise UsageError(f"--cone '{text}' is outside the sky", "RA 0..360, Dec -90..90, deg")
    return ra, dec, radius


def read_healpix(text: str | None) -> tuple[int, tuple[int, ...]] | None:
    """`ORDER:PIXEL[,PIXEL...]` as numbers; order 0 to 12, nested.

    Raises:
        UsageError: If it is not that, or a pixel is not of that order.
    """
    import re

    from mmclip.errors import UsageError

    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d{1,2}):(\d+(?:,\d+)*)\s*", text, re.ASCII)
    if match is None:
        raise UsageError(f"--healpix '{text}' is not ORDER:PIXEL[,PIXEL...]", "--healpix 4:100")
    order, pixels = int(match[1]), tuple(sorted({int(p) for p in match[2].split(",")}))
    if order > 12 or pixels[-1] >= 12 * 4**order:
        raise UsageError(
            f"--healpix '{text}': order {order} has pixels 0 to {12 * 4**order - 1}"
            if order <= 12
            else f"--healpix '{text}': the order is 0 to 12",
            "--healpix 4:100",
        )
    return order, pixels


def read_adql(text: str | None) -> str | None:
    """A query as typed, or the content of the file of that name."""
    from mmclip.errors import UsageError

    if text is None or text.strip().lower().startswith("select"):
        return text
    if len(text) < 4000 and "\n" not in text and Path(text).is_file():
        return Path(text).read_text(errors="replace").strip()
    raise UsageError(
        f"--adql '{text[:60]}' is neither a SELECT nor a file", "see docs/commands/fetch.md"
    )
