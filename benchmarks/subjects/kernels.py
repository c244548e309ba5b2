"""What the bank kernels are predicted to take on cards that are not here, by what the compiler made."""

from benchmarks import show
from benchmarks.subject import Subject

LOSSES = ("implicit_exchange", "cross_modal_contrast", "relational_distillation", "nearest_neighbors")
METHOD = (128, 32768)


def measure(run):
    from benchmarks import predict
    from benchmarks.compiled import compiled, launches

    for name, card in predict.CARDS.items():
        for loss in LOSSES:
            for launch in {
                str(launch.variant): launch
                for call in predict.calls(loss, *METHOD).values()
                for launch in launches(card, call)
            }.values():
                made = compiled(launch, card.arch)
                run.record(
                    card=name, loss=loss, kernel=launch.name, registers=made.registers, spills=made.spills,
                    shared_kb=round(made.shared / 1024), held=predict.residents(launch, made, card),
                    executed=predict.duplication(launch, made) if made.multiply_adds else None,
                )  # fmt: skip
            sizes = [(n, k) for n in predict.N for k in predict.K]
            for clips, keys in [METHOD] if run.settings.quick else sizes:
                plain = predict.plain(loss, clips, keys, card)
                for kernel, (count, s, limit) in predict.predict(loss, clips, keys, card).items():
                    run.record(
                        card=name, loss=loss, N=clips, K=keys, kernel=kernel, launches=count, predicted=s,
                        limit=limit, plain=plain,
                    )  # fmt: skip


def totals(results, **labels):
    """(predicted, limit, plain) seconds of a loss, its kernels added."""
    rows = [row for row in show.pick(results.rows, **labels) if "predicted" in row]
    return sum(row["predicted"] for row in rows), sum(row["limit"] for row in rows), rows[0]["plain"]


def table(results):
    cards = list(dict.fromkeys(row["card"] for row in results.rows))
    sizes = list(dict.fromkeys((row["N"], row["K"]) for row in results.rows if "N" in row))
    lines = [
        "",
        "Forward and backward, predicted µs / plain torch's bytes alone, features and bank bfloat16:",
        "",
    ]
    rows = []
    for loss in LOSSES:
        for clips, keys in sizes:
            figures = (totals(results, card=card, loss=loss, N=clips, K=keys) for card in cards)
            cells = [f"{show.written(s * 1e6)} / {show.written(plain * 1e6)}" for s, _limit, plain in figures]
            rows.append([loss, clips, keys, *cells])
    lines += show.table(("loss", "N|", "K|", *(f"{card}|" for card in cards)), rows)
    lines += [
        "",
        "By kernel at N = 128, K = 32768: launches, predicted µs, share of the limit that binds:",
        "",
    ]
    rows = []
    for loss in LOSSES:
        found = [r for r in show.pick(results.rows, loss=loss, N=METHOD[0], K=METHOD[1]) if r["limit"]]
        for kernel in dict.fromkeys(row["kernel"] for row in found):
            row = {r["card"]: r for r in show.pick(found, kernel=kernel)}
            rows.append([
                loss, kernel,
                *(f"{row[c]['launches']}, {row[c]['predicted'] * 1e6:.0f}, "
                  f"{row[c]['limit'] / row[c]['predicted']:.0%}" for c in cards),
            ])  # fmt: skip
    lines += show.table(("loss", "kernel", *(f"{card}|" for card in cards)), rows)
    return lines[1:]


def headline(results):
    exchange, cross, distillation = (
        totals(results, card="H200", loss=loss, N=METHOD[0], K=METHOD[1])[0] * 1e3 for loss in LOSSES[:3]
    )
    spills = sum(row.get("spills", 0) for row in results.rows)
    return (
        f"Predicted for an H200 at N = 128, K = 32768: cross + exchange {cross + exchange:.2f} ms, "
        f"distillation {distillation:.2f} ms; on all cards {spills} instructions touch spilled registers."
    )


SUBJECT = Subject(
    about="""The bank kernels on cards that are not here, at P = 6 and D = 128: compiled ahead of time for
each, a launch's multiply-adds counted in its instructions, and a model of rates and waves
(`benchmarks/predict.py`). Beside it the least that plain torch takes: what its operations on tensors of
clips × keys read and write. Nothing of this is measured. `tests/compiled` holds that no multiply-add is
executed twice and nothing spills.""",
    measure=measure,
    show=table,
    headline=headline,
)
