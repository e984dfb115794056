"""One-line edits of the toeplitz rows' sources, and the law that each breaks."""

from tests.mixers.faults.fault import Fault

OPERATOR = "mixers.toeplitz.operator"
PROJECTIONS = "mixers.toeplitz.mixer"
COEFFICIENTS = "mixers.toeplitz.coefficients"
DECAY = "mixers.toeplitz.decay"
GRID = "mixers.toeplitz.grid"
SKI = "mixers.toeplitz.ski"
CONVOLUTION = "mixers.toeplitz.convolution"
TOEPLITZ = "mixers.ops.toeplitz"
ONLINE = "mixers.ops.online"
PLACES = "mixers.ops.grid"

FAULTS = [
    Fault(
        "a leak of one token",
        "convolution",
        CONVOLUTION,
        "(reach, 0 if self.causal else reach)",
        "(reach - 1, 1) if self.causal else (reach, reach)",
        "causal",
    ),
    Fault(
        "a circular product without zeros behind",
        "gtu",
        TOEPLITZ,
        "return 2 * unit * next(",
        "return unit * next(",
        "causal",
    ),
    Fault(
        "mixing replaced by the identity",
        "gtu",
        PROJECTIONS,
        "self.operator(values, mask, silu=True)",
        "self.projections.activate(values) + 0 * self.operator(values, mask, silu=True)",
        "causal",
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
        "self.operator(values, mask, silu=True)",
        "self.operator(values, silu=True)",
        "padding",
    ),
    Fault(
        "pads multiplied instead of filled",
        "tno",
        OPERATOR,
        "        x = fill_pads(x, mask)",
        "        x = x if mask is None else x * mask[..., None]",
        "pads",
    ),
    Fault(
        "a prefill that forgets its last token",
        "convolution",
        CONVOLUTION,
        "[:, x.shape[1] :].clone()",
        "[:, : self.width - 1]",
        "prefill",
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
    Fault(
        "a decay that counts from the start",
        "gtu",
        OPERATOR,
        "        length = x.shape[1]",
        "        length = x.shape[1]\n        x = x * x.new_tensor(range(1, 2 + length))[:length, None]",
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
        "batch statistics",
        "gtu",
        PROJECTIONS,
        "silu_gate(gate, mixed)",
        "silu_gate(gate, mixed) / (1 + mixed.square().mean(0))",
        "batch",
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
        "a buffer that state_dict does not carry",
        "tno",
        DECAY,
        "torch.full((dim,), -math.log(decay)))",
        "torch.rand(dim), persistent=False)",
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
        "storage taken for shape",
        "convolution",
        CONVOLUTION,
        "fill_pads(x, mask).transpose(1, 2)",
        "fill_pads(x, mask).as_strided(x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1)).transpose(1, 2)",
        "strides",
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
        "prefill",
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
        "zeros where the coefficients end",
        "gtu_free",
        COEFFICIENTS,
        '            raise ValueError(f"N={length} is beyond',
        "            known = self(self.longest)\n"
        "            return torch.cat([known, known.new_zeros(length - self.longest, known.shape[1])])\n"
        '            raise ValueError(f"N={length} is beyond',
        "refusals",
    ),
]
