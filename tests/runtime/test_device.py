"""Where a command computes, and that it does not ask the system for the same memory again and again."""

import subprocess
import sys

import pytest

from ikem_fast.errors import InputError
from ikem_fast.runtime.device import choose_device

STEPS = """
import resource, torch
from ikem_fast.runtime.allocator import freed_memory_kept

def faults_of_ten_steps():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults_of_ten_steps()
with freed_memory_kept(torch.device("cpu")):
    faults_of_ten_steps()  # until it has what it needs
    within = faults_of_ten_steps()
faults_of_ten_steps()
print(before, within, faults_of_ten_steps())
"""


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="device: 'abacus' cannot be used"):
        choose_device("abacus")


@pytest.mark.skipif(sys.platform != "linux", reason="for glibc's allocator")
def test_a_process_on_a_cpu_keeps_the_memory_that_it_frees():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    before, within, after = map(int, done.stdout.split())
    assert within < before / 10, "the pages of a tensor were given back and taken anew"
    assert after > before / 2, "the process is not as it was"
