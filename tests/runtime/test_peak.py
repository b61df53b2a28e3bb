"""Peaks of GPUs are found by the names that the cards give themselves."""

import pytest
import torch

from latentline.runtime.peak import peak_by_name, peak_tflops


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H200", 989.4),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA A10G", None),
        ("Tesla T4", None),
    ],
)
def test_a_card_has_the_peak_of_its_data_sheet(name, bf16):
    assert peak_by_name(name, "bf16") == bf16


def test_precisions_have_peaks_of_their_own():
    assert [peak_by_name("NVIDIA A100-SXM4-80GB", name) for name in ("float32", "tf32", "fp16")] == [19.5, 156.0, 312.0]
    assert peak_by_name("Tesla T4", "fp16") == 65.0


def test_the_peak_of_a_cpu_is_not_stated():
    assert peak_tflops(torch.device("cpu"), "float32") is None
