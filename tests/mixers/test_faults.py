"""The laws are proved: each fault, one edit of a row's real source, breaks the law named, and by no accident."""

import importlib
import sys
from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings

from mixers import card, names
from mixers.laws import LAWS, BrokenLaw, Law, Subject, prove
from mixers.laws.check import forms_of
from mixers.registry import load_class


@dataclass(frozen=True)
class Fault:
    """In `module`, `line` becomes `edit`; then `row` breaks `law`."""

    about: str
    row: str
    module: str
    line: str
    edit: str
    law: str


OPERATOR = "mixers.toeplitz.operator"
PROJECTIONS = "mixers.toeplitz.mixer"
COEFFICIENTS = "mixers.toeplitz.coefficients"
DECAY = "mixers.toeplitz.decay"
GRID = "mixers.toeplitz.grid"
SKI = "mixers.toeplitz.ski"
CONVOLUTION = "mixers.toeplitz.convolution"
SOFTMAX = "mixers.attention.softmax"
KERNEL = "mixers.linear.kernel"
PERFORMER = "mixers.linear.performer"
COSFORMER = "mixers.linear.cosformer"
SPACE = "mixers.state_space.space"
GAU = "mixers.attention.gau"
FLASH = "mixers.attention.flash"
LONG_SHORT = "mixers.attention.long_short"
GMLP = "mixers.mlp.gmlp"
SCORES = "mixers.mlp.scores"
SYNTHESIZER = "mixers.mlp.synthesizer"
S4D = "mixers.state_space.s4d"
DPLR = "mixers.state_space.dplr"
DSS = "mixers.state_space.dss"
DSS_SOFTMAX = "mixers.state_space.dss_softmax"
GSS = "mixers.state_space.gss"
FNET = "mixers.spectral.fnet"
GFNET = "mixers.spectral.gfnet"
AFNO = "mixers.spectral.afno"
TOEPLITZ = "mixers.ops.toeplitz"
FOURIER = "mixers.ops.fourier"
ONLINE = "mixers.ops.online"
PLACES = "mixers.ops.grid"
ROTARY = "mixers.ops.rotary"
ATTENTION = "mixers.ops.attention"
PRODUCT = "mixers.ops.linear_attention"

OPERATORS = "mixers.ops.circular"
"""Registered with torch once and for all: it is not imported twice."""

FAULTS = [
    Fault(
        "a leak of one token",
        "convolution",
        CONVOLUTION,
        "(reach, 0 if self.causal else reach)",
        "(reach - 1, 1) if self.causal else (reach, reach)",
        "causal",
    ),
    Fault("attention one token ahead", "softmax_alibi", ATTENTION, ".triu(1)", ".triu(2)", "causal"),
    Fault(
        "a circular product without zeros behind",
        "gtu",
        TOEPLITZ,
        "return 2 * unit * next(",
        "return unit * next(",
        "causal",
    ),
    Fault(
        "a normaliser over the whole sequence",
        "linear_elu",
        KERNEL,
        "mixed = sums[..., :-1] / sums[..., -1:].clamp_min(self.floor)",
        "mixed = sums[..., :-1] / sums[..., -1:].mean(2, keepdim=True).clamp_min(self.floor)",
        "causal",
    ),
    Fault(
        "a detached statistic of the future",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        return self.output(y) / (1 + x.detach().square().mean(1, keepdim=True))",
        "causal",
    ),
    Fault(
        "mixing replaced by the identity",
        "gtu",
        PROJECTIONS,
        "self.projections.output(x, self.operator(self.projections.values(x), mask))",
        "self.projections.output(x, self.projections.values(x) + 0 * self.operator(self.projections.values(x), mask))",
        "causal",
    ),
    Fault(
        "a leak under autocast alone",
        "softmax",
        SOFTMAX,
        "        return self._attend(*self._project(x, 0), self.causal, mask)",
        "        y = self._attend(*self._project(x, 0), self.causal, mask)\n"
        '        return y + 0.01 * y.flip(1) * torch.is_autocast_enabled("cpu")',
        "causal",
    ),
    Fault(
        "a leak from one token to the one before it",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        late = x.shape[1] > 3\n"
        "        return self.output(y + nn.functional.pad(x[:, 3:4], (0, 0, 2, x.shape[1] - 3)) if late else y)",
        "causal",
    ),
    Fault(
        "a normaliser that knows N",
        "softmax_alibi",
        SOFTMAX,
        "        return self._attend(*self._project(x, 0), self.causal, mask)",
        "        return self._attend(*self._project(x, 0), self.causal, mask) / x.shape[1]",
        "prefix",
    ),
    Fault(
        "positions counted from the end",
        "softmax_rope",
        ROTARY,
        "even, odd = x.to(dtype).unflatten(-1, (-1, 2)).unbind(-1)",
        "even, odd = (x.to(dtype) / x.shape[-2] ** 0.5).unflatten(-1, (-1, 2)).unbind(-1)",
        "prefix",
    ),
    Fault(
        "a causal mask where there should be none",
        "softmax",
        SOFTMAX,
        "        return self._attend(*self._project(x, 0), self.causal, mask)",
        "        return self._attend(*self._project(x, 0), True, mask)",
        "bidirectional",
    ),
    Fault(
        "a second kernel that is never read",
        "s4d",
        SPACE,
        "torch.cat([kernels[1, : length - 1].flip(0), past])",
        "torch.cat([0 * kernels[1, : length - 1].flip(0), past])",
        "bidirectional",
    ),
    Fault(
        "a table that ends",
        "tno",
        OPERATOR,
        "        x = fill_pads(x, mask)",
        "        x = fill_pads(x, mask)[:, :200]",
        "any_length",
    ),
    Fault(
        "pads that keep their bias",
        "gtu",
        PROJECTIONS,
        "self.operator(self.projections.values(x), mask)",
        "self.operator(self.projections.values(x))",
        "padding",
    ),
    Fault(
        "pads of zero features counted as phi(0) = 1",
        "linear_elu",
        KERNEL,
        "            k, values = k.masked_fill(pads, 0), values.masked_fill(pads, 0)",
        "            k, values = k.masked_fill(pads, 0), F.pad(v.masked_fill(pads, 0), (0, 1), value=1.0)",
        "padding",
    ),
    Fault(
        "NaN at pads",
        "softmax_rope",
        SOFTMAX,
        "        return self.out(mixed.transpose(1, 2).flatten(2))",
        "        y = self.out(mixed.transpose(1, 2).flatten(2))\n"
        "        return y if mask is None else y.masked_fill(~mask[..., None], torch.nan)",
        "padding",
    ),
    Fault(
        "a mask turned around in place",
        "linear_elu",
        KERNEL,
        "pads = ~mask[:, None, :, None]",
        "pads = mask.logical_not_()[:, None, :, None]",
        "pads",
    ),
    Fault("a mean over pads too", "fnet", FNET, "        filled = fill_pads(x, mask)", "        filled = x", "pads"),
    Fault(
        "pads multiplied instead of filled",
        "tno",
        OPERATOR,
        "        x = fill_pads(x, mask)",
        "        x = x if mask is None else x * mask[..., None]",
        "pads",
    ),
    Fault(
        "pads multiplied instead of filled, in attention",
        "softmax",
        SOFTMAX,
        "k, v = (part.masked_fill(~mask[:, None, :, None], 0) for part in (k, v))",
        "k, v = (part * mask[:, None, :, None] for part in (k, v))",
        "pads",
    ),
    Fault(
        "the state dropped at a chunk's edge",
        "linear_elu",
        PRODUCT,
        "    y = scores @ v + q @ states[:, :, :-1]",
        "    y = scores @ v + q @ states[:, :, :-1].roll(1, 2)",
        "step",
    ),
    Fault(
        "a step at the wrong position",
        "softmax_rope",
        SOFTMAX,
        'start=state["keys"].shape[2]',
        'start=max(state["keys"].shape[2] - 1, 0)',
        "step",
    ),
    Fault(
        "a prefill that forgets its last token",
        "convolution",
        CONVOLUTION,
        "[:, x.shape[1] :].clone()",
        "[:, : self.width - 1]",
        "step",
    ),
    Fault(
        "a state kept in the module",
        "convolution",
        CONVOLUTION,
        '        window = torch.cat([state["recent"].to(x.dtype), x[:, None]], dim=1)  # (B, W, D)',
        '        window = torch.cat([vars(self).get("kept", state["recent"]).to(x.dtype), x[:, None]], dim=1)\n'
        '        vars(self)["kept"] = window[:, 1:]',
        "step",
    ),
    Fault(
        "a step that is another without gradients",
        "softmax",
        SOFTMAX,
        "        y = self._attend(q, keys, values, causal=False)",
        "        y = self._attend(q, keys, values, causal=False) * (2 - torch.is_grad_enabled())",
        "step",
    ),
    Fault(
        "a step that writes to its input",
        "s4d",
        SPACE,
        "        return self.output(y.to(x.dtype)), state",
        "        out = self.output(y.to(x.dtype))\n        x.mul_(2)\n        return out, state",
        "step",
    ),
    Fault(
        "a prefill whose state is the caller's memory",
        "s4d",
        SPACE,
        """self.weight.shape[1:]), x)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        sums = self.rate.exp() * state["sums"]""",
        """self.weight.shape[1:]), x) - x[:, -1:].sum(1)[..., None], "last": x[:, -1:]}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        last = state.get("last", x[:, None] * 0).sum(1)[..., None]
        sums = self.rate.exp() * (state["sums"] + last)""",
        "step",
    ),
    Fault(
        "a state in float64",
        "softmax",
        SOFTMAX,
        'return y[:, 0], {"keys": keys, "values": values}',
        'return y[:, 0], {"keys": keys.double(), "values": values}',
        "step",
    ),
    Fault(
        "a state that keeps the memory of all chunks",
        "linear_elu",
        PRODUCT,
        "states[:, :, -1].clone()",
        "states[:, :, -1]",
        "constant_state",
    ),
    Fault(
        "a history in place of a window",
        "convolution",
        CONVOLUTION,
        '{"recent": window[:, 1:].clone()}',
        '{"recent": window[:, 0:]}',
        "constant_state",
    ),
    Fault(
        "a bias in a linear map",
        "tno",
        OPERATOR,
        "        x = fill_pads(x, mask)",
        "        x = fill_pads(x, mask) + 1",
        "linear",
    ),
    Fault("a rectified spectrum", "fnet", FNET, ".real.to(x.dtype)", ".abs().to(x.dtype)", "linear"),
    Fault(
        "a decay that counts from the start",
        "gtu",
        OPERATOR,
        "        length = x.shape[1]",
        "        length = x.shape[1]\n        x = x * x.new_tensor(range(1, 2 + length))[:length, None]",
        "shift",
    ),
    Fault(
        "absolute positions inside the mixer",
        "softmax_alibi",
        SOFTMAX,
        "distance = (position[keys - queries :, None] - position).abs()",
        "distance = (position[keys - queries :, None] - position).abs() * position",
        "shift",
    ),
    Fault(
        "a token too many",
        "convolution",
        CONVOLUTION,
        "(reach, 0 if self.causal else reach)",
        "(reach, 1 if self.causal else reach + 1)",
        "shape",
    ),
    Fault(
        "an output in the dtype of the recurrence",
        "linear_elu",
        KERNEL,
        "return self.out(mixed.to(dtype).transpose(1, 2).flatten(2))",
        "return self.out(mixed.to(dtype).transpose(1, 2).flatten(2)).to(mixed.dtype)",
        "shape",
    ),
    Fault(
        "a buffer in float64",
        "softmax_alibi",
        SOFTMAX,
        "torch.tensor(alibi_slopes(heads))",
        "torch.tensor(alibi_slopes(heads), dtype=torch.float64)",
        "shape",
    ),
    Fault(
        "NaN at length 1",
        "softmax",
        SOFTMAX,
        "        return self.out(mixed.transpose(1, 2).flatten(2))",
        "        return self.out(mixed.transpose(1, 2).flatten(2)) * (q.shape[2] - 1) / (q.shape[2] - 1 or torch.nan)",
        "lengths",
    ),
    Fault(
        "a denominator without a floor",
        "linear_elu",
        KERNEL,
        "sums[..., -1:].clamp_min(self.floor)",
        "sums[..., -1:]",
        "finite",
    ),
    Fault(
        "frequencies rounded to bfloat16",
        "s4d",
        S4D,
        "        a = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))",
        "        low = torch.bfloat16 if dtype == torch.float32 else dtype\n"
        "        a = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(low).to(dtype))",
        "precision",
    ),
    Fault(
        "a gradient that is wrong in float32 alone",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        return self.output(y + 0.01 * (y - y.detach()) * (y.dtype == torch.float32))",
        "precision",
    ),
    Fault(
        "batch statistics",
        "gtu",
        PROJECTIONS,
        "self.activation(_channel_first(self.gate, x)) * mixed",
        "self.activation(_channel_first(self.gate, x)) * mixed / (1 + mixed.square().mean(0))",
        "batch",
    ),
    Fault(
        "batch statistics in training mode alone",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        return self.output(y) / (1 + x.square().mean() * self.training)",
        "batch",
    ),
    Fault(
        "a parameter never used",
        "s4d",
        S4D,
        "        nn.init.normal_(self.skip)",
        "        nn.init.normal_(self.skip)\n        self.unused = nn.Parameter(torch.ones(2))",
        "reach",
    ),
    Fault(
        "a gradient cut off",
        "convolution",
        CONVOLUTION,
        "F.conv1d(padded, self.weight, groups",
        "F.conv1d(padded, self.weight.detach(), groups",
        "reach",
    ),
    Fault(
        "a gradient of half the size",
        "tno",
        OPERATOR,
        "        length = x.shape[1]",
        "        length, x = x.shape[1], (x + x.detach()) / 2",
        "gradient",
    ),
    Fault(
        "a gradient cut off in sequences of more than 64 tokens",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        return self.output(y if x.shape[1] <= 64 else y.detach())",
        "gradient",
    ),
    Fault(
        "another output in inference mode",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        return self.output(y) * (1 + torch.is_inference_mode_enabled())",
        "determinism",
    ),
    Fault(
        "the seed of the whole process set in the constructor",
        "softmax",
        SOFTMAX,
        "        require_backend(backend)\n",
        "        require_backend(backend)\n        torch.manual_seed(0)\n",
        "process",
    ),
    Fault(
        "the seed of the whole process set in forward",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        torch.manual_seed(0)\n        return self.output(y)",
        "process",
    ),
    Fault(
        "Python's generator seeded",
        "linear_elu",
        KERNEL,
        "        if chunk < 1:",
        '        __import__("random").seed(0)\n        if chunk < 1:',
        "process",
    ),
    Fault(
        "gradients switched on for the whole process",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        torch.set_grad_enabled(True)\n        return self.output(y)",
        "process",
    ),
    Fault(
        "a buffer that changes in eval mode",
        "s4d",
        SPACE,
        "        return self.output(y)",
        '        self.register_buffer("calls", torch.tensor(int(getattr(self, "calls", 0)) + 1))\n'
        "        return self.output(y)",
        "determinism",
    ),
    Fault(
        "training mode left in forward",
        "softmax_rope",
        SOFTMAX,
        "        return self._attend(*self._project(x, 0), self.causal, mask)",
        "        return self.eval()._attend(*self._project(x, 0), self.causal, mask)",
        "process",
    ),
    Fault(
        "random features drawn in forward",
        "linear_elu",
        KERNEL,
        "        values = F.pad(v,",
        "        v = v + 1e-3 * torch.randn_like(v)\n        values = F.pad(v,",
        "determinism",
    ),
    Fault(
        "a buffer that state_dict does not carry",
        "tno",
        DECAY,
        "torch.full((dim,), -math.log(decay)))",
        "torch.rand(dim), persistent=False)",
        "round_trip",
    ),
    Fault(
        "kernels remembered when the parameters are others",
        "s4d",
        SPACE,
        "        kernels = self.kernel(length)",
        "        kernels = self.kernel(length)\n"
        "        if not torch.is_grad_enabled():\n"
        '            kernels = vars(self).setdefault("kept", {}).setdefault(length, kernels)',
        "round_trip",
    ),
    Fault(
        "a complex parameter",
        "convolution",
        CONVOLUTION,
        "        self.reset_parameters()\n",
        '        self.reset_parameters()\n        self.register_buffer("phase", torch.zeros(1) * 1j)\n',
        "round_trip",
    ),
    Fault(
        "an input written to",
        "tno",
        OPERATOR,
        "        x = fill_pads(x, mask)",
        "        x = fill_pads(x, mask).mul_(2)",
        "strides",
    ),
    Fault(
        "an input clamped in place",
        "fnet",
        FNET,
        "        filled = fill_pads(x, mask)",
        "        filled = fill_pads(x, mask).clamp_(-2, 2)",
        "strides",
    ),
    Fault(
        "storage taken for shape",
        "convolution",
        CONVOLUTION,
        "fill_pads(x, mask).transpose(1, 2)",
        "fill_pads(x, mask).as_strided(x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1)).transpose(1, 2)",
        "strides",
    ),
    Fault(
        "an offset that bfloat16 cannot hold",
        "softmax",
        SOFTMAX,
        "        return self.rotate(q, start), self.rotate(k, start), v",
        "        return self.rotate(q, start) + 1000 - 1000, self.rotate(k, start), v",
        "autocast",
    ),
    Fault(
        "a rule about a parameter that is not there",
        "s4d",
        S4D,
        'slow("log_dt", "log_decay", "frequency")',
        'slow("log_dt", "log_decay", "frequencies")',
        "rules",
    ),
    Fault(
        "a learning rate without bound",
        "s4d",
        SPACE,
        '{"lr": 1e-3, "weight_decay": 0.0}',
        '{"lr": math.inf, "weight_decay": 0.0}',
        "rules",
    ),
    Fault(
        "a redraw from the global generator",
        "linear_elu",
        KERNEL,
        "    def init_state(",
        "    @torch.no_grad()\n    def redraw(self, generator):\n"
        "        self.out.bias.normal_()\n\n    def init_state(",
        "rules",
    ),
    Fault(
        "a redraw that state_dict does not carry",
        "s4d",
        S4D,
        "        return F.glu(self.out(F.gelu(y)), dim=-1)",
        '        return vars(self).get("drawn", 1) * F.glu(self.out(F.gelu(y)), dim=-1)\n\n'
        "    def redraw(self, generator):\n"
        '        vars(self)["drawn"] = torch.rand(1, generator=generator)',
        "rules",
    ),
    Fault(
        "decoding where nothing is claimed",
        "fnet",
        FNET,
        "    def forward(self",
        "    def init_state(self, batch_size):\n        return {}\n\n    def forward(self",
        "refusals",
    ),
    Fault(
        "decoding with a bidirectional mixer",
        "softmax",
        "mixers.contract",
        "    if not causal:\n",
        "    if False:\n",
        "refusals",
    ),
    Fault(
        "a block whose tile is never multiplied",
        "gtu",
        ONLINE,
        "        y = y + influence[:, tokens % influence.shape[1]]",
        "        y = y + influence[:, tokens % influence.shape[1]] * (influence.shape[1] < 16)",
        "step",
    ),
    Fault(
        "a block carried in the wrong order",
        "tno",
        ONLINE,
        "        if length >> digit & 1:",
        "        if length >> digit & 1 and digit:",
        "step",
    ),
    Fault(
        "a token of the next row of the grid",
        "gtu_2d",
        PLACES,
        "    x = fill_pads(x, mask)\n",
        "    x = x if mask is None else x * mask[..., None]\n",
        "pads",
    ),
    Fault(
        "a kernel that knows the pads",
        "gtu_2d",
        GRID,
        "off_grid(self.rows(image) + self.columns(image), x.shape[1])",
        "off_grid((self.rows(image) + self.columns(image)) / x.shape[1], x.shape[1])",
        "padding",
    ),
    Fault(
        "a normalised low-rank part",
        "ski_tno",
        SKI,
        "        return weights @ between",
        "        return weights @ between.tanh()",
        "linear",
    ),
    Fault(
        "a filter that knows N",
        "gfnet",
        GFNET,
        "        return circular_product(self.gains(x).T, fill_pads(x, mask), self.length)",
        "        return circular_product(self.gains(x).T, fill_pads(x, mask), self.length) / x.shape[1]",
        "padding",
    ),
    Fault(
        "a window over the places",
        "gfnet",
        GFNET,
        "        return circular_product(self.gains(x).T, fill_pads(x, mask), self.length)",
        "        window = torch.hann_window(x.shape[1] + 2, dtype=x.dtype)[1:-1, None]\n"
        "        return circular_product(self.gains(x).T, window * fill_pads(x, mask), self.length)",
        "shift",
    ),
    Fault(
        "amplitudes without their phases",
        "gfnet_2d",
        GFNET,
        "to_frequencies(on_grid(x, mask, self.grid))",
        "to_frequencies(on_grid(x, mask, self.grid)).abs()",
        "linear",
    ),
    Fault(
        "frequencies of the pads too",
        "afno",
        AFNO,
        "        return self.mix(fill_pads(x, mask))",
        "        return self.mix(x)",
        "pads",
    ),
    Fault(
        "a threshold that lets nothing through",
        "afno",
        AFNO,
        ", self.threshold)",
        ", self.threshold + 1e3)",
        "bidirectional",
    ),
    Fault(
        "a frequency of odd lengths counted once instead of twice",
        "afno",
        FOURIER,
        "    if size % 2 == 0:",
        "    if size > 1:",
        "gradient",
    ),
    Fault(
        "an image scaled by its tokens",
        "afno_2d",
        AFNO,
        "        return off_grid(self.mix(on_grid(x, mask, self.grid)), x.shape[1])",
        "        return off_grid(self.mix(on_grid(x, mask, self.grid) / x.shape[1]), x.shape[1])",
        "padding",
    ),
    Fault(
        "zeros where the coefficients end",
        "gtu_free",
        COEFFICIENTS,
        '            raise ValueError(f"N={length} is beyond',
        "            known = self(self.longest)\n"
        "            return torch.cat([known, known.new_zeros(length - self.longest, known.shape[1])])\n"
        '            raise ValueError(f"N={length} is beyond',
        "refusals",
    ),
    Fault(
        "a stabiliser over the whole sequence",
        "performer",
        PERFORMER,
        ".cummax(-1).values",
        ".amax(-1, keepdim=True).expand(-1, -1, 1 + k.shape[2])",
        "causal",
    ),
    Fault(
        "a stabiliser that forgets all but the last key",
        "performer",
        PERFORMER,
        '"peak": peaks[..., -1:].clone()',
        '"peak": torch.cat([state["peak"], along.amax(-1)], dim=-1)[..., -1:].clone()',
        "step",
    ),
    Fault(
        "states that do not decay from chunk to chunk",
        "performer",
        PRODUCT,
        "kept * states[-1] + added",
        "states[-1] + added",
        "step",
    ),
    Fault(
        "tokens of a chunk that do not decay",
        "performer",
        PRODUCT,
        "        scores = scores * (since",
        "        scores = scores + 0 * (since",
        "step",
    ),
    Fault(
        "pads that raise the stabiliser",
        "performer",
        PERFORMER,
        "along.masked_fill(~mask[:, None, :, None], torch.finfo(x.dtype).min)",
        "along.masked_fill(~mask[:, None, :, None], 9)",
        "padding",
    ),
    Fault(
        "directions drawn from the global generator",
        "performer",
        PERFORMER,
        "orthogonal_features(self.features, self.head_dim, generator)",
        "orthogonal_features(self.features, self.head_dim)",
        "rules",
    ),
    Fault(
        "directions that state_dict does not carry",
        "performer",
        PERFORMER,
        "orthogonal_features(features, self.head_dim))",
        "orthogonal_features(features, self.head_dim), persistent=False)",
        "round_trip",
    ),
    Fault("a position that stands still", "cosformer", COSFORMER, '"tokens": end}', '"tokens": start}', "step"),
    Fault("the current length", "cosformer", COSFORMER, "return self.length", "return length", "prefix"),
    Fault(
        "an angle of the position, not of the distance",
        "cosformer",
        COSFORMER,
        "F.relu(x) * angle.sin()]",
        "F.relu(x) * angle]",
        "shift",
    ),
    Fault("a denominator of zero", "cosformer_tnn", COSFORMER, "    floor = 1e-4", "    floor = 0.0", "finite"),
    Fault("keys so far alone", "cosformer_tnn", KERNEL, "        if self.causal:", "        if True:", "bidirectional"),
    Fault(
        "a kernel whose tail comes round again",
        "s4",
        DPLR,
        "truncated = rows - _times_power(rows, self._matrix(), size)",
        "truncated = rows",
        "prefix",
    ),
    Fault(
        "a recurrence without its low-rank part",
        "s4",
        DPLR,
        "        return known - column * inner / ",
        "        return known - (vector.dim() < 3) * column * inner / ",
        "step",
    ),
    Fault(
        "output layers that see the mean of all tokens",
        "dss",
        DSS,
        "        return self.out(F.gelu(y))",
        "        return self.out(F.gelu(y - y.mean(-2, keepdim=True)))",
        "causal",
    ),
    Fault(
        "a growing mode read one token late",
        "dss_softmax",
        DSS_SOFTMAX,
        "self.falling * (self.longest - 1 - position)",
        "self.falling * (self.longest - position)",
        "step",
    ),
    Fault(
        "a kernel beyond the length that normalises it",
        "dss_softmax",
        DSS_SOFTMAX,
        "        if length > self.longest:",
        "        if False:",
        "refusals",
    ),
    Fault(
        "a kernel remembered for its length",
        "dss_softmax_tnn",
        DSS_SOFTMAX,
        "        return self.modes.system(length).kernel(length)",
        "        kernel = self.modes.system(length).kernel(length).detach()\n"
        '        return vars(self).setdefault("kept", {}).setdefault(length, kernel)',
        "round_trip",
    ),
    Fault(
        "pads that keep the bias of the norm",
        "gss",
        GSS,
        "self.space(self._values(x), mask)",
        "self.space(self._values(x))",
        "padding",
    ),
    Fault("a spatial weight one token ahead", "gmlp", GMLP, "weight.tril(start)", "weight.tril(start + 1)", "causal"),
    Fault(
        "a spatial bias at the wrong position",
        "gmlp",
        GMLP,
        "self.bias[start:end, None]",
        "self.bias[: end - start, None]",
        "step",
    ),
    Fault(
        "pads filled before the norm, which gives them its bias",
        "gmlp_tnn",
        GMLP,
        "return u, fill_pads(self.norm(v), mask)",
        "return u, self.norm(fill_pads(v, mask))",
        "padding",
    ),
    Fault(
        "a triangle where the whole matrix should be",
        "gmlp_tnn",
        GMLP,
        "        if self.causal:\n            weight",
        "        if True:\n            weight",
        "bidirectional",
    ),
    Fault("scores one token ahead", "synthesizer_dense", SYNTHESIZER, ".triu(start + 1)", ".triu(start + 2)", "causal"),
    Fault(
        "pads that keep a score",
        "synthesizer_dense",
        SYNTHESIZER,
        "scores.masked_fill(~mask[:, None, None], -torch.inf)",
        "scores.masked_fill(~mask[:, None, None], 0)",
        "padding",
    ),
    Fault(
        "positions counted from the end, in the Synthesizer",
        "synthesizer_dense_factorised",
        SCORES,
        "(block[..., None] * place[..., None, :]).flatten(-2)[..., :end]",
        "(block[..., None] * place[..., None, :]).flatten(-2)[..., :end].flip(-1)",
        "prefix",
    ),
    Fault(
        "a cache that is the caller's memory",
        "synthesizer_dense_tnn",
        SYNTHESIZER,
        "values = self._values(x).clone()",
        "values = self._values(x)",
        "step",
    ),
    Fault(
        "a step with the first position's scores",
        "synthesizer_random",
        SCORES,
        "self.table[None, :, start:end, :end]",
        "self.table[None, :, : end - start, :end]",
        "step",
    ),
    Fault(
        "a factor that is never learned",
        "synthesizer_random_factorised",
        SCORES,
        "(self.rows[:, start:end] @",
        "(self.rows[:, start:end].detach() @",
        "reach",
    ),
    Fault(
        "values that saturate",
        "synthesizer_random_tnn",
        SYNTHESIZER,
        "mixing.to(values.dtype), values)",
        "mixing.to(values.dtype), values.tanh())",
        "linear",
    ),
    Fault(
        "scores over the N of the batch",
        "gau",
        GAU,
        "causal=self.causal), self.length\n\n    def init_state",
        "causal=self.causal), length\n\n    def init_state",
        "prefix",
    ),
    Fault("every key at lag 0", "gau", GAU, "self.bias(0, seen + 1).flip(0)", "self.bias(0, 1)", "step"),
    Fault(
        "scores over the N of the batch, pads too",
        "gau_tnn",
        GAU,
        "            return bias_matrix(self.bias, length, causal=self.causal), self.length",
        "            return bias_matrix(self.bias, length, causal=self.causal), length",
        "padding",
    ),
    Fault(
        "a chunk that sees its own future through the sums",
        "flash",
        FLASH,
        "sums[:, :, :-1] / divisors",
        "sums[:, :, 1:] / divisors",
        "causal",
    ),
    Fault("a mean over pads too", "flash", FLASH, "else mask.sum(1)", "else mask.sum(1) * 0 + v.shape[1]", "padding"),
    Fault(
        "a sum over chunks that is one chunk late in decoding",
        "flash_tnn",
        FLASH,
        "if place == self.chunk - 1:",
        "if place == 0 and complete:",
        "step",
    ),
    Fault(
        "a chunk seen before it is complete",
        "long_short",
        LONG_SHORT,
        "long.masked_fill(distance < 0, -torch.inf)",
        "long.masked_fill(distance < -self.rank, -torch.inf)",
        "causal",
    ),
    Fault(
        "a projection that weighs pads",
        "long_short",
        LONG_SHORT,
        "        if mask is not None:\n            logits",
        "        if False:\n            logits",
        "padding",
    ),
    Fault(
        "the newest chunk in front of the others",
        "long_short",
        LONG_SHORT,
        "torch.cat([long_keys, new_keys], dim=2)",
        "torch.cat([new_keys, long_keys], dim=2)",
        "step",
    ),
]


def _forget(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module be imported anew, until the end of the test."""
    parent, _, leaf = name.rpartition(".")
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules[parent], leaf)


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch):
    """A function that gives a row's class after one edit of one module; what imports that module sees the edit too."""

    def edit(fault: Fault) -> type:
        module, line = importlib.import_module(fault.module), fault.line
        with open(str(module.__file__)) as file:
            source = file.read()
        assert source.count(line) == 1, f"{fault.about}: the line stands {source.count(line)} times in {fault.module}"
        family, name = card(fault.row).target.rsplit(".", 1)
        load_class(card(fault.row).target)  # a module first imported with the edit would keep it after the test
        for dependent in [*sys.modules]:  # they are imported again, and then see the edit
            if dependent.startswith(("mixers.ops.", f"mixers.{family.split('.')[0]}.")) and dependent != OPERATORS:
                _forget(dependent, monkeypatch)
        changed = type(module)(fault.module)
        monkeypatch.setitem(sys.modules, fault.module, changed)
        exec(compile(source.replace(line, fault.edit), fault.module, "exec"), changed.__dict__)
        parent, _, leaf = fault.module.rpartition(".")
        monkeypatch.setattr(sys.modules[parent], leaf, changed, raising=False)
        return getattr(importlib.import_module(f"mixers.{family}"), name)

    return edit


def prove_every_form(law: Law, subject: Subject) -> None:
    for causal in forms_of(law, subject):
        prove(law, subject, causal, settings(phases=[Phase.generate]))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.row}-{fault.law}-{fault.about}".replace(" ", "_"))
def test_fault_breaks_its_law(fault: Fault, edited):
    row = card(fault.row)
    subject = Subject.of_class(edited(fault), claims=row.claims, **row.keywords)
    law = LAWS[fault.law]
    with pytest.raises(BrokenLaw, match=f"breaks {law.name} ") as caught:
        prove_every_form(law, subject)
    assert not caught.value.crashed, f"caught by accident: {caught.value}"


def test_every_law_and_every_family_has_a_fault():
    assert {fault.law for fault in FAULTS} == set(LAWS)
    assert {card(fault.row).family for fault in FAULTS} == {card(name).family for name in names()}
