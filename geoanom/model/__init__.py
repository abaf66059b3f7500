"""The model: everything that is frozen by a fit, how it judges tiles, and its bundle on disk."""

from geoanom.model.core import Model, TrainingScene

__all__ = ["Model", "TrainingScene"]
