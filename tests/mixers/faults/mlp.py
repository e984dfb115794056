"""One-line edits of the mlp rows' sources, and the law that each breaks."""

from tests.mixers.faults.fault import Fault

GMLP = "mixers.mlp.gmlp"
SCORES = "mixers.mlp.scores"
SYNTHESIZER = "mixers.mlp.synthesizer"

FAULTS = [
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
        "prefill",
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
]
