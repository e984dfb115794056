"""Speed of the competitors' rows beside the best public pure-PyTorch form of the same mixer.

    python benchmarks/oracles.py [--mixers gau,s4] [--repeats 30] [--threads 2] [--out oracles.csv]

Forward and backward, to x and all parameters, of x (4, 1024, 256) in float32 on a CPU. A row and its counterpart take
turns within one run; medians of the repeats, after two of warm-up. `beside` names the package and its version; where no
package holds the mixer, the counterpart is written from the paper's equations (benchmarks/plain.py) and `beside` says
"equations". A ratio above 1 says that the row is the slower one.
"""

import argparse
import csv
import statistics
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # else imports find this folder's files first

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from benchmarks import plain
from benchmarks.mixers import FORMS, make, near_square
from benchmarks.timing import calls, milliseconds
from experiments.machine import environment
from mixers import card, names
from tasks.files import replacing

BATCH, LENGTH, DIM, HEADS = 4, 1024, 256, 4
WARM_UP = 2
HEADERS = ["mixer", "form", "beside", "row_ms", "beside_ms", "ratio"]
CPU = torch.device("cpu")
GRID = near_square(LENGTH)

Made = tuple[str, nn.Module]
"""What the counterpart comes from, and the counterpart."""


def package(name: str, module: nn.Module) -> Made:
    return f"{name} {version(name)}", module


def equations(module: nn.Module) -> Made:
    return "equations", module


class TorchAttention(nn.Module):
    """torch's nn.MultiheadAttention of x with itself."""

    def __init__(self, causal: bool):
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
        self.mask = nn.Transformer.generate_square_subsequent_mask(LENGTH) if causal else None

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, attn_mask=self.mask, is_causal=self.mask is not None, need_weights=False)[0]


def softmax(causal: bool) -> Made:
    return package("torch", TorchAttention(causal))


def softmax_rope(causal: bool) -> Made:
    from rotary_embedding_torch import RotaryEmbedding

    rotary = RotaryEmbedding(DIM // HEADS)

    def core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = rotary.rotate_queries_or_keys(q), rotary.rotate_queries_or_keys(k)
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return package("rotary-embedding-torch", plain.Heads(DIM, core))


def softmax_alibi(causal: bool) -> Made:
    return equations(plain.Heads(DIM, plain.alibi(causal, LENGTH, HEADS)))


def gau(causal: bool) -> Made:
    from flash_pytorch import GAU

    module = GAU(dim=DIM, query_key_dim=128, expansion_factor=2, causal=causal, add_residual=False)
    return package("FLASH-pytorch", module)


def flash(causal: bool, group: int = 256) -> Made:
    from flash_pytorch import FLASH

    return package("FLASH-pytorch", FLASH(dim=DIM, group_size=group, query_key_dim=128, causal=causal))


class Angles(nn.Module):
    """The angles of rotary positions (N, K) as long-short-transformer asks for them; newer rotary packages differ."""

    def forward(self, place: Tensor, cache_key: int) -> Tensor:
        width = DIM // HEADS
        frequency = 10000.0 ** (-torch.arange(0, width, 2) / width)
        return (place[:, None] * frequency).repeat_interleave(2, dim=1)


def long_short(causal: bool) -> Made:
    from long_short_transformer.long_short_transformer import LongShortAttention

    far = {"segment_size": 32, "r": 1} if causal else {"segment_size": None, "r": 32}
    sizes = {"dim": DIM, "heads": HEADS, "dim_head": DIM // HEADS, "window_size": 64}
    return package("long-short-transformer", LongShortAttention(causal=causal, pos_emb=Angles(), **sizes, **far))


def linear_elu(causal: bool) -> Made:
    from performer_pytorch.performer_pytorch import causal_linear_attention_noncuda, linear_attention

    def core(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
        return causal_linear_attention_noncuda(q, k, v, chunk_size=64) if causal else linear_attention(q, k, v)

    return package("performer-pytorch", plain.Heads(DIM, core))


def performer(causal: bool) -> Made:
    from performer_pytorch import SelfAttention

    sizes = {"dim": DIM, "heads": HEADS, "dim_head": DIM // HEADS, "nb_features": 256}
    return package("performer-pytorch", SelfAttention(causal=causal, **sizes))


def cosformer(causal: bool) -> Made:
    return equations(plain.Heads(DIM, plain.cosformer(causal, LENGTH)))


def gmlp(causal: bool, expand: int = 6) -> Made:
    from g_mlp_pytorch.g_mlp_pytorch import gMLPBlock

    return package("g-mlp-pytorch", gMLPBlock(dim=DIM, dim_ff=expand * DIM, seq_len=LENGTH, causal=causal))


def synthesizer(scores: Callable[[], nn.Module], heads: int = HEADS) -> Callable[[bool], Made]:
    return lambda causal: equations(plain.Synthesizer(DIM, scores(), causal, heads, projected=heads > 1))


def space(kernel: Callable[[int], nn.Module], gated: bool) -> Callable[[bool], Made]:
    return lambda causal: equations(plain.Convolution(DIM, kernel(1 if causal else 2), causal, gated))


def gss(_: bool) -> Made:
    from gated_state_spaces_pytorch import GSS

    return package(
        "gated-state-spaces-pytorch", GSS(dim=DIM, dim_expansion_factor=4, dss_kernel_N=512, dss_kernel_H=DIM // 4)
    )


def spectral(change: Callable[[], nn.Module], *, grid: tuple[int, ...] = (LENGTH,), residual: bool = False):
    axes = tuple(range(1, 1 + len(grid)))
    return lambda causal: equations(plain.Spectral(axes, grid, change(), residual))


BESIDE: dict[str, Callable[[bool], Made]] = {
    "softmax": softmax,
    "softmax_rope": softmax_rope,
    "softmax_alibi": softmax_alibi,
    "gau": gau,
    "gau_tnn": gau,
    "flash": flash,
    "flash_tnn": lambda causal: flash(causal, 64),
    "long_short": long_short,
    "linear_elu": linear_elu,
    "performer": performer,
    "cosformer": cosformer,
    "cosformer_tnn": cosformer,
    "gmlp": gmlp,
    "gmlp_tnn": lambda causal: gmlp(causal, 4),
    "synthesizer_dense": synthesizer(lambda: plain.Dense(DIM, LENGTH, HEADS)),
    "synthesizer_dense_factorised": synthesizer(lambda: plain.Dense(DIM, LENGTH, HEADS, blocks=8)),
    "synthesizer_dense_tnn": synthesizer(lambda: plain.Dense(DIM, LENGTH, 1), heads=1),
    "synthesizer_random": synthesizer(lambda: plain.Random(LENGTH, HEADS)),
    "synthesizer_random_factorised": synthesizer(lambda: plain.Random(LENGTH, HEADS, rank=8)),
    "synthesizer_random_tnn": synthesizer(lambda: plain.Random(LENGTH, 1), heads=1),
    "s4d": space(lambda kernels: plain.Diagonal(DIM, 32, kernels), gated=True),
    "s4": space(lambda kernels: plain.LowRank(DIM, 32, kernels), gated=True),
    "dss": space(lambda kernels: plain.Diagonal(DIM, 64, kernels), gated=False),
    "dss_softmax": space(lambda kernels: plain.Diagonal(DIM, 64, kernels, normalised=True), gated=False),
    "dss_softmax_tnn": space(lambda kernels: plain.Diagonal(DIM, 64, kernels, normalised=True), gated=False),
    "gss": gss,
    "fnet": lambda causal: equations(plain.FourierMixer()),
    "gfnet": spectral(lambda: plain.Gains(LENGTH // 2 + 1, DIM)),
    "gfnet_tnn": spectral(lambda: plain.Gains(LENGTH // 2 + 1, DIM)),
    "gfnet_2d": spectral(lambda: plain.Gains(GRID[0], GRID[1] // 2 + 1, DIM), grid=GRID),
    "afno": spectral(lambda: plain.Blocks(DIM, 8, 0.01), residual=True),
    "afno_2d": spectral(lambda: plain.Blocks(DIM, 8, 0.01), grid=GRID, residual=True),
}

WITHOUT = {("gss", "bidirectional")}
"""Its package has the causal form alone."""


def compare(name: str, form: str, repeats: int) -> list[str]:
    """One row of the file, in the order of HEADERS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages
        beside, counterpart = BESIDE[name](form == "causal")
    x = torch.randn(BATCH, LENGTH, DIM)
    row = calls(make(name, form, LENGTH, DIM, CPU), x)[1]
    other = calls(counterpart, x)[1]
    times = [(milliseconds(row, CPU), milliseconds(other, CPU)) for _ in range(WARM_UP + repeats)][WARM_UP:]
    row_ms, other_ms = (statistics.median(column) for column in zip(*times, strict=True))
    return [name, form, beside, f"{row_ms:.1f}", f"{other_ms:.1f}", f"{row_ms / other_ms:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixers", type=lambda text: text.split(","), default=[n for n in names() if n in BESIDE])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options, console = parser.parse_args(), Console(width=140)
    if unknown := [name for name in options.mixers if name not in BESIDE]:
        parser.error(f"no counterpart of {', '.join(unknown)}: one of {', '.join(BESIDE)}")
    torch.set_num_threads(options.threads)
    cells = [(name, form) for name in options.mixers for form in FORMS if form in card(name).claims]
    cells = [cell for cell in cells if cell not in WITHOUT]
    rows = [compare(*cell, options.repeats) for cell in track(cells, "timing", console=console, transient=True)]
    device = environment(CPU)["device"]
    console.print(f"{device}, torch {torch.__version__}, {options.threads} threads", highlight=False)
    console.print(f"forward and backward, N = {LENGTH}, dim {DIM}, batch {BATCH}", highlight=False)
    table = Table(*HEADERS, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.out:
        with replacing(options.out) as part, open(part, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADERS, *rows])


if __name__ == "__main__":
    main()
