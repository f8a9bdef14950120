"""What every training has in common: batches, an optimiser, averaged weights, and a stop by held-out rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pwflow_core.modelling.flow import TrainingHistory
from pwflow_core.modelling.settings import FlowSettings

__all__ = ["Adam", "Batches", "EarlyStopping", "average_into", "batch_size", "run_passes", "train_one", "using_threads"]

Copy = TypeVar("Copy")


@contextmanager
def using_threads(threads: int) -> Iterator[None]:
    """Let torch use this many threads in the block, and as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def batch_size(n_rows: int, settings: FlowSettings) -> int:
    """Return the power of two that passes over the rows in about `settings.steps_per_pass` steps, within its bounds."""
    power = 1 << round(np.log2(max(n_rows / settings.steps_per_pass, 1.0)))
    size = int(np.clip(power, settings.min_batch, settings.max_batch))
    return min(size, 1 << int(np.log2(max(n_rows, 1))))


class Batches:
    """Positions of rows in random order, each once before any comes again; a rest smaller than a batch is left out."""

    def __init__(self, n_rows: int, size: int, random_state: int) -> None:
        self.n_rows, self.size = n_rows, size
        self._generator = torch.Generator().manual_seed(random_state)
        self._order = torch.empty(0, dtype=torch.long)

    def next(self) -> Tensor:
        """Return the next batch, shape (size,)."""
        if len(self._order) < self.size:
            self._order = torch.randperm(self.n_rows, generator=self._generator)
        pick, self._order = self._order[: self.size], self._order[self.size :]
        return pick


def average_into(mean: Tensor, parameters: Tensor, step: int, settings: FlowSettings) -> None:
    """Move the averaged weights towards the current ones after this many steps; in the first ones by more."""
    mean.lerp_(parameters, 1 - min(settings.averaging, (1 + step) / (10 + step)))


@dataclass
class EarlyStopping:
    """The best score so far, and for how many passes none was better."""

    patience: int
    best_score: float = -np.inf
    since_best: int = 0
    stopped: str = "max_steps"

    def improves(self, score: float) -> bool:
        """Take the score of a pass; tell whether it is the best."""
        better = bool(np.isfinite(score)) and score > self.best_score
        self.best_score, self.since_best = (score, 0) if better else (self.best_score, self.since_best + 1)
        if not np.isfinite(score):
            self.stopped = "diverged"
        elif self.since_best >= self.patience:
            self.stopped = "patience"
        return better

    @property
    def goes_on(self) -> bool:
        """Whether another pass is worth it."""
        return self.stopped == "max_steps"


def run_passes(settings: FlowSettings, judge: Callable[[int], bool], step: Callable[[int], None]) -> None:
    """Take gradient steps 1, 2, ...; before the first and after each pass, `judge` says whether to go on."""
    done, going = 0, judge(0)
    while going and done < settings.max_steps:
        done += 1
        step(done)
        if done % settings.steps_per_pass == 0:
            going = judge(done)


def train_one(
    settings: FlowSettings, judge: Callable[[], float], copy: Callable[[], Copy], step: Callable[[int], None]
) -> tuple[Copy, TrainingHistory]:
    """Train one model and keep the copy of it that does best.

    Arguments:
        settings: How long, and with how many threads.
        judge: Returns the mean log-density of held-out rows, nats.
        copy: Returns a copy of what `judge` judged.
        step: Takes a gradient step, the first of which is 1.

    Returns:
        The best copy, and how it came about.

    """
    stopping, history, started = EarlyStopping(settings.patience), TrainingHistory(), time.perf_counter()
    best, best_step = copy(), 0

    def look(step: int) -> bool:
        nonlocal best, best_step
        history.steps.append(step)
        history.held_out.append(judge())
        if stopping.improves(history.held_out[-1]):
            best, best_step = copy(), step
        return stopping.goes_on

    with using_threads(settings.threads):
        run_passes(settings, look, step)
    seconds = time.perf_counter() - started
    return best, TrainingHistory(history.steps, [], history.held_out, best_step, seconds, stopped=stopping.stopped)


class Adam:
    """Adam on rows of a matrix, each row clipped by its own norm."""

    def __init__(self, parameters: Tensor, decay: Tensor, settings: FlowSettings) -> None:
        self.first = torch.zeros_like(parameters)
        self.second = torch.zeros_like(parameters)
        self.decay = 1 - settings.learning_rate * decay
        self.settings = settings
        self.count = 0

    def step(self, parameters: Tensor, gradient: Tensor) -> None:
        """Change the parameters in place."""
        self.count += 1
        norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
        gradient = gradient * (self.settings.clip / (norm + 1e-12)).clamp(max=1.0)
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        rate = self.settings.learning_rate / (1 - 0.9**self.count)
        parameters.mul_(self.decay)
        denominator = (self.second / (1 - 0.99**self.count)).sqrt_().add_(1e-8)
        parameters.addcdiv_(self.first, denominator, value=-rate)

    def keep(self, rows: list[int]) -> None:
        """Forget all flows but these."""
        self.first, self.second, self.decay = self.first[rows], self.second[rows], self.decay[rows]
