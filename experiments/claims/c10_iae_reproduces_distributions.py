"""IAE: what a small code keeps, and what becomes noise."""

import jax
import jax.numpy as jnp
import numpy as np
from claims_common import (
    KEY,
    Claim,
    Measure,
    assessed,
    at_random,
    gather,
    learned,
    opened,
    pictured,
    rows_of,
)

from jaxae import evaluation
from jaxae.models import iae

SIZES = {"z 20": 20, "z 5": 5}
LOCAL, STEPS, CHANCE = 100, 6000, 0.1


def test(data, seeds, picture, data_dir):
    # Noise between the grey levels, which a critic would tell from a decoder's otherwise.
    source, found = opened(data, data_dir, dequantise=True), {}
    judge = evaluation.train_classifier(source)
    labels = np.asarray(source.test.labels)
    images = evaluation.images_of(source.test, 500)
    some = at_random(np.arange(len(images)), 500)
    for name, latent in SIZES.items():
        model, states = learned(
            iae, source, seeds, STEPS, 128, latent=latent, local=LOCAL, widths=(256, 256),
            learning_rate=1e-3, critic_rate=2e-3, r1=1.0, code_scale=0.1, decay_steps=STEPS,
            local_start=STEPS // 2, local_warmup=STEPS // 3,
        )  # fmt: skip
        encode, decode = jax.jit(model.encode), jax.jit(model.decode)

        def kept(state, encode=encode, decode=decode):
            of_code, of_image = jax.random.split(jax.random.key(KEY))
            back = decode(state, encode(state, images[some], of_code), of_image)
            named = judge.logits(np.asarray(back)).argmax(1)
            return {"class": float(np.mean(named == labels[some]))}

        found[name] = assessed(model, states, source) | gather(states, kept)
        codes = encode(states[0], jnp.asarray(images[:4]), jax.random.key(KEY))
        draws = [decode(states[0], codes, jax.random.key(i)) for i in range(9)]
    columns = np.stack([images[:4], *map(np.asarray, draws)], axis=1)
    pictured(
        columns,
        [f"code {i}" for i in range(4)],
        picture,
        "One code, many digits",
        "first column: test images; the others: draws given their codes of 5",
    )
    large, small = (found[name] for name in SIZES)
    return (
        [Measure("squared change between two draws over the squared error, minus a half, z 5",
                 small["change_over_error"] - 0.5),
         Measure("share of draws with the image's class, minus three times chance, z 5",
                 small["class"] - 3 * CHANCE),
         Measure("squared change between two draws, z 5 minus z 20",
                 small["squared_change"] - large["squared_change"], "per image"),
         Measure("share with the image's class, z 20 minus z 5", large["class"] - small["class"])],
        rows_of(["squared error", "change between two draws", "change / error", "class kept"], {
            name: [seen["squared_error"], seen["squared_change"], seen["change_over_error"],
                   seen["class"]] for name, seen in found.items()}),
    )  # fmt: skip


CLAIM = Claim(
    "An IAE reproduces the distribution given the code, not the picture; the code's size sets "
    "what is content and what is noise",
    "Makhzani 2018",
    f"Global codes of 20 and of 5 numbers, {LOCAL} numbers of local noise that comes in after half "
    f"of the {STEPS} steps. A decoder that repeats the picture has a change of 0 between two draws "
    "of one code; one that reproduces the conditional distribution changes as much as it errs. A "
    "classifier says which class a draw shows. That a half is much of the error, and three times "
    "chance a class kept, are our proposals.",
    test,
    seeds=3,
    published="pictures only",
)
