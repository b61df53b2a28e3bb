"""Refusal of NaN and infinity, which conversion to bytes would turn into black or white pixels."""

from torch import Tensor

from latentline.core.errors import UserError


def require_finite(values: Tensor, setting: str, remedy: str, what: str = "latents") -> Tensor:
    """Return ``values`` (N, ...) as they are.

    Args:
        values: latents or pixels.
        setting: the probable cause, with its value, for the message.
        remedy: for the message.
        what: the values are.

    Raises:
        UserError: a value is NaN or infinite.
    """
    if bool(values.isfinite().all()):
        return values
    bad = int((~values.isfinite()).flatten(1).any(dim=1).sum())
    raise UserError(f"{setting} must give finite {what}, not NaN or infinity in {bad} of {len(values)}; {remedy}")
