"""Results for people. Each way of showing them knows `Results` alone."""


def set_label(name: str) -> str:
    """Write a set's name for people: long ones by their number."""
    modalities = name.replace("_", " ").split("+")
    return " + ".join(modalities) if len(modalities) <= 3 else f"all {len(modalities)} modalities"
