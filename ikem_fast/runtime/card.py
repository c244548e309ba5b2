"""The model card of a bundle: Markdown with the measured table, under a head that the hub reads."""

import json
from collections.abc import Mapping
from typing import Any

from ikem_fast.errors import printable


def model_card(content: Mapping[str, Any]) -> str:
    """Write the card of what a bundle's config.json says.

    Example:
        model_card({"dataset": "utd_mhad", "classes": ["wave", "clap"], ...})
    """
    name = _cell(content["dataset"])
    results = content["results"]
    parts = [
        _front_matter(content),
        f"# Actions of {name} from skeletons",
        f"{len(content['modalities'])} frozen encoders ({', '.join(content['modalities'])}; "
        f"{_cell(content['model']['encoder']['name'])}), pretrained without labels by "
        "[ikem-fast](https://arxiv.org/abs/2309.12009), and linear classifiers on their features. Raw joints "
        f"of layout {_cell(content['layout']['name'])} ({len(content['layout']['joints'])} joints, up to "
        f"{content['bodies']} bodies) go in, probabilities of {len(content['classes'])} actions come out.",
        "## Use",
        '```python\nimport ikem_fast\n\nbundle = ikem_fast.load("PATH")\n'
        'prediction = bundle.predict(["clip.skeleton"])\nprint(prediction.labels)\n```',
        "```sh\nikem-fast predict clip.skeleton --model PATH\n```",
        "## Measured",
        _table(results),
        f"{_cell(results.get('evaluation', 'Linear evaluation'))}, probe {_cell(results.get('probe'))}, on "
        f"{_clips(results)}; accuracy in %.",
        "Probabilities are the softmax of the classifier's scores over a temperature, chosen for the least "
        "cross entropy of training clips, each scored without the fold of its subject (where the probe makes "
        "such fits; one trained by SGD is taken as it is).",
        "## Actions",
        ", ".join(_cell(label) for label in content["classes"]),
        "## Limits",
        "Clips that look unlike the training clips (another sensor, another layout, actions that are not in "
        "the list) get probabilities all the same. The terms of the data that the model was trained on hold "
        "for its use.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(content):
    return (
        "---\nlibrary_name: ikem-fast\npipeline_tag: other\ntags:\n- skeleton\n- action-recognition\n"
        f"- self-supervised\n- ikem\ndatasets:\n- {json.dumps(_cell(content['dataset']))}\nmetrics:\n"
        "- accuracy\n---"
    )


def _table(results):
    sets, beside = results.get("sets", {}), results.get("baselines", {})
    if not sets:
        return "Nothing was measured: these are encoders alone."
    lines = [
        f"| modalities | this model | {''.join(f'{_cell(name)} | ' for name in beside)}".rstrip(),
        f"| --- | ---: |{' ---: |' * len(beside)}",
    ]
    for name, one in sets.items():
        figures = [one["top1"], *(other["top1"].get(name) for other in beside.values())]
        cells = ["" if figure is None else f"{figure:.1f}" for figure in figures]
        lines.append(f"| {_cell(name.replace('+', ' + '))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _clips(results):
    clips = results.get("clips", {})
    return f"{clips.get('test', '?')} test clips, fitted to {clips.get('train', '?')}"


def _cell(text):
    """Text that stands in a table and in a line, whatever it is."""
    return printable(text).replace("|", "\\|").replace("<", "&lt;")
