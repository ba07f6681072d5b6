"""Every kind of picture in the book. Each function takes data and returns matplotlib axes.

Importing this package imports matplotlib, so `lab_utils` does it only when a picture is asked for.
"""

from lab_utils.plots.backlog import plot_backlog
from lab_utils.plots.invocations import plot_concurrency, plot_invocations
from lab_utils.plots.lineage import plot_lineage
from lab_utils.plots.partitions import plot_partitions
from lab_utils.plots.pipeline import plot_pipeline
from lab_utils.plots.totals import plot_totals

__all__ = [
    "plot_backlog",
    "plot_concurrency",
    "plot_invocations",
    "plot_lineage",
    "plot_partitions",
    "plot_pipeline",
    "plot_totals",
]
