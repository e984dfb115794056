"""One-line edits of the state space rows' sources, and the law that each breaks."""

from tests.mixers.faults.fault import Fault

SPACE = "mixers.state_space.space"
S4D = "mixers.state_space.s4d"
DPLR = "mixers.state_space.dplr"
DSS = "mixers.state_space.dss"
DSS_SOFTMAX = "mixers.state_space.dss_softmax"
GSS = "mixers.state_space.gss"

FAULTS = [
    Fault(
        "a detached statistic of the future",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        return self.output(y) / (1 + x.detach().square().mean(1, keepdim=True))",
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
        "a second kernel that is never read",
        "s4d",
        SPACE,
        "torch.cat([kernels[1, : length - 1].flip(0), past])",
        "torch.cat([0 * kernels[1, : length - 1].flip(0), past])",
        "bidirectional",
    ),
    Fault(
        "a step that writes to its input",
        "s4d",
        SPACE,
        "        return self.output(y.to(x.dtype)), state",
        "        out = self.output(y.to(x.dtype))\n        x.mul_(2)\n        return out, state",
        "prefill",
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
        "prefill",
    ),
    Fault(
        "frequencies rounded to bfloat16",
        "s4d",
        S4D,
        "        a = torch.complex(-self.log_decay.to(dtype).exp(), self.frequency.to(dtype))",
        "        low = torch.bfloat16 if self.skip.dtype == torch.float32 else dtype\n"
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
        "the seed of the whole process set in forward",
        "s4d",
        SPACE,
        "        return self.output(y)",
        "        torch.manual_seed(0)\n        return self.output(y)",
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
        "        return self.modes.system(length, torch.float64).kernel(length, wide(self.skip))",
        "        kernel = self.modes.system(length, torch.float64).kernel(length, wide(self.skip)).detach()\n"
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
]
