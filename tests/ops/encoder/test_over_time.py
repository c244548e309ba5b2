"""The convolution over time of rows, against torch's."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.ops.encoder.over_time import convolve_over_time


@pytest.mark.parametrize("taps", [1, 5])
@pytest.mark.parametrize(
    ("times", "dilation", "stride"),
    [(5, 1, 1), (6, 2, 1), (5, 4, 1), (1, 1, 1), (2, 3, 1), (6, 1, 2), (7, 1, 2), (7, 1, 3), (1, 1, 2)],
)
def test_it_is_conv1d_with_first_and_second_derivatives(taps, times, dilation, stride):
    clips = 2
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    x, weight, bias = draw(times * clips, 2), draw(4, 2, taps), draw(4)

    def ours(x, weight, bias):
        return convolve_over_time(x, weight, bias, clips=clips, dilation=dilation, stride=stride)

    channels_first = x.view(times, clips, 2).permute(1, 2, 0)
    expected = F.conv1d(channels_first, weight, bias, stride, taps // 2 * dilation, dilation)
    torch.testing.assert_close(ours(x, weight, bias), expected.permute(2, 0, 1).reshape(-1, 4))
    assert torch.autograd.gradcheck(ours, (x, weight, bias))
    assert torch.autograd.gradgradcheck(ours, (x, weight, bias))
