"""What a trained state is worth: numbers, figures and a report, for any `Model`.

Nothing here knows a model by name; a capability that a model lacks is left out, never guessed.
matplotlib and scikit-learn are imported by the functions that use them.
"""

from jaxae.evaluation.canvas import image_grid, value_range
from jaxae.evaluation.classifier import Classifier, train_classifier
from jaxae.evaluation.clusters import cluster_errors, max_confidence_label_map
from jaxae.evaluation.codes import encode_split, pixels_of
from jaxae.evaluation.figures import (
    draw_all,
    draw_daydream,
    draw_interpolations,
    draw_latent_scatter,
    draw_reconstructions,
    draw_restorations,
    draw_samples,
    draw_training_curves,
)
from jaxae.evaluation.frechet import frechet_distance, parzen_log_likelihood
from jaxae.evaluation.hamming import HashTable, ball_size, pack, rank
from jaxae.evaluation.likelihood import active_units, bounds, mean_over, summary
from jaxae.evaluation.passes import over_split
from jaxae.evaluation.probes import fit_linear_probe, knn_probe, linear_probe, probe_table
from jaxae.evaluation.report import (
    assess_run,
    combine_seeds,
    environment,
    flat_rows,
    write_html,
)
from jaxae.evaluation.retrieval import (
    counts_by_distance,
    draw_precision_recall,
    random_hyperplanes,
    retrieval_table,
)
from jaxae.evaluation.two_sample import two_sample_test

__all__ = [
    "Classifier",
    "HashTable",
    "active_units",
    "assess_run",
    "ball_size",
    "bounds",
    "cluster_errors",
    "combine_seeds",
    "counts_by_distance",
    "draw_all",
    "draw_daydream",
    "draw_interpolations",
    "draw_latent_scatter",
    "draw_precision_recall",
    "draw_reconstructions",
    "draw_restorations",
    "draw_samples",
    "draw_training_curves",
    "encode_split",
    "environment",
    "fit_linear_probe",
    "flat_rows",
    "frechet_distance",
    "image_grid",
    "knn_probe",
    "linear_probe",
    "max_confidence_label_map",
    "mean_over",
    "over_split",
    "pack",
    "parzen_log_likelihood",
    "pixels_of",
    "probe_table",
    "random_hyperplanes",
    "rank",
    "retrieval_table",
    "summary",
    "train_classifier",
    "two_sample_test",
    "value_range",
    "write_html",
]
