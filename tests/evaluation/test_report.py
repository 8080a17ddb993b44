"""Results as JSON, tables and a page."""

import base64
import json
import math
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import cdist

from jaxae.data import from_arrays, load
from jaxae.evaluation import (
    assess_run,
    combine_seeds,
    draw_all,
    environment,
    flat_rows,
    write_html,
)
from jaxae.evaluation.report import jsonable
from jaxae.training.state import Model


def assess(linear, model, **options):
    return assess_run(
        model, linear.poor, linear.exact, linear.data,
        rng=jax.random.key(0), batch_size=23, iwae_samples=4, **options,
    )  # fmt: skip


def test_a_run_is_assessed_by_all_it_can_do(linear):
    found = assess(linear, linear.model)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = ["data", "test", "likelihood", "probes", "clusters", "codes_vs_prior"]
    assert list(found) == [*names, "reconstruction", "fidelity", "whole_set"]
    assert found["data"]["binarise"] == "none"
    assert found["likelihood"]["rate_nats"] == found["test"]["rate"]
    assert found["likelihood"]["images"] == 23
    assert "active_units" not in found["likelihood"]  # it has no `posterior`
    assert found["probes"]["codes"]["linear_accuracy"] > 0.6
    assert found["clusters"]["accuracy"] > 0.5
    assert found["reconstruction"]["images"] == 23
    assert (found["fidelity"]["of"], found["fidelity"]["images"]) == ("mean", 23)
    assert found["whole_set"] == {"images_seen": 23}
    assert found == assess(linear, linear.model)


def test_other_names_of_the_classes_change_no_number(linear):
    train, test = linear.data.train, linear.data.test
    of_bits = lambda state, x, rng: jax.numpy.float32(x[:, 0, :, 0] > 0.5)
    bits = linear.model._replace(encode=of_bits, prior=None)  # has a table of retrieval too
    for model in (linear.model, bits):
        for names in ((0, 1), (5, 6), (9, 4), (100_000, 3)):
            labels = [np.array(names)[split.labels] for split in (train, test)]
            data = from_arrays(train.arrays["image"], labels[0], test.arrays["image"], labels[1])
            found = assess(linear._replace(data=data), model, images=0)
            assert found["data"].pop("class_names") == [str(name) for name in sorted(names)]
            if names == (0, 1):
                wanted = found
            assert found == wanted
    assert "retrieval" in wanted


def test_active_units_are_of_posterior_means_under_a_prior(linear):
    """The threshold is of codes whose scale a prior sets: not of VQ-VAE's or NVAE's `encode`."""
    model = linear.model._replace(posterior=linear.model.encode)
    few = {"images": 0, "limit": 9}
    assert assess(linear, model, **few)["likelihood"]["active_units"] == 2
    assert "active_units" not in assess(linear, model._replace(prior=None), **few)["likelihood"]


def test_what_a_model_lacks_is_left_out(linear):
    bare = linear.model._replace(log_weight=None, assess=None, encode=None)
    found = assess(linear, bare, limit=9, probe_data=linear.data)
    assert list(found) == ["data", "test", "probes", "fidelity"]
    assert found["probes"]["codes"] is None
    assert found["probes"]["test_examples"] == 9
    assert found["probes"]["data"]["name"] == "arrays"


def test_error_of_a_model_that_predicts_labels(linear):
    """It says that the first pixel decides; its error is counted by hand."""
    first = lambda state, x, rng: jax.numpy.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], 1)
    found = assess(linear, linear.model._replace(predict=first))["prediction"]
    wrong = (linear.data.test.arrays["image"][:, 0, 0, 0] > 0.5) != linear.data.test.labels
    assert 0 < wrong.sum() < 23
    assert found["error"] == pytest.approx(wrong.mean())
    assert found["error_se"] == pytest.approx(math.sqrt(wrong.var() / 22))


def test_clusters_as_many_as_classes_are_named_first(linear):
    """Two clusters in either order: what `error` says of them is chance, the rest is not."""
    first = lambda state, x, rng: jax.numpy.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], 1)
    other = lambda *args: first(*args)[:, ::-1]
    one, two = (assess(linear, linear.model._replace(predict=predict), images=0)["prediction"]
                for predict in (first, other))  # fmt: skip
    assert one.pop("error") + two.pop("error") == pytest.approx(1)
    assert one == pytest.approx(two)
    train, test = linear.data.train, linear.data.test
    above = [split.arrays["image"][:, 0, 0, 0] > 0.5 for split in (train, test)]
    votes = np.array([np.bincount(train.labels[above[0] == side]).argmax() for side in (0, 1)])
    wrong = np.mean(votes[above[1].astype(int)] != test.labels)
    assert one["majority_error"] == pytest.approx(wrong)
    assert one["clusters_used"] == 2


def test_error_of_a_model_that_finds_clusters(linear):
    """Three clusters of two classes, of which the third is never used."""
    first = lambda state, x, rng: jax.numpy.stack(
        [0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5, jax.numpy.full(len(x), -9.0)], 1
    )
    found = assess(linear, linear.model._replace(predict=first))["prediction"]
    reads = [
        (split.arrays["image"][:, 0, 0, 0].astype(np.float64), np.asarray(split.labels))
        for split in (linear.data.train, linear.data.test)
    ]
    (pixels, labels), (test_pixels, test_labels) = reads
    names = np.array([labels[pixels.argmin()], labels[pixels.argmax()]])
    above = (test_pixels > 0.5).astype(int)
    assert found["max_confidence_error"] == pytest.approx(np.mean(names[above] != test_labels))
    votes = np.array([np.bincount(labels[(pixels > 0.5) == side]).argmax() for side in (0, 1)])
    assert found["majority_error"] == pytest.approx(np.mean(votes[above] != test_labels))
    assert found["clusters_used"] == 2


def test_prediction_needs_labels(linear):
    images = linear.data.test.arrays["image"]
    bare = linear._replace(data=from_arrays(images, None, images, None))
    zero = lambda state, x, rng: jax.numpy.zeros((len(x), 2))
    assert "prediction" not in assess(bare, linear.model._replace(predict=zero))


def test_codes_that_follow_the_prior_and_codes_that_do_not(linear):
    """One prior is made of the test codes themselves, the other of codes that stand elsewhere."""
    images = linear.data.test.arrays["image"]
    codes = np.asarray(linear.model.encode(linear.poor, images, jax.random.key(0)))
    passing = linear.model._replace(prior=lambda rng, n: codes[::-1][:n])
    moved = linear.model._replace(prior=lambda rng, n: codes[:n] + 3)
    same = assess(linear, passing)["codes_vs_prior"]
    assert list(same) == ["energy", "mmd", "classifier"]
    assert same["energy"] == {"statistic": 0.0, "p_value": 1.0}
    assert same["mmd"]["statistic"] <= 0
    found = assess(linear, moved, images=0)
    assert "reconstruction" not in found
    found = found["codes_vs_prior"]
    assert found["energy"]["p_value"] == found["mmd"]["p_value"] == pytest.approx(1 / 201)
    assert found["energy"]["statistic"] == pytest.approx(
        2 * cdist(codes, codes + 3).mean() - 2 * cdist(codes, codes).mean(), rel=1e-4
    )
    assert found["classifier"]["p_value"] < 0.01


def test_draws_of_the_posterior_stand_for_the_codes(linear):
    """`encode` is far from the prior, `posterior` gives the prior's own points."""
    draw = lambda state, x, rng: jax.numpy.repeat(x.sum(axis=(1, 2, 3))[:, None], 2, axis=1)
    images = linear.data.test.arrays["image"]
    sums = np.asarray(draw(None, images, None))
    model = linear.model._replace(encode=lambda *args: 9 + draw(*args), posterior=draw)
    model = model._replace(prior=lambda rng, n: sums[:n])
    assert assess(linear, model, images=0)["codes_vs_prior"]["energy"]["p_value"] == 1
    found = assess(linear, model._replace(posterior=None), images=0)["codes_vs_prior"]
    assert found["energy"]["p_value"] < 0.01


def test_samples_of_known_data_are_compared_with_its_test_images():
    """The sampler is the same noise for all; the images are few because `limit` says so."""
    data = load("digits")
    model = Model(
        init=None, step=None, evaluate=lambda state, batch, rng: {"loss": batch["index"]},
        sample=lambda state, rng, n: jax.random.uniform(rng, (n, 8, 8, 1)),
    )  # fmt: skip
    found = assess_run(
        model, None, None, data, rng=jax.random.key(0), batch_size=90, iwae_samples=1, limit=50,
        probe_train_limit=100,
    )  # fmt: skip
    assert found["fidelity"]["images"] == 50
    assert found["fidelity"]["samples"]["Frechet distance (digits-features-v1)"] > 1
    assert "reconstruction" not in found


def test_seeds_combined_by_hand():
    one = {"a": {"x": 1.0, "n": 10}, "label": "s", "none": None, "some": 2.0, "ok": True}
    two = {"a": {"x": 2.0, "n": 10}, "label": "s", "none": None, "some": None, "ok": True}
    six = {"a": {"x": 6.0, "n": 10}, "label": "t", "none": None, "some": 4.0, "ok": False}
    found = combine_seeds([one, two, six])
    # Mean 3, squares 4 + 1 + 9 = 14, variance 7, error sqrt(7 / 3).
    expected = {"mean": 3.0, "se": pytest.approx(math.sqrt(7 / 3)), "values": [1.0, 2.0, 6.0]}
    assert found["a"]["x"] == expected
    assert found["a"]["n"] == {"mean": 10.0, "se": 0.0, "values": [10, 10, 10]}
    assert found["some"] == {"mean": None, "se": None, "values": [2.0, None, 4.0]}
    assert found["none"] is None
    assert found["label"] == {"values": ["s", "s", "t"]}
    assert found["ok"] == {"values": [True, True, False]}
    assert combine_seeds([one])["a"]["x"] == {"mean": 1.0, "se": None, "values": [1.0]}


def test_one_image_has_no_error_in_a_table_either():
    """Nothing stands beside its number, of one seed and of several."""
    result = {"x": 104.2345, "x_se": None, "y_se": None, "z": None, "z_se": 0.5}
    rows = [("x", "104.2"), ("y_se", "–"), ("z", "–")]
    assert flat_rows(result) == rows
    assert flat_rows(combine_seeds([result])) == rows
    assert flat_rows(combine_seeds([result, result]))[0] == ("x", "104.2 ± 0")


@pytest.mark.parametrize("images", [1, 2, 3])
def test_a_few_test_images_are_enough_for_a_report(linear, images, tmp_path):
    """All that the linear model can do, through the table and the page."""
    data = linear.data.test.arrays
    few = from_arrays(
        linear.data.train.arrays["image"], linear.data.train.labels,
        data["image"][:images], data["label"][:images],
    )  # fmt: skip
    small = linear._replace(data=few)
    predict = lambda state, x, rng: jax.numpy.stack([0.5 - x[:, 0, 0, 0], x[:, 0, 0, 0] - 0.5], 1)
    model = linear.model._replace(predict=predict, mix=lambda state, x, y, rng: x[None])
    found = assess(small, model, probe_data=few)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["test"]["loss_se"] is None) == (images == 1)
    assert found["fidelity"]["images"] == found["reconstruction"]["images"] == images
    assert ("codes_vs_prior" in found) == (images >= 4)
    seeds = combine_seeds([found, found])
    assert not any(
        "nan" in text for _, text in flat_rows(seeds) + flat_rows(combine_seeds([found]))
    )
    figures = draw_all(model, linear.poor, few, [], tmp_path, jax.random.key(0))
    assert ("mixtures.png" in [figure.name for figure in figures]) == (images > 1)
    write_html(tmp_path / "report.html", "few", {}, seeds, figures, {})


def test_a_second_assessment_compiles_nothing(linear, compilations):
    model = linear.model._replace(posterior=linear.model.encode)
    first = assess(linear, model)
    assert compilations(lambda: assess(linear, model)) == 0
    assert assess(linear, model) == first


def test_seeds_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="no results"):
        combine_seeds([])
    with pytest.raises(ValueError, match="differ in their names"):
        combine_seeds([{"a": 1.0}, {"b": 1.0}])


def test_rows_of_a_table():
    result = {"part": {"x": 104.2345, "x_se": 0.3123, "n": 5, "none": None, "done": True}}
    rows = [("part.x", "104.2 ± 0.31"), ("part.n", "5"), ("part.none", "–"), ("part.done", "yes")]
    assert flat_rows(result) == rows
    assert flat_rows(combine_seeds([result])) == rows  # one seed: the error is over images
    names = {"class_names": [f"c{i}" for i in range(25)], "widths": [8]}
    shown = ", ".join(f"c{i}" for i in range(20)) + ", ... (25 in all)"
    assert flat_rows(names) == [("class_names", shown), ("widths", "[8]")]
    two = combine_seeds([result, {"part": {**result["part"], "x": 106.2345}}])
    assert flat_rows(two)[0] == ("part.x", "105.2 ± 1")


def test_only_plain_values_are_left():
    given = {"a": np.float32(0.5), "b": jax.numpy.arange(2), "c": (1, np.array([2.0])), "d": None}
    assert jsonable(given) == {"a": 0.5, "b": [0, 1], "c": [1, [2.0]], "d": None}


def test_page_is_whole_and_escaped(tmp_path):
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "red_dots.png")
    page = tmp_path / "report.html"
    write_html(page, "<b>title</b>", {"name": "<script>alert(1)</script>"}, {"x": {"y": 1.5}},
               [tmp_path / "red_dots.png"], environment())  # fmt: skip
    text = page.read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<td>x.y</td><td>1.5</td>" in text
    assert 'alt="red dots"' in text
    content = re.search(r'src="data:image/png;base64,([^"]*)"', text).group(1)
    assert base64.b64decode(content) == (tmp_path / "red_dots.png").read_bytes()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "http" not in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["red_dots.png", "report.html"]


def test_environment_names_versions_and_devices():
    found = environment()
    assert found["jax"] == jax.__version__
    assert found["device_count"] == jax.device_count()
    assert 1 <= found["cores"] <= os.cpu_count()
    json.dumps(found)


def test_import_loads_neither_sklearn_nor_matplotlib():
    code = (
        "import sys, jaxae.evaluation; "
        "print([m for m in ('sklearn', 'matplotlib', 'PIL', 'orbax') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
