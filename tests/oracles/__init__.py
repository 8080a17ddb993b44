"""The losses of the adversarial papers once more, for `models/test_players.py`.

Written from the papers and not from the models. Networks are called through the bare linen modules
of a model's `_networks`, whose own tests are elsewhere; everything between them is written out.
"""

from oracles import aae, acai, alae, ali, gan, iae, vaegan

LOSSES = {
    **aae.LOSSES,
    **acai.LOSSES,
    **alae.LOSSES,
    **ali.LOSSES,
    **gan.LOSSES,
    **iae.LOSSES,
    **vaegan.LOSSES,
}
