"""Errors: what a run directory raises, a failing accelerator, and an exception in one line."""

from __future__ import annotations

from crysjepa.runtime.notes import UsageError


class RunError(UsageError):
    """The directory belongs to another run, or is no run."""


def describe_error(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


_DEVICE_FAULTS = (
    "CUDA error", "cudaError", "CUDA driver error", "uncorrectable ECC", "device-side assert",
    "unspecified launch failure", "HIP error", "NVML",
)  # fmt: skip


class DeviceFault(RuntimeError):
    """The accelerator failed: nothing that this process computes on it counts from now on.

    Raised where errors are otherwise recorded for one crystal: after it every call fails, whatever it is
    given.
    """


def is_device_fault(error: BaseException) -> bool:
    """Whether an exception says that the accelerator failed. To be out of its memory is no such failure."""
    if isinstance(error, DeviceFault):
        return True
    said = f"{type(error).__name__}: {error}"
    return "out of memory" not in said and any(word in said for word in _DEVICE_FAULTS)
