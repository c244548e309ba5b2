"""What the bank kernels are predicted to take on cards that are not here, and what they take on one that is.

Predictions are by what the compiler made; their file stands under the processor that computed them.
"""

import math

import torch

from benchmarks import harness, show
from benchmarks.harness import PHASE_2
from benchmarks.run import RESULTS, read_results
from benchmarks.subject import Results, Subject

LOSSES = ("implicit_exchange", "cross_modal_contrast", "relational_distillation", "nearest_neighbors")
METHOD, TINY = (128, 32768), (4, 256)
PREDICTIONS = RESULTS / "kernels-cpu.jsonl"
TORCH = "closed form"  # in plain torch


def measure(run):
    if run.device == "cuda" or run.settings.tiny:
        measure_here(run)
    else:
        predict_elsewhere(run)


def measure_here(run):
    """Each loss, fused and in plain torch; then its kernels one by one, beside their predictions."""
    clips, keys = TINY if run.settings.tiny else METHOD
    run.note(N=clips, K=keys)
    for bank in (torch.bfloat16, torch.float32):  # as a model in bfloat16 has it, and as mixed precision does
        for names in (PHASE_2, *((loss,) for loss in LOSSES)):
            tensors = {n: harness.arguments(n, clips, keys, run.device, torch.bfloat16) for n in names}
            tensors = {n: (x, y, queue.to(bank)) for n, (x, y, queue) in tensors.items()}
            backward = names != (harness.NEAREST,)
            ways = {way: harness.step(way, names, tensors, backward) for way in ("fused", TORCH)}
            labels = {"losses": "+".join(names), "bank": str(bank).removeprefix("torch.")}
            run.compare(ways, rounds=3, limit=5.0, **labels)
            if bank == torch.bfloat16 and len(names) == 1:
                for kernel, (launches, seconds) in kernels_of(ways["fused"], run.device).items():
                    run.record(loss=names[0], kernel=kernel, launches=launches, measured=seconds)


def kernels_of(call, device, rounds=5):
    """{kernel: (launches, seconds)} of one call; on a CPU those of the operators."""
    activity = "CUDA" if device == "cuda" else "CPU"
    with torch.profiler.profile(activities=[getattr(torch.profiler.ProfilerActivity, activity)]) as profile:
        for _ in range(rounds):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
    found = {}
    for event in profile.key_averages():
        seconds = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
        if event.key.endswith("_kernel") or event.key.startswith("ikem_fast::"):
            name = event.key.removeprefix("ikem_fast::").removesuffix("_kernel")
            found[name] = event.count / rounds, seconds / 1e6 / rounds
    return found


def card_of(gpu):
    """The name under which a GPU's predictions stand, as in `predict.CARDS`; None without any."""
    cards = {row["card"] for row in predictions().rows}
    return next((card for card in sorted(cards) if gpu and card in gpu), None)


def predictions():
    return read_results(PREDICTIONS) if PREDICTIONS.is_file() else Results({}, [])


def predicted(card, losses):
    """Seconds of losses, written "a+b", forward and backward at the method's size; None without a card."""
    if card is None:
        return None
    N, K = METHOD
    return math.fsum(totals(predictions(), card=card, loss=loss, N=N, K=K)[0] for loss in losses.split("+"))


def predict_elsewhere(run):
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
    # Not `sum`, which rounds otherwise from Python 3.12 on: pages would differ.
    predicted, limit = (math.fsum(row[name] for row in rows) for name in ("predicted", "limit"))
    return predicted, limit, rows[0]["plain"]


def table(results):
    return measured_table(results) if "N" in results.about else predicted_table(results)


def measured_table(results):
    card = card_of(results.about["gpu"])
    fused = show.pick(results.rows, way="fused")
    plain = {(row["losses"], row["bank"]): row for row in show.pick(results.rows, way=TORCH)}
    rows = []
    for row in fused:
        by_model = predicted(card, row["losses"]) if row["bank"] == "bfloat16" else None
        rows.append((
            row["losses"].replace("+", " + "), row["bank"], show.spread(row, 1e6),
            "–" if by_model is None else show.written(by_model * 1e6),
            show.ratio(row, plain[row["losses"], row["bank"]]),
        ))  # fmt: skip
    lines = [
        f"Forward and backward at N = {results.about['N']}, K = {results.about['K']}, bfloat16 features:",
        "",
    ]
    columns = ("losses", "bank", "measured, µs (p10–p90)|", "predicted, µs|", "plain torch, times as long|")
    lines += show.table(columns, rows)
    rows = []
    N, K = METHOD
    for row in (r for r in results.rows if "measured" in r):
        model = show.pick(predictions().rows, card=card, loss=row["loss"], kernel=row["kernel"], N=N, K=K)
        by_model = show.written(model[0]["predicted"] * 1e6) if model else "–"
        rows.append(
            (row["loss"], row["kernel"], row["launches"], show.written(row["measured"] * 1e6), by_model)
        )
    columns = ("loss", "kernel", "launches|", "measured, µs|", "predicted, µs|")
    return [*lines, "", "By kernel:", "", *show.table(columns, rows)]


def predicted_table(results):
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
    if "N" in results.about:
        both, bank = "+".join(PHASE_2), "bfloat16"
        mine, plain = (show.pick(results.rows, losses=both, bank=bank, way=w)[0] for w in ("fused", TORCH))
        return (
            f"Measured: cross + exchange {show.median(mine, 1e3):.3g} ms, forward and backward; plain torch "
            f"takes {show.ratio(mine, plain)}."
        )
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
clips × keys read and write. Nothing of this is measured: what a GPU was seen to do stands under "On a GPU".
`tests/compiled` holds that no multiply-add is executed twice and nothing spills.""",
    measure=measure,
    show=table,
    headline=headline,
)
