"""Naming models that are not FLUX.2."""

# Longest prefix first where one contains another.
_OTHER_MODELS: tuple[tuple[str, str], ...] = (
    ("StableDiffusionXL", "Stable Diffusion XL (SDXL)"),
    ("StableDiffusion3", "Stable Diffusion 3"),
    ("StableDiffusion", "Stable Diffusion 1.5 or 2"),
    ("StableCascade", "Stable Cascade"),
    ("StableVideoDiffusion", "Stable Video Diffusion"),
    ("FluxKontext", "FLUX.1 Kontext"),
    ("FluxFill", "FLUX.1 Fill"),
    ("Flux", "FLUX.1"),
    ("QwenImage", "Qwen-Image"),
    ("ZImage", "Z-Image"),
    ("PixArt", "PixArt"),
    ("Sana", "Sana"),
    ("Kandinsky", "Kandinsky"),
    ("Kolors", "Kolors"),
    ("HunyuanDiT", "Hunyuan-DiT"),
    ("HunyuanImage", "HunyuanImage"),
    ("HunyuanVideo", "HunyuanVideo"),
    ("CogVideoX", "CogVideoX"),
    ("CogView", "CogView"),
    ("AuraFlow", "AuraFlow"),
    ("Chroma", "Chroma"),
    ("HiDream", "HiDream"),
    ("Lumina", "Lumina"),
    ("OmniGen", "OmniGen"),
    ("Bria", "Bria"),
    ("LTX", "LTX-Video"),
    ("Mochi", "Mochi"),
    ("Wan", "Wan"),
)


def other_model(class_name: str) -> str | None:
    """Name of the model a pipeline class of diffusers belongs to; None when we do not know it."""
    return next((name for prefix, name in _OTHER_MODELS if class_name.startswith(prefix)), None)
