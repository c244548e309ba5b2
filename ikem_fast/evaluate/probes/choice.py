"""Which probe an evaluation uses, by its settings."""

from functools import partial

from ikem_fast.evaluate.config import LARGE, LinearProbeConfig
from ikem_fast.evaluate.probes.base import Examples, Fitted, Probe, Sets
from ikem_fast.evaluate.probes.fusion import fit_sets
from ikem_fast.evaluate.probes.logistic import fit_logistic
from ikem_fast.evaluate.probes.ridge import fit_ridge
from ikem_fast.evaluate.probes.sgd import fit_sgd


def probe_name(config: LinearProbeConfig, clips: int) -> str:
    """Return the probe that settings ask for, or the one for so many training clips."""
    return config.probe or ("sgd" if clips >= LARGE else "ridge")


def linear_probe(config: LinearProbeConfig, name: str, seed: int, watched: Examples | None = None) -> Probe:
    """Make the probe `name` with its settings, fusion included.

    Args:
        config: the settings.
        name: of `probe_name`.
        seed: of what is random in it.
        watched: see `fit_sgd`.
    """
    sgd = partial(
        fit_sgd,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        lr_milestones=config.lr_milestones,
        seed=seed,
        watched=watched,
    )
    probe: Probe = {"ridge": fit_ridge, "logistic": fit_logistic, "sgd": sgd}[name]

    def fit(examples: Examples, sets: Sets) -> dict[str, Fitted]:
        return fit_sets(probe, examples, sets, config.fusion)

    return fit
