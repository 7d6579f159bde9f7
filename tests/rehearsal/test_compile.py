"""Recordings match the keys of Triton's cache at a launch, and compile for an H100."""

import inspect
import pkgutil
from importlib import import_module

import pytest
import torch
import triton
from steps import loss_step
from test_primitives import LOSSES, PRIMITIVES, run
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.compiler.compiler import get_cache_key
from triton.runtime.jit import JITFunction

import sslkernels.primitives
from bench.rehearsal import launches, recording
from bench.rehearsal.compile import compile_all, fault, one_of_each

TARGET = GPUTarget("cuda", 90, 32)


def kernels():
    """All kernels of the package."""
    package = sslkernels.primitives
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if info.name.rpartition(".")[2].lstrip("_").startswith("triton"):
            for name, x in inspect.getmembers(import_module(info.name)):
                if isinstance(x, JITFunction) and name.endswith("_kernel"):
                    yield x.fn.__module__, name


def test_the_recording_has_the_keys_of_launches(monkeypatch, tmp_path):
    sources = []

    def record(self, key, signature, device, constexprs, options, attrs, warmup):
        sources.append((ASTSource(self, signature, constexprs, attrs), vars(options)))
        return launches.record(self, key, signature, device, constexprs, options, attrs, warmup)

    monkeypatch.setattr(JITFunction, "_do_compile", record)
    before = len(launches.compilations)
    for name in ("nt_xent", "siglip", "vicreg", "dino", "swav", "koleo"):
        loss_step(name, 71, 21, torch.bfloat16)()  # sizes that no other test uses
    recorded = list(launches.compilations)[before:]
    assert len(recorded) == len(sources) > 10
    file = tmp_path / "recording.json"
    recording.write(file, recorded)
    for (source, options), found in zip(sources, recording.read(file), strict=True):
        assert key_of(found.source(), dict(found.options)) == key_of(source, options)


def key_of(source, options):
    backend = make_backend(TARGET)
    return get_cache_key(source, backend, backend.parse_options(dict(options)), env_vars={})


def test_a_recording_of_another_triton_is_refused(monkeypatch, tmp_path):
    recording.write(tmp_path / "recording.json", [])
    monkeypatch.setattr(triton, "__version__", "0.0")
    with pytest.raises(ValueError, match="was recorded with Triton"):
        recording.read(tmp_path / "recording.json")


def test_every_kernel_compiles_for_an_h100(monkeypatch, tmp_path):
    launches.forget()
    before = len(launches.compilations)
    for primitive in PRIMITIVES:
        for dtype in (torch.float32, torch.bfloat16):
            run(primitive, dtype, "auto")
            if primitive in LOSSES:
                run(primitive, dtype, "triton")
    chosen = one_of_each(launches.compilations[before:])
    assert {(x.module, x.kernel) for x in chosen} == set(kernels())
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    assert list(compile_all(chosen)) == []


SPILLING = """
import triton
import triton.language as tl

@triton.jit
def greedy_kernel(x_ptr, BLOCK: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BLOCK))
    tl.store(x_ptr + tl.arange(0, BLOCK), x - tl.sum(x))
"""


def test_a_kernel_that_spills_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "greedy.py").write_text(SPILLING)
    monkeypatch.syspath_prepend(tmp_path)
    greedy = recording.Specialisation(
        "greedy", "greedy_kernel", (("x_ptr", "*fp32"), ("BLOCK", "constexpr")),
        (((1,), 16384),), (((0,), (("tt.divisibility", 16),)),), (("num_warps", 1),),
    )  # fmt: skip
    assert "bytes of stack" in fault(greedy)
