"""The publisher: pages of docs/performance out of the results files, and nothing else.

docs/performance.md is the index: a sentence of each subject. A page has the subjects of `subjects.PAGES`.
"""

import os
from pathlib import Path

from benchmarks import show
from benchmarks.run import RESULTS, ROOT, read_results
from benchmarks.subjects import PAGES, SUBJECTS
from ikem_fast.files import write_text

DOCS = ROOT / "docs"
DEVICES = {"cpu": "On a CPU", "cuda": "On a GPU"}
NOTE = "<!-- Written by `python -m benchmarks publish` out of benchmarks/results: do not edit. -->"


def results_path(subject, device, results=RESULTS):
    return Path(results) / f"{subject}-{device}.jsonl"


def found(subject, results):
    """Device → its `Results`, of those that were measured."""
    paths = {device: results_path(subject, device, results) for device in DEVICES}
    return {device: read_results(path) for device, path in paths.items() if path.is_file()}


def section(subject, device, measured, pictures):
    """Markdown of one subject on one device; `pictures`: files to show, from the page's folder."""
    where = show.where(measured.about)
    return [
        f"### {DEVICES[device]}",
        "",
        where,
        "",
        SUBJECTS[subject].headline(measured),
        "",
        *SUBJECTS[subject].show(measured),
        *(["", *(f"![{Path(picture).stem}]({picture})" for picture in pictures)] if pictures else []),
        "",
    ]


def page(name, results=RESULTS):
    """({file name: figure}, lines of Markdown) of one page."""
    title, subjects = PAGES[name]
    figures, lines = {}, [NOTE, f"# {title}", ""]
    for subject in subjects:
        measured = found(subject, results)
        lines += [f"## {subject.capitalize()}", "", SUBJECTS[subject].about, ""]
        for device, one in measured.items():
            plots = {f"{stem}-{device}.png": figure for stem, figure in SUBJECTS[subject].plots(one).items()}
            figures |= plots
            lines += section(subject, device, one, list(plots))
        missing = [device for device in SUBJECTS[subject].devices if device not in measured]
        for device in missing:
            lines += [
                f"### {DEVICES[device]}",
                "",
                f"Not measured: `python -m benchmarks {subject} --device {device} --publish` does it.",
                "",
            ]
    return figures, lines[:-1]


def index(results=RESULTS):
    """Lines of docs/performance.md."""
    lines = [
        NOTE,
        "# Performance: what things cost, and what was measured where",
        "",
        "`python -m benchmarks SUBJECT --publish` measures a subject anew and rewrites its page; "
        "`bash benchmarks/run_on_gpu.sh` builds, tests and measures everything where there is a GPU, stage "
        "by stage, and says on a first page what holds of what was predicted. "
        "Why things are as they are, what was tried and what it gave: [decisions](decisions.md).",
        "",
        "| subject | on | in a sentence |",
        "| --- | --- | --- |",
    ]
    for name, (_, subjects) in PAGES.items():
        for subject in subjects:
            link = f"[{subject}](performance/{name}.md#{subject})"
            measured = found(subject, results)
            for device, one in measured.items():
                lines.append(f"| {link} | {device} | {SUBJECTS[subject].headline(one)} |")
            if not measured:
                lines.append(f"| {link} | – | not measured |")
    return lines


def pages(results=RESULTS):
    """{path under docs: text} of everything that is written, and {path under docs: figure}."""
    texts, figures = {"performance.md": "\n".join(index(results)) + "\n"}, {}
    for name in PAGES:
        drawn, lines = page(name, results)
        texts[f"performance/{name}.md"] = "\n".join(lines) + "\n"
        figures |= {f"performance/{file}": figure for file, figure in drawn.items()}
    return texts, figures


def publish(results=RESULTS, docs=DOCS):
    """Write every page and picture."""
    texts, figures = pages(results)
    (docs / "performance").mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_text(docs / path, text)
    for path, figure in figures.items():
        figure.savefig(docs / path, dpi=100)
    print("\n".join(os.path.relpath(docs / path) for path in (*texts, *figures)))
