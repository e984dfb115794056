"""The Toeplitz product on a GPU beside transforms, attention and the memory's limit.

    python benchmarks/toeplitz_gpu.py [--dim 1024] [--tokens 32768] [--lengths 512,2048,8192,32768] [--out toeplitz.csv]
                                      [--plot toeplitz.png]

Causal, in bfloat16, on (tokens / N, N, dim) of channel-first storage; medians of device events, all in turns within one
run, and all but the last two from CUDA graphs of ten calls, so that nothing waits for a launch, nor for the graph's own
beginning. `whole` is what a training step
does: positions, relative position encoder, decay, preparation, product; `ready` is what of it comes before the product.
`official` is irfft(rfft(x, 2N) rfft(t, 2N)) over the tokens of (B, N, D) in float32, as in the paper's code, and
`channel-first` the same over (D, B, N), both with coefficients at hand. `attention` is torch's scaled dot-product
attention, 8 heads. `floor` is what a copy of x takes, which reads and writes as much. `both` is forward and backward,
to x and the encoder's parameters or to q, k and v. `error`: relative, to float64. `eager` and `both eager` are `whole`
and `both` launched one kernel at a time; `eager` also keeps what a backward pass would need.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else `import mixers` finds mixers.py beside this file

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.timing import milliseconds
from experiments.machine import environment
from mixers.ops.toeplitz import prepare, toeplitz_backend, toeplitz_matmul
from mixers.toeplitz.coefficients import EncodedCoefficients
from mixers.toeplitz.decay import make_decay
from mixers.toeplitz.rpe import RelativePositionEncoder

CUDA = torch.device("cuda")
WARM_UP, REPEATS, HEADS = 3, 15, 8
CALLS = 10
"""Of one graph."""

Timed = dict[str, tuple[Callable[[], object], int]]
"""What is timed, and of how many calls it consists."""


def medians(timed: Timed) -> dict[str, float]:
    """Median milliseconds of each call, in turns."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(WARM_UP + REPEATS):
        for name, (call, count) in timed.items():
            times[name].append(milliseconds(call, CUDA) / count)
    return {name: statistics.median(values[WARM_UP:]) for name, values in times.items()}


def captured(call: Callable[[], object]) -> tuple[Callable[[], object], int]:
    """CALLS calls as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    return graph.replay, CALLS


def transforms(coefficients: Tensor, x: Tensor, dim: int) -> Tensor:
    """The product of float32 numbers, as the paper's code has it, with tokens along `dim`."""
    length = x.shape[dim]
    spectrum = torch.fft.rfft(x, 2 * length, dim=dim) * torch.fft.rfft(coefficients, 2 * length, dim=dim)
    return torch.fft.irfft(spectrum, 2 * length, dim=dim).narrow(dim, 0, length)


def encoder(dim: int) -> EncodedCoefficients:
    """The paper's: 6 inner layers of width 64, decay 0.99."""
    rpe = RelativePositionEncoder(dim, width=64, layers=6)
    return EncodedCoefficients(rpe, make_decay(dim, 0.99, False), causal=True).to(CUDA)


def row(length: int, options: argparse.Namespace) -> dict[str, object]:
    """One line of the table."""
    torch.manual_seed(0)
    batch, dim = max(options.tokens // length, 1), options.dim
    encode = encoder(dim)
    rows = torch.randn(dim, batch, length, device=CUDA)
    x = rows.bfloat16().permute(1, 2, 0).requires_grad_()  # (B, N, D), stored channel-first
    backend = toeplitz_backend("auto", x)
    coefficients = encode(length).detach()
    prepared = prepare(coefficients, length, x.dtype, backend=backend)
    official, flat = rows.permute(1, 2, 0).contiguous(), coefficients.T.contiguous()[:, None]
    q, k, v = (torch.randn(batch, HEADS, length, dim // HEADS, device=CUDA, dtype=x.dtype) for _ in range(3))
    leaves = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
    wide_leaf, ahead = official.detach().requires_grad_(), torch.randn_like(x)
    parameters = list(encode.parameters())
    copied = torch.empty_like(x)

    def ready() -> object:
        return prepare(encode(length), length, x.dtype, backend=backend)

    def whole() -> Tensor:
        return toeplitz_matmul(encode(length), x, causal=True)

    def both() -> object:
        return torch.autograd.grad(whole(), [x, *parameters], ahead)

    def official_both() -> object:
        return torch.autograd.grad(transforms(encode(length)[None], wide_leaf, 1), [wide_leaf, *parameters], official)

    def attention(causal: bool) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    def attention_both() -> object:
        return torch.autograd.grad(F.scaled_dot_product_attention(*leaves, is_causal=True), leaves, q)

    with torch.no_grad():
        forward = {
            "whole": whole,
            "ready": ready,
            "product": lambda: toeplitz_matmul(prepared, x, causal=True),
            "official": lambda: transforms(coefficients[None], official, 1),
            "channel-first": lambda: transforms(flat, rows, 2),
            "attention": lambda: attention(True),
            "full attention": lambda: attention(False),
            "floor": lambda: copied.copy_(x),
        }
        timed = {name: captured(call) for name, call in forward.items()}
        exact = toeplitz_matmul(coefficients.double(), x.double(), causal=True, backend="fft")
        y = toeplitz_matmul(prepared, x, causal=True).double()
    with_gradients = {"both": both, "official both": official_both, "attention both": attention_both}
    timed |= {name: captured(call) for name, call in with_gradients.items()}
    timed |= {"eager": (whole, 1), "both eager": (both, 1)}
    error = ((y - exact).norm() / exact.norm()).item()
    return {"N": length, "backend": backend, **medians(timed), "error": error}


def plot(path: Path, rows: list[dict], title: str) -> None:
    """Milliseconds forward by N."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name in ("official", "channel-first", "full attention", "attention", "whole", "product", "floor"):
        style = {"linestyle": "--", "color": "grey"} if name == "floor" else {"marker": "o"}
        axes.plot([row["N"] for row in rows], [row[name] for row in rows], label=name, **style)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("tokens a sequence")
    axes.set_ylabel("ms forward")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(color="#e4e4e4")
    axes.legend(frameon=False, ncol=2)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--tokens", type=int, default=32_768)
    parser.add_argument("--lengths", type=lambda text: [*map(int, text.split(","))], default=[512, 2048, 8192, 32_768])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    options, console = parser.parse_args(), Console(width=170)
    machine = environment(CUDA)
    title = f"{machine['device']}, torch {machine['torch']}, {options.tokens:,} tokens, dim {options.dim}"
    rows = [row(length, options) for length in options.lengths]
    table = Table(*rows[0], title=f"{title}; milliseconds", title_justify="left", box=None, pad_edge=False)
    for values in rows:
        texts = (f"{value:.3f}" if isinstance(value, float) and value > 0.01 else value for value in values.values())
        table.add_row(*(f"{text:.1e}" if isinstance(text, float) else str(text) for text in texts))
    console.print(table)
    if options.out:
        with open(options.out, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([rows[0].keys(), *(values.values() for values in rows)])
    if options.plot:
        plot(options.plot, rows, title)


if __name__ == "__main__":
    main()
