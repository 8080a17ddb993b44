import numpy as np

from jaxae.data import load
from jaxae.data.speech import (
    KINDS,
    PITCH,
    RATE,
    SOUND,
    SOUNDS,
    _phase_seeds,
    mu_law_decode,
    mu_law_encode,
    render_speech,
    speech_content,
)


def test_mu_law_against_its_definition_and_back():
    signal = np.linspace(-1, 1, 2001)
    levels = mu_law_encode(signal)
    assert levels.min() == 0
    assert levels.max() == 255
    assert (np.diff(levels) >= 0).all()
    # By hand: ln(1 + 255 / 51) / ln 256 = 0.323..., (1.323 / 2) 255 = 168.7
    assert mu_law_encode(np.array([1 / 51]))[0] == round(255 * (1 + np.log(6) / np.log(256)) / 2)
    np.testing.assert_array_equal(mu_law_encode(mu_law_decode(levels)), levels)
    # Half a level of the curve, whose slope is ln 256 (1 + 255 |x|) / 255.
    bound = np.log(256) * (1 + 255 * np.abs(signal)) / 255 / 255
    assert (np.abs(mu_law_decode(levels) - signal) <= 1.02 * bound).all()


def test_contents_are_what_they_say():
    kinds, speakers = speech_content(300, 5)
    again, _ = speech_content(300, 5)
    np.testing.assert_array_equal(kinds, again)
    assert kinds.shape == (300, SOUNDS)
    assert set(np.unique(kinds)) == set(range(KINDS))
    assert set(np.unique(speakers)) == set(range(len(PITCH)))
    assert (np.diff(kinds, axis=1) != 0).all()


def test_pitch_belongs_to_the_speaker_and_resonances_to_the_sound():
    moments = SOUNDS * SOUND
    for speaker in range(4):
        kinds = np.full((2, SOUNDS), 1)
        signal = render_speech(kinds, np.full(2, speaker), 0)
        power = np.abs(np.fft.rfft(signal[0])) ** 2
        hertz = np.arange(len(power)) * RATE / moments
        near = lambda f: power[np.abs(hertz - f) < 12].sum()
        harmonics = sum(near(h * PITCH[speaker]) for h in range(1, 9))
        between = sum(near((h + 0.5) * PITCH[speaker]) for h in range(1, 9))
        assert harmonics > 20 * between
    silent = render_speech(np.full((1, SOUNDS), 7), np.zeros(1, int), 0)
    assert not silent.any()


def test_training_and_test_utterances_share_no_phases():
    train, test = _phase_seeds(4000, 0), _phase_seeds(500, 1)
    assert len({*train, *test}) == len(train) + len(test) == 9
    kinds, speakers = speech_content(500, 0)
    phases = [render_speech(kinds[:2], speakers[:2], seed) for seed in (*train, *test)]
    for i, one in enumerate(phases):
        assert not any(np.array_equal(one, other) for other in phases[:i])


def test_the_data_set_is_the_rendered_content():
    data = load("speech")
    assert data.spec.image_shape == (1, SOUNDS * SOUND, 1)
    assert (data.spec.levels, data.spec.classes) == (256, 4)
    kinds, speakers = speech_content(500, 1)
    np.testing.assert_array_equal(data.test.labels, speakers)
    signal = render_speech(kinds[:500], speakers[:500], 10_000)
    image = np.asarray(data.test.gather(np.arange(3))["image"])[:, 0, :, 0]
    np.testing.assert_array_equal(image, mu_law_encode(signal[:3]))
