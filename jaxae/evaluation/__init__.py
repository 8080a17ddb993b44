"""Evaluation of a trained state: numbers, figures and a report, for any `Model`.

No model is known by name; what needs a capability that a model lacks is left out. matplotlib and
scikit-learn are imported by the functions that use them.
"""

from jaxae.evaluation.canvas import image_grid, value_range
from jaxae.evaluation.classifier import Classifier, train_classifier
from jaxae.evaluation.clusters import (
    cluster_errors,
    majority_accuracy,
    max_confidence_label_map,
)
from jaxae.evaluation.codes import encode_split, images_of, pixels_of
from jaxae.evaluation.copies import nearest_training_image
from jaxae.evaluation.coverage import mode_coverage
from jaxae.evaluation.features import (
    BIT_FEATURES,
    FEATURES,
    Features,
    features_of,
    load_features,
)
from jaxae.evaluation.fidelity import fidelity_table
from jaxae.evaluation.figures import (
    draw_all,
    draw_daydream,
    draw_interpolations,
    draw_mixtures,
    draw_reconstructions,
    draw_restorations,
    draw_samples,
)
from jaxae.evaluation.frechet import frechet_distance, parzen_log_likelihood
from jaxae.evaluation.hamming import HashTable, ball_size, pack, rank
from jaxae.evaluation.interpolation import (
    interpolate,
    line_scores,
    score_interpolations,
    summarise,
)
from jaxae.evaluation.kinds import bits_offset, comparable
from jaxae.evaluation.kmeans import (
    kmeans_accuracy,
    kmeans_scores,
    kmeans_table,
    matched_accuracy,
    normalised_mutual_information,
    whiten,
)
from jaxae.evaluation.likelihood import (
    active_units,
    bounds,
    log_likelihoods,
    mean_over,
    summary,
)
from jaxae.evaluation.manifolds import precision_and_recall
from jaxae.evaluation.passes import over_split
from jaxae.evaluation.path_length import perceptual_path_length
from jaxae.evaluation.plots import draw_latent_scatter, draw_training_curves
from jaxae.evaluation.probes import fit_linear_probe, knn_probe, linear_probe, probe_table
from jaxae.evaluation.reconstruction import reconstruction
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
from jaxae.evaluation.two_sample import classifier_test, mmd_test, two_sample_test

__all__ = [
    "BIT_FEATURES",
    "FEATURES",
    "Classifier",
    "Features",
    "HashTable",
    "active_units",
    "assess_run",
    "ball_size",
    "bits_offset",
    "bounds",
    "classifier_test",
    "cluster_errors",
    "combine_seeds",
    "comparable",
    "counts_by_distance",
    "draw_all",
    "draw_daydream",
    "draw_interpolations",
    "draw_latent_scatter",
    "draw_mixtures",
    "draw_precision_recall",
    "draw_reconstructions",
    "draw_restorations",
    "draw_samples",
    "draw_training_curves",
    "encode_split",
    "environment",
    "features_of",
    "fidelity_table",
    "fit_linear_probe",
    "flat_rows",
    "frechet_distance",
    "image_grid",
    "images_of",
    "interpolate",
    "kmeans_accuracy",
    "kmeans_scores",
    "kmeans_table",
    "knn_probe",
    "line_scores",
    "linear_probe",
    "load_features",
    "log_likelihoods",
    "majority_accuracy",
    "matched_accuracy",
    "max_confidence_label_map",
    "mean_over",
    "mmd_test",
    "mode_coverage",
    "nearest_training_image",
    "normalised_mutual_information",
    "over_split",
    "pack",
    "parzen_log_likelihood",
    "perceptual_path_length",
    "pixels_of",
    "precision_and_recall",
    "probe_table",
    "random_hyperplanes",
    "rank",
    "reconstruction",
    "retrieval_table",
    "score_interpolations",
    "summarise",
    "summary",
    "train_classifier",
    "two_sample_test",
    "value_range",
    "whiten",
    "write_html",
]
