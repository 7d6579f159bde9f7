"""Another batch size, or another temperature, does not trigger a compilation."""

from functools import partial

import pytest
import torch
from cases import CASES
from steps import loss_step

from bench.rehearsal import launches
from sslkernels import functional

D = 20
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def compiles_anew(first, *others):
    """The kernels that later steps compile anew, with their new specialisation."""
    launches.forget()
    start = len(launches.compilations)
    first()
    end = len(launches.compilations)
    for step in others:
        step()
    known, new = launches.compilations[start:end], launches.compilations[end:]
    return [f"{x.kernel}: {', '.join(difference(x, known))}" for x in new]


def difference(new, known):
    """The arguments in which it differs from the closest one of the same kernel."""
    alike = [x.arguments() for x in known if x.kernel == new.kernel and x.module == new.module]
    differences = ({a for a, x in new.arguments().items() if x != old[a]} for old in alike)
    return sorted(min(differences, key=len, default={"the first of its kind"}))


@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_another_batch_size(name, dtype):
    """For multiples of 16; other sizes are a further case if they are strides."""
    assert not compiles_anew(*(loss_step(name, n, D, dtype) for n in (304, 1024)))


@each_dtype
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.scalars])
def test_another_learned_scalar(name, dtype):
    scalars = CASES[name].scalars
    halves = [x / 2 for x in scalars]
    assert not compiles_anew(*(loss_step(name, 300, D, dtype, x) for x in (scalars, halves)))


@pytest.mark.parametrize("loss", [
    lambda x, t: functional.nt_xent(*x, t),
    lambda x, t: functional.info_nce(*x, None, t),
    lambda x, t: functional.clip(*x, 1 / t),
    lambda x, t: functional.dino(student=x, teacher=x, student_temp=t, teacher_temp=t / 2),
    lambda x, t: functional.swav(x, temperature=t, epsilon=t / 2),
    lambda x, t: functional.msn(*x, x[0].detach(), temperature=t),
], ids=["nt_xent", "info_nce", "clip", "dino", "swav", "msn"])  # fmt: skip
def test_another_temperature(loss):
    views = [torch.randn(300, D, device="cuda", requires_grad=True) for _ in range(2)]
    assert not compiles_anew(
        *(partial(lambda t: loss(views, t).backward(), t) for t in (0.1, 0.125, 0.3, 1.0))
    )
