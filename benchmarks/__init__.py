"""What things cost: `python -m benchmarks SUBJECT` measures, `python -m benchmarks publish` writes pages.

`subjects` has the table of what is compared, `run` measures, `publish` writes docs/performance.
"""
