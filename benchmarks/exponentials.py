"""How many exponentials Toeplitz coefficients need, by method: error, time, and what comes after the last lag.

    python benchmarks/exponentials.py RUN [RUN ...]

Prints a table over the kernels of trained runs and untrained ones of the paper's size. Errors are at lags 1 .. N-1:
relative to the channel's norm (median and worst channel), and the largest of all. "After": lags N .. 16 N - 1,
relative to the same norm. The methods differ in the poles alone, which they find from the values at lags 1 .. N-1.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import numpy as np
import scipy
import torch
from numpy import ndarray
from torch import Tensor

from experiments.train import load_model
from mixers import build
from mixers.ops.exponentials import exact_exponentials, exponential_sum, fit_exponentials
from mixers.toeplitz.operator import Operator

ORDERS, CHANNELS, FURTHER = (8, 16, 32, 64), 16, 16  # 16 N lags


def balanced(values: ndarray, modes: int) -> ndarray:
    """ERA: the Hankel matrix and the shifted one between the balanced halves of the first."""
    half = len(values) // 2
    left, sizes, right = np.linalg.svd(scipy.linalg.hankel(values[:half], values[half - 1 : 2 * half - 1]))
    modes = min(modes, half, (sizes > 1e-11 * sizes[0]).sum())
    shifted = left[:, :modes].T @ scipy.linalg.hankel(values[1 : half + 1], values[half : 2 * half]) @ right[:modes].T
    return np.linalg.eigvals(shifted / np.sqrt(np.outer(sizes[:modes], sizes[:modes])))


def finite(values: ndarray, modes: int) -> ndarray:
    """Balanced truncation of the finite impulse response: as Kung, with zeros after the last lag; always stable."""
    left, sizes, _ = np.linalg.svd(scipy.linalg.hankel(values))
    left = left[:, : min(modes, (sizes > 1e-11 * sizes[0]).sum())]
    return np.linalg.eigvals(left[:-1].T @ left[1:])


def prony(values: ndarray, modes: int) -> ndarray:
    """Least-squares linear prediction; the poles are the roots of the predictor."""
    modes = min(modes, len(values) // 2)
    past = scipy.linalg.toeplitz(values[modes - 1 : -1], values[modes - 1 :: -1][:modes])
    return np.roots(np.r_[1, -np.linalg.lstsq(past, values[modes:], rcond=1e-11)[0]])


def rational(values: ndarray, modes: int) -> ndarray:
    """AAA on the frequency response."""
    points = np.exp(1j * np.pi * np.arange(2 * len(values)) / len(values))
    response = np.fft.fft(values, len(points)).conj()  # sum over k of h_k z^k at z, poles 1 / p
    return 1 / scipy.interpolate.AAA(points, response, max_terms=modes + 1, rtol=1e-11, clean_up=False).poles()


def _stable(poles: ndarray) -> ndarray:
    radius = np.abs(poles).clip(1e-12)
    return poles / radius * np.exp(np.log(radius).clip(np.log(1e-3), -1e-7))


def by_channel(find: Callable[[ndarray, int], ndarray]) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """Rates and weights (D, order) of coefficients (N, D) from the poles that `find` gives for one channel's values."""

    def fit(coefficients: Tensor, order: int) -> tuple[Tensor, Tensor]:
        rate, weight = torch.zeros(2, coefficients.shape[1], order, dtype=torch.complex128)
        for channel, values in enumerate(coefficients[1:].T.numpy()):
            modes, poles = 2 * order, np.zeros(2 * order)
            while len(poles) > order:
                poles = find(values, modes)
                poles = poles[poles.imag > -1e-9]
                modes -= max(len(poles) - order, 1)
            stable = _stable(poles.astype(complex))
            table = stable ** np.arange(len(values))[:, None]
            solution = np.linalg.lstsq(np.hstack([table.real, -table.imag]), values, rcond=1e-12)[0]
            rate[channel, : len(poles)] = torch.from_numpy(np.log(stable))
            weight[channel, : len(poles)] = torch.from_numpy(solution.reshape(2, -1).T @ [1, 1j] / stable)
        return rate, weight

    return fit


RIVALS = (balanced, finite, prony, rational)
METHODS = {"kung": fit_exponentials} | {find.__name__: by_channel(find) for find in RIVALS}


def kernels(folders: list[str]) -> Iterator[tuple[str, int, Tensor, Tensor]]:
    """Name, N, coefficients (16 N, D) of some channels, and their decay (D,)."""
    for folder in folders:
        _, task, model = load_model(Path(folder))
        yield Path(folder).name, task.length, *_coefficients(model.cpu(), task.length)
    torch.manual_seed(0)
    yield "untrained", 512, *_coefficients(build("gtu", 512, causal=True), 512)


@torch.no_grad()
def _coefficients(model: torch.nn.Module, length: int) -> tuple[Tensor, Tensor]:
    operators = [module.double() for module in model.modules() if isinstance(module, Operator)]
    found = torch.cat([operator.coefficients(FURTHER * length) for operator in operators], dim=1)
    some = torch.linspace(0, found.shape[1] - 1, CHANNELS).long()
    rates = torch.cat([operator.coefficients.decay.rates(torch.float64) for operator in operators])
    return found[:, some], torch.exp(-rates)[some]


def etsc(coefficients: Tensor, decay: Tensor) -> tuple[Tensor, Tensor]:
    rate, weight = exact_exponentials(coefficients / decay ** torch.arange(len(coefficients))[:, None])
    return rate + decay.log()[:, None], weight


def row(label: str, length: int, true: Tensor, fit: Callable[[], tuple[Tensor, Tensor]]) -> str:
    start = time.perf_counter()
    rate, weight = fit()
    seconds = time.perf_counter() - start
    error = exponential_sum(rate, weight, len(true)) - true
    scale = true[1:length].norm(dim=0)
    inside, after = error[1:length].norm(dim=0) / scale, error[length:].norm(dim=0) / scale
    numbers = inside.median(), inside.max(), error[1:length].abs().max(), after.median(), after.max()
    cells = " | ".join(f"{number:.0e}" for number in numbers)
    return f"| {label} | {rate.shape[1]} | {cells} | {1000 * seconds / true.shape[1]:.1f} |"


def main(folders: list[str]) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="AAA failed to converge")
    print(
        "| kernels | method | order | median | worst | largest | after, median | worst | ms a channel |\n"
        + "|---" * 9
        + "|"
    )
    for name, length, true, decay in kernels(folders):
        print(row(f"{name}, {length} | etsc", length, true, partial(etsc, true[:length], decay)))
        for order, (method, fit) in product(ORDERS, METHODS.items()):
            print(row(f"{name}, {length} | {method}", length, true, partial(fit, true[:length], order)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
