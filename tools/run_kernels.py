"""Run every op of the installed extension, forwards and back, and the reader of .skeleton on a corpus.

    python tools/run_kernels.py CORPUS.zip

For sanitizers, see tools/sanitize.sh; exits with 1 where an op differs from its reference.
"""

import sys
import zipfile

import torch
from ikem_fast._skeleton_io import parse

import ikem_fast
from ikem_fast.data import preprocess_clip
from ikem_fast.nn.encoders.stgcn import STGCN
from ikem_fast.selftest import self_test


def main(corpus: str) -> int:
    print(ikem_fast.__file__)
    torch.set_num_threads(2)
    wrong = 0
    for outcome in self_test(torch.device("cpu")):
        print(f"{outcome.name:30} {outcome.problem or outcome.error}", flush=True)
        wrong += outcome.error is None or outcome.problem is not None
    odd = torch.randn(3, 3, 7, 25, 1)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            STGCN(hidden_channels=4, hidden_dim=12, impl="fused")(odd)[1].float().sum().backward()
    preprocess_clip(torch.randn(3, 1, 25, 2).numpy())
    read = 0
    with zipfile.ZipFile(corpus) as archive:
        for name in archive.namelist():
            try:
                parse(archive.read(name))
                read += 1
            except ValueError:
                pass
    print(f"{read} files of the corpus read")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
