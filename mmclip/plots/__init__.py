"""Tables -> figures: colour-blind safe, labelled with units, no window ever opened."""

from matplotlib.figure import Figure

from mmclip.plots.answers import answers_figure, rows_figure, strips_figure
from mmclip.plots.clusters import clusters_figure, grouped_figure
from mmclip.plots.curves import curves_figure, groups_figure, mean_curves_figure
from mmclip.plots.first_look import Look, first_look_figure
from mmclip.plots.generated import generated_figure, generated_spectrum_figure
from mmclip.plots.lineage import lineage_figure
from mmclip.plots.maps import (
    MapPanel,
    class_map_figure,
    column_map_figure,
    map_figure,
    map_panels_figure,
)
from mmclip.plots.networks import landscape_figure
from mmclip.plots.objects import (
    Scatter,
    dossier_figure,
    portraits_figure,
)
from mmclip.plots.scores import (
    calibration_figure,
    classifier_figures,
    confusion_figure,
    knn_figure,
    prediction_figure,
    recall_figure,
    reliability_figure,
)
from mmclip.plots.spectra import (
    LINES,
    overlay_figure,
    spectra_figure,
)
from mmclip.plots.style import COLOURS, GREY, png_bytes, ramp, save
from mmclip.plots.transfer import one_to_one_figure, plane_figure, scan_figure, scans_figure

__all__ = [
    "COLOURS",
    "GREY",
    "LINES",
    "Figure",
    "Look",
    "MapPanel",
    "Scatter",
    "answers_figure",
    "calibration_figure",
    "class_map_figure",
    "classifier_figures",
    "clusters_figure",
    "column_map_figure",
    "confusion_figure",
    "curves_figure",
    "dossier_figure",
    "first_look_figure",
    "generated_figure",
    "generated_spectrum_figure",
    "grouped_figure",
    "groups_figure",
    "knn_figure",
    "landscape_figure",
    "lineage_figure",
    "map_figure",
    "map_panels_figure",
    "mean_curves_figure",
    "one_to_one_figure",
    "overlay_figure",
    "plane_figure",
    "png_bytes",
    "portraits_figure",
    "prediction_figure",
    "ramp",
    "recall_figure",
    "reliability_figure",
    "rows_figure",
    "save",
    "scan_figure",
    "scans_figure",
    "spectra_figure",
    "strips_figure",
]
