"""The table of subjects: what there is to measure, by name."""

from benchmarks.subjects import (
    augmentation,
    busy,
    compat,
    compat_step,
    derivation,
    encoders,
    evaluation,
    kernels,
    loader,
    losses,
    parts,
    preparation,
    readers,
    step,
)

SUBJECTS = {
    "losses": losses.SUBJECT,
    "busy": busy.SUBJECT,
    "compat": compat.SUBJECT,
    "compat_step": compat_step.SUBJECT,
    "kernels": kernels.SUBJECT,
    "derivation": derivation.SUBJECT,
    "augmentation": augmentation.SUBJECT,
    "preparation": preparation.SUBJECT,
    "readers": readers.SUBJECT,
    "loader": loader.SUBJECT,
    "step": step.SUBJECT,
    "parts": parts.SUBJECT,
    "encoders": encoders.SUBJECT,
    "evaluation": evaluation.SUBJECT,
}

# Page of docs/performance → its title and subjects, in this order.
PAGES = {
    "losses": ("The bank losses", ("losses", "compat", "compat_step", "busy", "kernels")),
    "readers": ("Readers", ("readers",)),
    "inputs": ("From files to modalities", ("preparation", "loader", "augmentation", "derivation")),
    "step": ("A training step", ("step", "parts")),
    "encoders": ("Encoders", ("encoders",)),
    "evaluation": ("Evaluation", ("evaluation",)),
}
