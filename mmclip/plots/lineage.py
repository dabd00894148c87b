"""The lineage of an artefact as boxes and arrows."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from mmclip.plots.style import COLOURS, GREY, new_figure


def lineage_figure(
    boxes: Sequence[tuple[str, str, int]], arrows: Sequence[tuple[int, int]], title: str = ""
) -> Figure:
    """Artefacts as boxes in columns, the answer at the left and the sky at the right.

    Args:
        boxes: (heading, text, column) of each.
        arrows: (child, parent) as places in `boxes`; an arrow points from parent to child.
        title: Heading; may be empty.
    """
    columns = max((column for _, _, column in boxes), default=0) + 1
    fullest = max(sum(c == column for _, _, c in boxes) for column in range(columns))
    figure = new_figure(2.6 * columns, 1.5 + 1.3 * fullest)
    axes = figure.subplots()
    places: list[tuple[float, float]] = []
    for index, (heading, text, column) in enumerate(boxes):
        peers = [i for i, box in enumerate(boxes) if box[2] == column]
        y = (len(peers) - 1) / 2 - peers.index(index)
        places.append((float(column), y))
        axes.text(
            column, y, f"{heading}\n{text}", ha="center", va="center", fontsize=9,
            linespacing=1.5,
            bbox={"boxstyle": "round,pad=0.6", "facecolor": "#eef3f8", "edgecolor": COLOURS[0]},
        )  # fmt: skip
    for child, parent in arrows:
        # An arrow over more than one column goes round the boxes between.
        bend = 0.0 if boxes[parent][2] - boxes[child][2] <= 1 else 0.28
        axes.annotate(
            "", xy=places[child], xytext=places[parent], zorder=0,
            arrowprops={
                "arrowstyle": "-|>", "color": GREY, "shrinkA": 66, "shrinkB": 66,
                "connectionstyle": f"arc3,rad={bend}",
            },
        )  # fmt: skip
    axes.set(xlim=(-0.6, columns - 0.4), ylim=(-fullest / 2 - 0.2, fullest / 2 + 0.2))
    axes.set_axis_off()
    if title:
        axes.set_title(title, loc="left", fontsize=12)
    return figure
