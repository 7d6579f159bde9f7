"""The same curve: SimCLR, VICReg and DINO, trained with lightly's losses and with ours.

    python -m bench.curves --save

Every run of a seed starts from the same weights and reads the same views of handwritten digits.
Two runs in float32 drift apart within some tens of steps whatever the loss: training amplifies
rounding. So three comparisons are made.

- At every step of a run with lightly's loss, both losses get the same embeddings: the relative
  errors of their values and gradients against lightly's loss in float64.
- Free runs in float64, where rounding is 10^9 times smaller.
- Free runs in float32, beside a second run with lightly's loss that begins with one weight changed
  in its last bit; and the kNN accuracy after training, over several seeds.

Written are ``bench/results/<device>/curves.json``, ``docs/same_curve.png`` and
``docs/same_curve.md``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslkernels import NTXentLoss
from sslkernels.train.datasets import Data, open_data
from sslkernels.train.methods import METHODS, Method
from sslkernels.train.methods.prototypes import PrototypeMethod, PrototypeRecipe
from sslkernels.train.methods.self_distillation import TEACHER_VIEWS
from sslkernels.train.optimizers import make_optimizer, set_schedule
from sslkernels.train.recipe import Recipe
from sslkernels.train.run import make_method, online_evaluation

from .curve_page import table, write_page
from .machine import describe_machine, slug
from .peers import lightly_loss

METHOD_NAMES = ("simclr", "vicreg", "dino")
FLOAT64_STEPS = 150  # of each run in float64, which is slow
RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
Loss = Callable[..., Tensor]


@dataclass
class Curve:
    """A run: the loss of every step, and the kNN accuracy after the last.

    Attributes:
        loss: of every step.
        errors: by "lightly" or "ours", and by "value" or "gradient": the relative error of every
            step against lightly's loss in float64.
        accuracy: of the backbone, on test images.
    """

    loss: list[float] = field(default_factory=list)
    errors: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    accuracy: float | None = None


def train_curve(
    name: str,
    seed: int,
    epochs: int,
    *,
    steps: int | None = None,
    theirs: bool,
    compare: bool = False,
    nudge: bool = False,
    dtype: torch.dtype = torch.float32,
    evaluate: bool = False,
) -> Curve:
    """Train a method on the digits.

    Args:
        name: of the method.
        seed: of weights and views.
        epochs: how many the schedules are made for.
        steps: stop after this many; default: all.
        theirs: train with lightly's loss.
        compare: compute the other loss, and lightly's in float64, on the same embeddings.
        nudge: change one weight by one unit in the last place before training.
        dtype: of the network, its inputs and the loss.
        evaluate: measure kNN accuracy at the end.
    """
    recipe = METHODS[name][1](epochs=epochs, seed=seed, precision="float32", reader="memory")
    if isinstance(recipe, PrototypeRecipe):  # lightly's loss rounds the temperature to float32
        temperature = torch.tensor(recipe.teacher_temperature).item()
        recipe = replace(
            recipe, teacher_temperature=temperature, first_teacher_temperature=temperature
        )
    data = open_data(recipe, CPU)
    method = make_method(name, recipe, data).to(dtype)
    losses = {"ours": method.loss, "lightly": lightly_objective(method)}
    who, other = ("lightly", "ours") if theirs else ("ours", "lightly")
    exact = lightly_objective(method)
    if nudge:
        weight = next(method.parameters()).data.view(-1)
        weight[0] = torch.nextafter(weight[0], weight.new_tensor(torch.inf))
    optimizer = make_optimizer(method, recipe)
    curve = Curve()
    method.train()
    for inputs in islice(_inputs(method, data, recipe, optimizer, dtype), steps):
        embeddings = method(*inputs)
        value = losses[who](*embeddings)
        if compare:
            found = {who: _gradient(value, embeddings, method)}
            found[other] = _on_copies(losses[other], embeddings, torch.float32, method)
            truth = _on_copies(exact, embeddings, torch.float64, method)
            for each, errors in _relative(found, truth).items():
                for kind, error in errors.items():
                    curve.errors.setdefault(each, {}).setdefault(kind, []).append(error)
        optimizer.zero_grad()
        value.backward()
        method.before_step()
        optimizer.step()
        curve.loss.append(value.item())
    if evaluate:
        method.eval()
        curve.accuracy = online_evaluation(data, "float32", CPU)(method.backbone)["knn_accuracy"]
    return curve


def _inputs(
    method: Method,
    data: Data,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    dtype: torch.dtype,
) -> Iterator[tuple[Tensor, ...]]:
    """The views of every step; schedules and teachers follow as in ``sslkernels.train``."""
    batches = data.batches()
    step, steps = 0, recipe.epochs * len(batches)
    while step < steps:
        for batch in batches:
            method.progress = step / steps
            set_schedule(optimizer, recipe, step, len(batches))
            yield method.inputs(batch._replace(views=[view.to(dtype) for view in batch.views]))
            step += 1
            method.progress = step / steps
            method.after_step()


def lightly_objective(method: Method) -> Loss:
    """lightly's loss with the settings of ours, as a function of the method's embeddings."""
    if isinstance(method, PrototypeMethod):
        return _lightly_dino(method)
    ours = method.loss
    if isinstance(ours, NTXentLoss):
        return lightly_loss("NTXentLoss")(temperature=ours.temperature)
    return lightly_loss("VICRegLoss")(ours.lambda_param, ours.mu_param, ours.nu_param)


def _lightly_dino(method: PrototypeMethod) -> Loss:
    """lightly's DINO and KoLeo losses, of logits: ours takes features and prototypes."""
    recipe = method.recipe
    class_loss = lightly_loss("DINOLoss")(
        recipe.prototypes,
        student_temp=recipe.student_temperature,
        center_momentum=recipe.center_momentum,
    )
    koleo_loss = lightly_loss("KoLeoLoss")()

    def loss(*embeddings: Tensor) -> Tensor:
        student, teacher = embeddings[:-TEACHER_VIEWS], embeddings[-TEACHER_VIEWS:]
        class_loss.to(student[0].dtype)
        own, their = (
            torch.nn.functional.normalize(network.prototypes.to(student[0].dtype), dim=1)
            for network in (method.student, method.teacher)
        )
        value = class_loss(
            [x @ their.T for x in teacher],
            [x @ own.T for x in student],
            teacher_temp=method.teacher_temperature,
        )
        return value + recipe.koleo * sum(koleo_loss(x) for x in student[:TEACHER_VIEWS])

    return loss


def _on_copies(
    loss: Loss, embeddings: Sequence[Tensor], dtype: torch.dtype, method: Method
) -> tuple[float, Tensor]:
    copies = [x.detach().to(dtype).requires_grad_(x.requires_grad) for x in embeddings]
    return _gradient(loss(*copies), copies, method)


def _gradient(value: Tensor, embeddings: Sequence[Tensor], method: Method) -> tuple[float, Tensor]:
    """The value, and its gradient in all embeddings that have one and in the prototypes."""
    leaves = [x for x in embeddings if x.requires_grad]
    if isinstance(method, PrototypeMethod):
        leaves.append(method.student.prototypes)
    gradients = torch.autograd.grad(value, leaves, retain_graph=True)
    return value.item(), torch.cat([x.double().flatten() for x in gradients])


def _relative(
    found: dict[str, tuple[float, Tensor]], truth: tuple[float, Tensor]
) -> dict[str, dict[str, float]]:
    return {
        who: {
            "value": abs(value / truth[0] - 1),
            "gradient": ((gradient - truth[1]).norm() / truth[1].norm()).item(),
        }
        for who, (value, gradient) in found.items()
    }


def measure(name: str, seeds: int, epochs: int, log: Callable[[str], None]) -> dict[str, object]:
    """All runs of a method.

    Returns:
        ``curves``: of seed 0, by name; ``accuracy``: "lightly" and "ours", of each seed.
    """
    start = time.perf_counter()

    def run(about: str, seed: int = 0, **options: Any) -> Curve:
        curve = train_curve(name, seed, epochs, **options)
        accuracy = "" if curve.accuracy is None else f", kNN {curve.accuracy:.1%}"
        seconds = time.perf_counter() - start
        log(f"{name}: {about}: loss {curve.loss[-1]:.4f}{accuracy}; {seconds:.0f} s")
        return curve

    curves = {
        "lightly": run("lightly's loss, ours beside it", theirs=True, compare=True, evaluate=True),
        "ours": run("our loss", theirs=False, evaluate=True),
        "nudged": run("lightly's loss, one bit changed", theirs=True, nudge=True),
    }
    double = {"dtype": torch.float64, "steps": FLOAT64_STEPS}
    curves["lightly, float64"] = run("lightly's loss in float64", theirs=True, **double)
    curves["ours, float64"] = run("our loss in float64", theirs=False, **double)
    accuracy = {who: [curves[who].accuracy] for who in ("lightly", "ours")}
    for seed in range(1, seeds):
        for who, found in accuracy.items():
            theirs = who == "lightly"
            found.append(run(f"{who}, seed {seed}", seed, theirs=theirs, evaluate=True).accuracy)
    return {"curves": {who: asdict(curve) for who, curve in curves.items()}, "accuracy": accuracy}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print a line per run, and write results, picture and page."""
    parser = argparse.ArgumentParser(prog="python -m bench.curves", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--save", action="store_true", help="write results, picture and page")
    arguments = parser.parse_args(argv)
    machine = describe_machine("cpu")
    methods = {
        name: measure(name, arguments.seeds, arguments.epochs, partial(print, flush=True))
        for name in METHOD_NAMES
    }
    words = ["python", "-m", "bench.curves", *(sys.argv[1:] if argv is None else argv)]
    content = {
        "op": "curves", **machine, "command": shlex.join(words),
        "peer": f"lightly {version('lightly')}", "epochs": arguments.epochs, "methods": methods,
    }  # fmt: skip
    print(table(content))
    if arguments.save:
        path = RESULTS / slug(str(machine["device"])) / "curves.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        write_page(content)


if __name__ == "__main__":
    main()
