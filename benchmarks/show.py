"""How figures read: times with their spread, ratios, tables of Markdown."""


def spread(row, unit=1e3, digits=3):
    """The median and, in brackets, the 10th and 90th percentile; `unit` of a second (1e3: ms)."""
    low, middle, high = (written(second * unit, digits) for second in row["s"])
    return f"{middle} ({low}–{high})" if row["rounds"] > 1 else middle


def written(number, digits=3):
    """A number by its first digits, never with an exponent: 0.0123, 1.82, 13,500."""
    rounded = float(f"{number:.{digits}g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 ** (digits - 1) else f"{rounded:.{digits}g}"


def median(row, unit=1):
    return row["s"][1] * unit


def ratio(row, base):
    """How many times shorter a row took than `base`."""
    return f"{median(base) / median(row):.1f}×" if row is not base else "1"


def table(columns, rows):
    """columns: titles, those of numbers ending in "|" so as to stand on the right."""
    lines = ["| " + " | ".join(column.rstrip("|") for column in columns) + " |"]
    lines.append("| " + " | ".join("--:" if column.endswith("|") else "---" for column in columns) + " |")
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def pick(rows, **labels):
    """The rows that have these labels."""
    return [row for row in rows if all(row.get(name) == value for name, value in labels.items())]


def where(about):
    """One line of Markdown: what the figures depend on besides the code."""
    name = about["gpu"] or f"{about['cpu']}, {about['threads']} of {about['cores']} cores"
    return (
        f"{name}; torch {about['torch']}; load before {about['load']:.1f}; "
        f"commit {(about['commit'] or 'unknown')[:10]}{' with changes' if about['changed'] else ''}."
    )
