"""Which torch device a name means."""

from __future__ import annotations

from mdbench.errors import InputError


def check_device(device: str) -> str:
    """``device`` if torch has it here.

    Raises:
        InputError: it is no device name, or torch sees no such device.
    """
    if device == "cpu":
        return device
    import torch

    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"device '{device}' cannot be used here: {reason}; use cpu.") from None
    return device
