"""VQ-VAE on speech-like signals: what the codes hold, who speaks, what the prior saves.

    python experiments/tables/vqvae_speech.py

Trains and evaluates the preset `speech` in runs/vqvae-speech-table (a run that is there is
continued or, where it is finished, only evaluated). The signals are made with known content
(`jaxae.data.speech`): eight sounds by one of four speakers each. Then it asks

- what was said: every code, in the context of the other code of its sound, is taken for the kind
  of sound it most often stands for in the training set (the paper's test with phonemes, there for
  each code alone);
- who speaks: test utterances are said again from their codes in the voice of the next speaker, and
  a classifier fitted to the spectra of true sounds is asked for speaker and kind.
"""

import argparse
import json
import math
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import KEY, RESULTS, holds, shown, table

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from jaxae import evaluation
from jaxae.command import main as command
from jaxae.command import run as runs
from jaxae.data import mu_law_decode, speech_content
from jaxae.data.speech import PITCH, SOUND, SOUNDS
from jaxae.models import vqvae_audio
from jaxae.recipes.vqvae_audio import speech
from jaxae.training import Workdir

FOLDER = pathlib.Path("runs") / "vqvae-speech-table"
SAID_AGAIN = 100


def spectra(signals: np.ndarray) -> np.ndarray:
    """Log power spectra of the sounds of signals `[N, 1024]` in [-1, 1]: `[N, 8, 65]`."""
    sounds = signals.reshape(len(signals), SOUNDS, SOUND) * np.hanning(SOUND)
    return np.log(np.square(np.abs(np.fft.rfft(sounds))) + 1e-2)


def whole_spectra(signals: np.ndarray) -> np.ndarray:
    """An utterance's mean and largest log power by frequency, `[N, 130]`: who speaks."""
    found = spectra(signals)
    return np.concatenate([found.mean(1), found.max(1)], axis=1)


def linear(samples: np.ndarray) -> np.ndarray:
    """Images `[N,1,1024,1]` in [0, 1] -> signals `[N, 1024]` in [-1, 1]."""
    return mu_law_decode(np.rint(255 * samples.reshape(len(samples), -1)))


def main() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--steps", type=int, help="fewer steps, to see that it works")
    asked = words.parse_args()
    start, folder, fewer = time.monotonic(), FOLDER, []
    if asked.steps is not None:
        folder = FOLDER.with_name(f"{FOLDER.name}-{asked.steps}")
        fewer = ["--steps", str(asked.steps), "--stage-one", str(asked.steps // 2)]
    if command.main(["--model", "vqvae_audio", "--workdir", str(folder), *fewer]):
        sys.exit("the run failed")
    result = json.loads((folder / "result.json").read_text())
    settings = speech()
    run = runs.build("vqvae_audio", settings, None)
    with Workdir.open(folder) as workdir:
        state = runs.restore(run, workdir)[1][0]
    data, config = run.data, settings.model
    (said, _), (said_test, who_test) = (speech_content(n, s) for n, s in ((4000, 0), (500, 1)))
    train, test = (evaluation.images_of(split, 500) for split in (data.train, data.test))

    # What was said.
    code_of = jax.jit(vqvae_audio.make_encode_codes(config, data.spec))
    read = lambda x: np.concatenate([code_of(state, x[i : i + 500]) for i in range(0, len(x), 500)])
    moments = SOUND >> config.halvings  # codes of a sound
    words_of = lambda k: k.reshape(len(k), SOUNDS, moments) @ config.codes ** np.arange(moments)
    codes, codes_test = read(train), read(test)
    alone = evaluation.majority_accuracy(
        codes, said.repeat(moments, 1), codes_test, said_test.repeat(moments, 1)
    )
    together = evaluation.majority_accuracy(words_of(codes), said, words_of(codes_test), said_test)
    majority = np.bincount(said_test.ravel()).max() / said_test.size

    # Who speaks.
    fit = lambda x, y: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(x, y)
    truth, truth_test = linear(train[:2000]), linear(test)
    kind_of = fit(spectra(truth).reshape(-1, SOUND // 2 + 1), said[:2000].ravel())
    voice_of = fit(whole_spectra(truth), speech_content(4000, 0)[1][:2000])
    kinds = lambda signals: kind_of.predict(spectra(signals).reshape(-1, SOUND // 2 + 1))
    say = jax.jit(vqvae_audio.make_convert_speaker(config, data.spec))
    x, voice = jnp.asarray(test[:SAID_AGAIN]), who_test[:SAID_AGAIN]
    other, (same_key, other_key) = (voice + 1) % len(PITCH), jax.random.split(jax.random.key(KEY))
    again = linear(np.asarray(say(state, x, jnp.asarray(voice), same_key)))
    swapped_levels = np.asarray(say(state, x, jnp.asarray(other), other_key))
    swapped, content = linear(swapped_levels), said_test[:SAID_AGAIN].ravel()
    kept = float(np.mean(kinds(swapped) == content))
    turned = float(np.mean(voice_of.predict(whole_spectra(swapped)) == other))

    whole = lambda name: result["results"]["whole_set"][name]["mean"]
    distortion = result["results"]["test"]["distortion"]["mean"]
    length = SOUND * SOUNDS
    bits = {name: whole(f"bits_per_dim_{name}") for name in ("uniform", "unigram", "prior")}
    rates = {name: whole(f"rate_{name}") for name in bits}
    shares = train.reshape(-1)
    frequency = np.bincount(np.rint(255 * shares).astype(int), minlength=256) + 1.0
    frequency /= frequency.sum()
    of_levels = -np.log2(frequency[np.rint(255 * test.reshape(-1)).astype(int)]).mean()
    numbers = [
        ("bits per sample, levels by their frequency alone", shown(of_levels, 3)),
        ("bits per sample given codes and speaker (codes not counted)",
         shown(distortion / math.log(2) / length, 3)),
        *((f"bits per sample with codes, {name}", shown(value, 3)) for name, value in bits.items()),
        *((f"nats per utterance for codes, {name}", shown(rates[name])) for name in rates),
        ("share of codes used", shown(whole("codes_used_train"))),
        ("kind of sound from one code alone", shown(alone, 3)),
        (f"kind of sound from the {moments} codes of it", shown(together, 3)),
        ("the commonest kind", shown(float(majority), 3)),
        ("classifiers on true test signals: kind, speaker",
         f"{np.mean(kinds(truth_test) == said_test.ravel()):.3f}, "
         f"{np.mean(voice_of.predict(whole_spectra(truth_test)) == who_test):.3f}"),
        ("said again in the same voice: kind, speaker",
         f"{np.mean(kinds(again) == content):.3f}, "
         f"{np.mean(voice_of.predict(whole_spectra(again)) == voice):.3f}"),
        ("said again in another voice: kind kept, speaker as asked", f"{kept:.3f}, {turned:.3f}"),
    ]  # fmt: skip
    musts = [
        holds("codes tell the kind better than four times the commonest", 4 * majority, together),
        holds("prior below unigram", rates["prior"], rates["unigram"]),
        holds("unigram below uniform", rates["unigram"], rates["uniform"]),
        holds("kind kept in another voice, in more than half of the sounds", 0.5, kept),
        holds("speaker as asked, in more than half of the utterances", 0.5, turned),
    ]
    text = f"""# VQ-VAE on speech-like signals

`python experiments/tables/vqvae_speech.py`: preset `speech` of `experiments/presets/vqvae_audio.py`
on signals that `jaxae.data.speech` makes (no recorded speech), one seed, {result["step"]} steps;
test set. {time.monotonic() - start:.0f} s of wall time.

{table("Numbers", ("", "ours"), numbers)}
{table("What must hold", ("", "", ""), musts)}
Published, for recorded speech with 128 codes at 25 Hz: 49.3 % of phonemes from one code, 7.2 % for
the commonest.
Nothing here compares with these numbers. The thresholds are proposals of ours.

![said again](vqvae_speech_said_again.png)

Environment: {json.dumps(result["environment"])}
"""
    print(text)
    if asked.steps is None:
        shown_rows = np.stack([test[:8], np.asarray(swapped_levels)[:8]], axis=1)
        evaluation.image_grid(shown_rows.reshape(-1, *shown_rows.shape[2:]), 2,
                   RESULTS / "vqvae_speech_said_again.png", title="Said again",
                   note="mu-law signals: test utterances; said from their codes in another voice",
                   column_labels=["utterance", "other voice"])  # fmt: skip
        (RESULTS / "vqvae_speech.md").write_text(text)


if __name__ == "__main__":
    main()
