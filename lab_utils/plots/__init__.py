"""Every kind of picture in the book. Each function takes data and returns matplotlib axes.

Importing this package imports matplotlib, so `lab_utils` does it only when a picture is asked for.
"""

from lab_utils.plots.backlog import plot_backlog
from lab_utils.plots.batch_sizes import plot_batch_sizes
from lab_utils.plots.bisections import plot_bisections
from lab_utils.plots.comparison import plot_comparison
from lab_utils.plots.costs import plot_costs, plot_limits
from lab_utils.plots.invocations import plot_concurrency, plot_instances, plot_invocations
from lab_utils.plots.iterator_age import plot_iterator_age
from lab_utils.plots.lineage import plot_lineage
from lab_utils.plots.partitions import plot_partitions
from lab_utils.plots.pipeline import plot_pipeline
from lab_utils.plots.recordings import plot_recording, plot_recordings
from lab_utils.plots.totals import plot_totals

__all__ = [
    "plot_backlog",
    "plot_batch_sizes",
    "plot_bisections",
    "plot_comparison",
    "plot_concurrency",
    "plot_costs",
    "plot_instances",
    "plot_invocations",
    "plot_iterator_age",
    "plot_limits",
    "plot_lineage",
    "plot_partitions",
    "plot_pipeline",
    "plot_recording",
    "plot_recordings",
    "plot_totals",
]
