"""Synthetic speech-like signals with known content.

An utterance is eight sounds of 128 samples in the voice of one of four speakers, at a nominal 4,000
samples per second. Of the eight kinds of sounds five are voiced (harmonics of the speaker's pitch,
filtered by two resonances, like vowels), two are noise in a low and a high band, one is silence.
Speakers differ in pitch and in a factor on all resonances, like vocal tracts of different length.
So content (the sounds) and speaker are separate and known.

A signal is an image of one row: mu-law levels of 8 bits. The label is the speaker.
"""

import numpy as np

from jaxae.data.source import Raw, synthetic_bits

RATE, SOUND, SOUNDS = 4000, 128, 8
"""samples per second, samples of a sound, sounds of an utterance"""
FORMANTS = np.array([(300, 870), (500, 1300), (300, 1700), (650, 1080), (650, 1600)], np.float64)
"""`[5, 2]` resonances of the voiced kinds 0..4 in Hz, before the speaker's factor"""
BANDS = np.array([(300, 800), (1200, 1900)], np.float64)
"""`[2, 2]` frequency bands of the noises, kinds 5 and 6, in Hz; kind 7 is silence"""
KINDS = 8
PITCH = np.array([110.0, 140.0, 180.0, 230.0])
SHIFT = np.array([0.85, 0.95, 1.05, 1.15])
"""`[4]` per speaker: fundamental frequency in Hz (PITCH), factor on all resonances (SHIFT)"""
MU = 255
_WIDTH, _TONES, _FADE = 120.0, 24, 12  # Hz of a resonance, sinusoids of a noise, samples
_TRAIN, _TEST = 4000, 500


def speech() -> Raw:
    """4,000 train and 500 test utterances, uint8 `[1,1024,1]`, a pure function of fixed seeds."""
    (train, speakers), (test, test_speakers) = (
        _levels(n, seed) for n, seed in ((_TRAIN, 0), (_TEST, 1))
    )
    return Raw(train, speakers, test, test_speakers, levels=MU + 1)


def speech_content(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sounds `[count, 8]`, kinds 0..7, and speakers `[count]`, 0..3; both int32.

    The training set is `speech_content(4000, 0)`, the test set `speech_content(500, 1)`. A sound is
    never followed by itself.
    """
    first = synthetic_bits(count, seed, 0) % np.uint64(KINDS)
    steps = synthetic_bits(count * (SOUNDS - 1), seed, 1) % np.uint64(KINDS - 1) + np.uint64(1)
    moves = np.concatenate([first[:, None], steps.reshape(count, -1)], axis=1)
    speakers = synthetic_bits(count, seed, 2) % np.uint64(len(PITCH))
    return (np.cumsum(moves, axis=1) % KINDS).astype(np.int32), speakers.astype(np.int32)


def render_speech(kinds: np.ndarray, speakers: np.ndarray, seed: int) -> np.ndarray:
    """The signals of given sounds and speakers.

    Args:
        kinds: `[N, 8]`; speakers: `[N]`; both as `speech_content` returns them.
        seed: seed of the phases of pitch and noise.
    Returns:
        `[N, 1024]` float64 in [-1, 1].
    """
    count = len(kinds)
    times = np.arange(SOUNDS * SOUND) / RATE
    phase = (synthetic_bits(count * (_TONES + 1), seed, 3) >> np.uint64(11)) * (2 * np.pi / 2**53)
    phase = phase.reshape(count, -1)
    pitch, shift = PITCH[speakers], SHIFT[speakers]
    # Each sound is faded in and out with a cosine.
    edge = np.minimum(np.arange(SOUND) + 0.5, SOUND - np.arange(SOUND) - 0.5)
    window = 0.5 - 0.5 * np.cos(np.pi * np.minimum(edge / _FADE, 1.0))
    signal = np.zeros((count, SOUNDS, SOUND))

    resonances = FORMANTS[np.minimum(kinds, len(FORMANTS) - 1)] * shift[:, None, None]
    for harmonic in range(1, int(RATE / 2 / PITCH.min()) + 1):
        frequency = harmonic * pitch
        distance = (frequency[:, None, None] - resonances) / _WIDTH
        strength = (1 / (1 + distance**2)).sum(-1) * (frequency < RATE / 2)[:, None]
        strength *= kinds < len(FORMANTS)
        wave = np.sin(2 * np.pi * frequency[:, None] * times + harmonic * phase[:, :1])
        signal += strength[..., None] * wave.reshape(signal.shape)
    bands = BANDS[np.clip(kinds - len(FORMANTS), 0, 1)] * shift[:, None, None]
    noisy = (kinds >= len(FORMANTS)) & (kinds < KINDS - 1)
    for tone in range(_TONES):
        share = (tone + 0.5) / _TONES
        frequency = bands[..., 0] + share * (bands[..., 1] - bands[..., 0])
        turn = phase[:, tone + 1, None, None] + 7.0 * tone * np.arange(SOUNDS)[:, None]
        angle = 2 * np.pi * frequency[..., None] * times.reshape(SOUNDS, SOUND) + turn
        signal += 0.25 * noisy[..., None] * np.sin(angle)
    return np.tanh(0.35 * signal * window).reshape(count, -1)


def mu_law_encode(signal: np.ndarray, mu: int = MU) -> np.ndarray:
    """Mu-law levels 0..mu, int32, of a signal in [-1, 1]: finer near zero.

    Source: the continuous curve of ITU-T G.711, rounded to the nearest level.
    """
    signal = np.clip(np.asarray(signal, np.float64), -1, 1)
    curve = np.sign(signal) * np.log1p(mu * np.abs(signal)) / np.log1p(mu)
    return np.rint((curve + 1) / 2 * mu).astype(np.int32)


def mu_law_decode(levels: np.ndarray, mu: int = MU) -> np.ndarray:
    """The signal in [-1, 1], float64, at the centre of each level's interval on the curve."""
    curve = 2 * np.asarray(levels, np.float64) / mu - 1
    return np.sign(curve) * np.expm1(np.abs(curve) * np.log1p(mu)) / mu


def _phase_seeds(count: int, seed: int) -> list[int]:
    """A seed of phases for every 500 utterances, different for training and test set."""
    return [10_000 * seed + i for i in range(0, count, 500)]


def _levels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    kinds, speakers = speech_content(count, seed)
    parts = [
        mu_law_encode(render_speech(kinds[i : i + 500], speakers[i : i + 500], key))
        for i, key in zip(range(0, count, 500), _phase_seeds(count, seed), strict=True)
    ]
    return np.concatenate(parts).astype(np.uint8)[:, None, :, None], speakers
