"""Answers on real stars: which catalogue classes are wrong, and which XP spectra are strange.

    python examples/answers.py misclassified VARIABLES WORKSPACE
    python examples/answers.py symbiotic SPECTRA [WORKSPACE]
    python examples/answers.py miles SPECTRA

VARIABLES holds css_southern/ and asas_acvs/ (Catalina and ASAS light curves), SPECTRA gaia_xp/ and
stellar_libraries/. The first needs vectors of the Catalina stars, made by

    mmclip import css_southern.parquet --as photometry --as metadata --id-column css_id --survey css --name css \
        --columns "metadata.v_css_mag=v_css_mag,metadata.v_amp_mag=v_amp_mag,metadata.period_d=period_d"
    mmclip preprocess --raw css --set photometry.length=100 --set metadata.columns=v_css_mag,v_amp_mag,period_d
    mmclip train && mmclip embed
"""  # noqa: E501

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mmclip import metrics
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import open_dataset
from mmclip.tasks.outliers import detectors, knn_distance
from mmclip.vectors.exact import ExactRows
from mmclip.vectors.store import Store, unit

# Catalogue classes that two surveys can agree on.
BROAD = {
    "eclipsing": ("EW_EB", "EA", "EW", "EB", "ECL"),
    "RR Lyrae": ("RRAB", "RRC", "RRD", "RRAB_BL"),
    "long period": ("LPV", "M"),
    "rotating": ("ROT", "ROT_ACV"),
    "delta Scuti": ("DSCT",),
    "Cepheid": ("ACEP", "T2CEP", "DCEP"),
}


def broad(name):
    """The broad class of a catalogue class, or the class itself."""
    return next((k for k, names in BROAD.items() if name in names), name)


def misclassified(variables, workspace, k=15):
    """Precision at k of stars whose neighbours are of another class; truth: ASAS disagrees."""
    space = Workspace(Path(workspace))
    store = Store(space.get("vectors"))
    data = open_dataset(space.parent(store.artifact, "data"), tuple(store.modalities))
    asas = pq.read_table(Path(variables) / "asas_acvs" / "asas_acvs.parquet",
                         columns=["asas_id", "class"])  # fmt: skip
    theirs = dict(zip(asas["asas_id"].to_pylist(), asas["class"].to_pylist(), strict=True))
    rows = {int(s): i for i, s in enumerate(data.source_id)}
    order = [rows[int(s)] for s in store.source_id]
    mine = np.array([broad(c) for c in data.objects["class"].to_pylist()], object)[order]
    other = np.array([theirs.get(a, "") for a in data.objects["asas_id"].to_pylist()])[order]
    shared = other != ""
    wrong = shared & (np.array([broad(c) for c in other], object) != mine)
    part = wrong[shared].mean()
    print(f"{shared.sum()} shared stars, {wrong.sum()} disagree ({part:.3f})")
    answers = []
    for view in [*store.modalities, "mean"]:
        cast = detectors.votes(store, data, view, mine, k)
        away = knn_distance(ExactRows(store.vectors(view), np.ones(len(mine), bool)), k)
        for name, score in (
            ("1 - votes for its class", 1 - cast.own),
            ("distance to neighbours", away),
        ):  # fmt: skip
            known = shared & np.isfinite(score)
            # Ties in random order, so that no order of the file helps.
            noise = np.random.default_rng(0).random(known.sum()) * 1e-9
            first = np.argsort(-(score[known] + noise))
            row = {"view": view, "score": name}
            for n in (10, 20, 50, int(wrong.sum())):
                row[f"precision@{n}"] = float(wrong[known][first[:n]].mean())
            row |= {"chance": float(part), "AUC": metrics.auc(wrong[known], score[known])}
            answers.append(row)
    return answers


def shapes(flux):
    """XP or other spectra divided by their median, then brought to unit length; bad pixels 0."""
    flux = np.asarray(flux, np.float64)
    with np.errstate(invalid="ignore"):
        return unit(np.nan_to_num(flux / np.nanmedian(flux, axis=1, keepdims=True)))


def symbiotic(spectra, workspace=None, k=10):
    """AUC of symbiotic stars (and planetary nebulae) among field stars, from XP spectra alone.

    Reference: half of the field stars; asked: the other half and the strange ones. With a
    workspace of `mmclip demo` the vectors of its run are used too.
    """
    folder = Path(spectra) / "gaia_xp"
    field = pq.read_table(folder / "xp_field_patch.parquet")
    odd = pq.read_table(folder / "xp_symbiotic_pn.parquet")
    flux = np.array(field["xp_sampled_flux"].to_pylist() + odd["xp_sampled_flux"].to_pylist())
    kind = np.array(["field"] * len(field) + odd["object_class"].to_pylist())
    reference = (kind == "field") & (np.random.default_rng(42).random(len(kind)) < 0.5)
    vectors = {"raw shape": shapes(flux)}
    if workspace:
        vectors["embedding"] = embedded(flux, workspace)
    answers = []
    for name, matrix in vectors.items():
        scores = {
            f"distance to {k} field stars": knn_distance(ExactRows(matrix, reference), k),
            "isolation forest": detectors.forest(matrix, reference),
        }
        for method, score in scores.items():
            for wanted in ("symbiotic", "planetary_nebula"):
                asked = ~reference & np.isin(kind, ["field", wanted]) & np.isfinite(score)
                answers.append(
                    {"vectors": name, "score": method, "strange": wanted,
                     "stars": int((kind[asked] == wanted).sum()),
                     "field": int((kind[asked] == "field").sum()),
                     "AUC": metrics.auc(kind[asked] == wanted, score[asked])}
                )  # fmt: skip
    return answers


def embedded(flux, workspace):
    """Vectors of XP spectra by the run of a workspace."""
    import pyarrow as pa

    from mmclip import arrays
    from mmclip.clip.run import open_run
    from mmclip.tasks.embed_new import embed_table

    space = Workspace(Path(workspace))
    store = Store(space.get("vectors"))
    run = open_run(space.parent(store.artifact, "run"))
    values = flux.astype(np.float32)
    made = pa.table({"flux": arrays.fixed(values), "flux_error": arrays.fixed(0.01 * abs(values))})
    return embed_table(run, made, "xp", space.parent(store.artifact, "data"))[0]


def miles(spectra, k=13):
    """Teff, log g and [Fe/H] of MILES stars from the k nearest other spectra, and by ridge.

    Five-fold, stars of one name on the same side; the spectra alone, with no training: one view
    cannot be aligned with anything.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    from mmclip.vectors.index import build

    table = pq.read_table(Path(spectra) / "stellar_libraries" / "miles.parquet")
    flux = shapes(table["flux"].to_pylist())
    names = np.array(table["star_key"].to_pylist())
    answers = []
    for target in ("teff", "logg", "feh"):
        truth = np.array(table[target].to_pylist(), float)
        truth = np.log10(truth) if target == "teff" else truth
        known = np.flatnonzero(np.isfinite(truth))
        guess = {"k-NN": np.full(len(known), np.nan), "ridge": np.full(len(known), np.nan)}
        for train, test in GroupKFold(5).split(known, groups=names[known]):
            a, b = known[train], known[test]
            found = build(np.ascontiguousarray(flux[a])).search(flux[b], k)[1]
            guess["k-NN"][test] = truth[a][found].mean(axis=1)
            ridge = RidgeCV(np.logspace(-5, 2, 8)).fit(flux[a], truth[a])
            guess["ridge"][test] = ridge.predict(flux[b])
        for method, predicted in guess.items():
            name = "log10 Teff" if target == "teff" else target
            answers.append({"target": name, "method": method,
                            **metrics.scores(truth[known], predicted)})  # fmt: skip
    return answers


if __name__ == "__main__":
    tasks = {"misclassified": misclassified, "symbiotic": symbiotic, "miles": miles}
    for answer in tasks[sys.argv[1]](*sys.argv[2:]):
        print(", ".join(f"{n} {v:.4g}" if isinstance(v, float) else f"{n} {v}"
                        for n, v in answer.items()))  # fmt: skip
