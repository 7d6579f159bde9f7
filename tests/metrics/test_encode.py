"""Features of images, in evaluation mode."""

import pytest
import torch
from torch import nn

from sslkernels.metrics import encode
from sslkernels.metrics.encode import autocast, settle_precision


def test_is_evaluation_mode_and_each_part_returns_to_its_own():
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5))
    encoder[2].eval()
    batches = [(torch.randn(3, 1, 2, 2), torch.arange(3)), (torch.randn(2, 1, 2, 2), torch.ones(2))]
    features, labels = encode(encoder, batches)
    expected = torch.cat([images.flatten(1) for images, _ in batches]) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(features, expected)
    assert labels.tolist() == [0, 1, 2, 1, 1]
    assert encoder.training and encoder[1].training and not encoder[2].training
    assert encoder[1].num_batches_tracked == 0
    assert not features.requires_grad


@pytest.mark.parametrize("known, expected", [
    ({"avx512_bf16": True, "avx2": True}, "bfloat16"),
    ({"amx_bf16": True}, "bfloat16"),
    ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, "float32"),
    ({}, "float32"),
])  # fmt: skip
def test_auto_is_what_the_device_has_instructions_for(monkeypatch, known, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    cpu = torch.device("cpu")
    assert settle_precision("auto", cpu) == expected
    assert [settle_precision(x, cpu) for x in ("float32", "float16")] == ["float32", "float16"]
    enabled = autocast(cpu, "auto")._enabled
    assert enabled == (expected == "bfloat16")


def test_precision_is_that_of_the_network_alone():
    seen = []
    encoder = nn.Linear(4, 3)
    encoder.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    batches = [(torch.randn(2, 4), torch.zeros(2))]
    found = [encode(encoder, batches, precision)[0] for precision in ("float32", "bfloat16")]
    assert seen == [torch.float32, torch.bfloat16]
    assert all(features.dtype == torch.float32 for features in found)
