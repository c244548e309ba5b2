"""Where a command computes, and that it does not ask the system for the same memory again and again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ikem_fast
from ikem_fast.errors import InputError
from ikem_fast.runtime.device import choose_device

STEPS = """
import resource, torch
from pathlib import Path
from ikem_fast.runtime.allocator import freed_memory_kept

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def faults_of_ten_steps():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without, small = faults_of_ten_steps(), resident()
with freed_memory_kept(torch.device("cpu")):
    faults_of_ten_steps()  # until it has what it needs
    within, large = faults_of_ten_steps(), resident()
print(without, within, large - small, resident() - small)
"""


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="device: 'abacus' cannot be used"):
        choose_device("abacus")


@pytest.mark.skipif(sys.platform != "linux", reason="for glibc's allocator")
def test_freed_memory_is_kept_for_as_long_as_asked():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    without, within, kept, left = map(int, done.stdout.split())
    assert within < without / 10, "the pages of a tensor were given back and taken anew"
    assert kept > 30e6 and left < kept / 4, "the process is not as it was"


def test_a_device_without_float64_is_named():
    with pytest.raises(InputError, match="'mps' cannot be used"):
        choose_device("mps")


def test_no_stream_is_made_without_a_device():
    """One without is the present GPU's, which in a thread or with `cuda:1` is another than the run's."""
    package = Path(ikem_fast.__file__).parent
    streams = {
        file.name: re.findall(r"torch\.cuda\.Stream\((.*?)\)", file.read_text(encoding="utf-8"))
        for file in package.rglob("*.py")
    }
    made = [(name, device) for name, devices in streams.items() for device in devices]
    assert made and all(device for _, device in made), made
