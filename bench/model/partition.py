"""One of the four partitions of an SM, which issues at most one instruction per clock."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from itertools import pairwise

from .machine import Machine, Step, flops_of_warp

NEVER = math.inf
QUEUES = {"tensor": 160, "mio": 48}  # clocks of queued work before warps must wait


@dataclass
class Warp:
    cta: int
    next: int = 0  # index of its next instruction
    ready: float = 0.0
    held_by: str = "its stall count"  # until then
    at_barrier: bool = False
    scoreboards: list[float] = field(default_factory=lambda: [0.0] * 6)
    groups: dict[str, deque[float]] = field(
        default_factory=lambda: {"wgmma": deque([0.0] * 9, 9), "copy": deque([0.0] * 9, 9)}
    )
    copied: float = 0.0  # arrival of its last copy
    ends: list[float] = field(default_factory=list)  # of its iterations


@dataclass(frozen=True)
class Wait:
    """Clocks between an instruction of a warp and the previous one, and the last cause."""

    clocks: float
    number: int
    step: Step
    reason: str


@dataclass(frozen=True)
class Result:
    """``clocks``: of an SM per iteration of one CTA, while all its CTAs run."""

    clocks: float
    flops: int  # of a CTA's tensor cores per iteration
    busy: dict[str, float]  # share of the time, by pipe
    waits: list[Wait]  # of one warp in its last iteration


class Partition:
    """A quarter of an SM: one warp of each warpgroup of each CTA."""

    def __init__(
        self, steps: list[Step], warps: int, ctas: int, machine: Machine, dram_share: float = 0.0
    ):
        self.steps, self.machine, self.dram_share = steps, machine, dram_share
        self.warps = [Warp(cta) for cta in range(ctas) for _ in range(max(1, warps // 4))]
        self.last: Warp | None = None
        self.clock = 0.0
        self.fma = [0.0, 0.0]  # when each half is free; only the first takes IMAD
        self.free: dict[str, float] = defaultdict(float)
        self.busy: Counter[str] = Counter()
        self.issued: list[tuple[float, int, str]] = []  # of the first warp: clock, number, reason

    def run(self, iterations: int) -> Result:
        """Run until every warp has done ``iterations``; the first third is not counted."""
        self._advance_to(iterations // 3)
        start, busy, done = self.clock, Counter(self.busy), self._done()
        self._advance_to(iterations)
        time = self.clock - start
        per_cta = len(self.warps) // len({w.cta for w in self.warps})
        return Result(
            clocks=time * per_cta / (self._done() - done),
            flops=flops_of_warp(self.steps) * 4 * per_cta,
            busy={pipe: (clocks - busy[pipe]) / time for pipe, clocks in self.busy.items()},
            waits=self._waits(),
        )

    def _advance_to(self, iterations: int) -> None:
        """Advance all warps, unless some that never wait prevent others from issuing."""
        enough = 3 * iterations * len(self.warps)
        while min(len(w.ends) for w in self.warps) < iterations and self._done() < enough:
            self._advance()

    def _done(self) -> int:
        return sum(len(w.ends) for w in self.warps)

    def _waits(self) -> list[Wait]:
        before, last = self.warps[0].ends[-2:]
        issued = [x for x in self.issued if before <= x[0] <= last]
        return [
            Wait(at - then, number, self.steps[number], reason)
            for (then, _, _), (at, number, reason) in pairwise(issued)
        ]

    def _advance(self) -> None:
        """Issue one instruction, or wait until one can be issued."""
        soonest = NEVER
        for warp in sorted(self.warps, key=lambda w: w is self.last):
            at, reason = self._earliest(warp)
            if at <= self.clock:
                if warp is self.warps[0]:
                    late = "other warps' turn" if at < self.clock - 1 else reason
                    self.issued.append((self.clock, warp.next, late))
                self._issue(warp)
                self.last = warp
                self.clock += 1
                return
            soonest = min(soonest, at)
        if soonest == NEVER:
            raise RuntimeError("every warp waits for another: this path cannot run by itself")
        self.clock = max(self.clock + 1, soonest)

    def _earliest(self, warp: Warp) -> tuple[float, str]:
        """The earliest time of the warp's next instruction, and what holds it up longest."""
        if warp.at_barrier:
            return NEVER, "barrier"
        step = self.steps[warp.next]
        when = {warp.held_by: warp.ready}
        for i in range(6):
            if step.instruction.wait >> i & 1:
                when["a result"] = max(when.get("a result", 0.0), warp.scoreboards[i])
        if step.pipe == "fma":
            when["fma"] = min(self.fma)
        elif step.pipe == "imad":
            when["fma"] = self.fma[0]
        elif step.pipe:
            when[step.pipe] = self.free[step.pipe] - QUEUES.get(step.pipe, 0)
        if step.waits_for:
            after = self.machine.wgmma_latency if step.waits_for == "wgmma" else 0
            when[step.waits_for] = warp.groups[step.waits_for][-1 - step.pending] + after
        reason = max(when, key=when.get)
        return when[reason], reason

    def _issue(self, warp: Warp) -> None:
        step, now, machine = self.steps[warp.next], self.clock, self.machine
        x, pipe = step.instruction, step.pipe
        result = now + step.latency
        read = now + 6
        if pipe == "fma":
            half = 1 if self.fma[1] <= now or self.fma[1] < self.fma[0] else 0
            self.fma[half] = max(self.fma[half], now) + 2
            self.busy["fma"] += 1
        elif pipe == "imad":
            self.fma[0] = max(self.fma[0], now) + 2
            self.busy["fma"] += 1
        elif pipe:
            end = self._occupy(pipe, step.clocks)
            if pipe == "xu":
                result = max(result, end + 12)
            elif pipe == "tensor" and step.commits:
                warp.groups["wgmma"].append(end)
            elif pipe == "mio":
                result = max(result, end + step.latency - 4)
                read = max(now + 8, end)
        if step.copied:  # a quarter of the SM's bandwidth is this partition's
            arrived = self._occupy("l2", step.copied * 4 / machine.l2_bytes) + machine.l2_latency
            warp.copied = max(warp.copied, arrived)
        if self.dram_share and step.moved:
            moved = step.moved * self.dram_share * 4 / machine.dram_bytes
            end = self._occupy("dram", moved)
            if x.opcode.startswith("LDG"):
                result = max(result, end + machine.dram_latency)
        if step.commits == "copy":
            warp.groups["copy"].append(warp.copied or now)
        if x.write != 7:
            warp.scoreboards[x.write] = max(warp.scoreboards[x.write], result)
        if x.read != 7:
            warp.scoreboards[x.read] = max(warp.scoreboards[x.read], read)
        warp.ready, warp.held_by = now + max(1, x.stall), "its stall count"
        if x.opcode.startswith("WARPGROUP.ARRIVE"):
            warp.ready = max(warp.ready, now + 6)
        elif x.opcode.startswith("BAR.SYNC"):
            self._wait_at_barrier(warp)
        warp.next += 1
        if warp.next == len(self.steps):
            warp.next = 0
            warp.ends.append(now)

    def _occupy(self, pipe: str, clocks: float) -> float:
        self.free[pipe] = max(self.free[pipe], self.clock) + clocks
        self.busy[pipe] += clocks
        return self.free[pipe]

    def _wait_at_barrier(self, warp: Warp) -> None:
        warp.at_barrier = True
        cta = [w for w in self.warps if w.cta == warp.cta]
        if all(w.at_barrier for w in cta):
            for w in cta:
                w.at_barrier = False
                w.ready, w.held_by = max(w.ready, self.clock + 20), "barrier"
