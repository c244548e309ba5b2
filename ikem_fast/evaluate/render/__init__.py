"""Results for people. Each way of showing them knows `Results` alone."""


def set_label(name: str) -> str:
    """Write a set's name for people: long ones by their number."""
    before, colon, modalities = name.replace("_", " ").rpartition(": ")
    parts = modalities.split("+")
    return before + colon + (" + ".join(parts) if len(parts) <= 3 else f"all {len(parts)} modalities")
