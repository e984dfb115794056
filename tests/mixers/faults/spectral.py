"""One-line edits of the spectral rows' sources, and the law that each breaks."""

from tests.mixers.faults.fault import Fault

FNET = "mixers.spectral.fnet"
GFNET = "mixers.spectral.gfnet"
AFNO = "mixers.spectral.afno"
FOURIER = "mixers.ops.fourier"

FAULTS = [
    Fault("a mean over pads too", "fnet", FNET, "        filled = fill_pads(x, mask)", "        filled = x", "pads"),
    Fault("a rectified spectrum", "fnet", FNET, "dim=(1, 2)).real", "dim=(1, 2)).abs()", "linear"),
    Fault(
        "an input clamped in place",
        "fnet",
        FNET,
        "        filled = fill_pads(x, mask)",
        "        filled = fill_pads(x, mask).clamp_(-2, 2)",
        "strides",
    ),
    Fault(
        "decoding where nothing is claimed",
        "fnet",
        FNET,
        "        return torch.fft.fft2(filled.to(wide(x)), dim=(1, 2)).real.to(x.dtype)",
        "        return torch.fft.fft2(filled.to(wide(x)), dim=(1, 2)).real.to(x.dtype)\n\n"
        "    def init_state(self, batch_size):\n        return {}",
        "refusals",
    ),
    Fault(
        "a transform over tokens without its mask",
        "fnet_masked",
        FNET,
        "        return masked_transform(channels, conjugate=True).real.to(x.dtype)",
        "        return torch.fft.fft(channels, dim=1, norm='ortho').real.to(x.dtype)",
        "causal",
    ),
    Fault(
        "gains as large as the input",
        "gfnet_tnn",
        GFNET,
        "        gains = self.gains(x)[:count]",
        "        gains = self.gains(x)[:count] * x.abs().amax()",
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
        "a mean over all tokens taken away",
        "afno_masked",
        AFNO,
        "masked_transform(self.layers(masked_transform(x)), conjugate=True)",
        "masked_transform(self.layers(masked_transform(x - x.mean(1, keepdim=True))), conjugate=True)",
        "causal",
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
]
