"""PyOD's detectors behind the guards of `geoanom.detect.base`."""

from __future__ import annotations

import inspect
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from geoanom.detect.base import Detector
from geoanom.errors import ConfigError
from geoanom.registry import unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pyod.models.base import BaseDetector

OWN = {"contamination", "random_state", "n_jobs", "verbose", "novelty"}
"""Parameters that geoanom sets itself."""


class PyodDetector(Detector):
    """A PyOD model; subclasses name it and give geoanom's defaults for its parameters."""

    target: ClassVar[str]
    """``module:class`` below ``pyod.models``."""
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, *, whiten: bool = False, **params: Any) -> None:
        """Take parameters of the PyOD model.

        Raises:
            ConfigError: a parameter that the model does not have.
        """
        super().__init__(whiten=whiten)
        module, _, name = self.target.partition(":")
        self._class: type[BaseDetector] = getattr(import_module(f"pyod.models.{module}"), name)
        self._known = set(inspect.signature(self._class).parameters)
        for param in params:
            if param not in self._known - OWN:
                raise unknown(f"parameter of {name}", param, self._known - OWN | {"whiten"})
        self._params = {**self.defaults, **params}
        self._model: BaseDetector | None = None
        self._point: NDArray[np.float64] | None = None

    def _fit(self, rows: NDArray[np.float64], seed: int) -> None:
        """Fit the model.

        Raises:
            ConfigError: PyOD does not accept a parameter's value.
        """
        self._point = rows[0] if (rows == rows[0]).all() else None
        if self._point is not None:
            return  # nothing varies that a model could learn: some give one score to all rows then, others fail
        try:
            self._model = self._class(**self._fitting(len(rows), seed))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scikit-learn's notes on constant columns and singular covariances
                self._model.fit(rows)
        except (TypeError, ValueError) as error:  # the rows were checked, so it is the parameters
            name = self._class.__name__
            raise ConfigError(f"detector {name}", f"cannot be fitted with {self._params} ({error})", "change its parameters") from error

    def _fitting(self, n_rows: int, seed: int) -> dict[str, Any]:
        """Parameters for a reference of `n_rows` rows: no more neighbours or components than there are other rows."""
        own = {"random_state": seed, "n_jobs": 1}
        params = {**self._params, **{name: value for name, value in own.items() if name in self._known}}
        for name in ("n_neighbors", "n_components"):
            if name in params:
                params[name] = min(params[name], n_rows - 1)
        return params

    def _score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._point is not None:
            return np.asarray(np.linalg.norm(rows - self._point, axis=1), np.float64)
        if self._model is None:
            raise ValueError("the detector is not fitted")
        return np.asarray(self._model.decision_function(rows), np.float64)


class KnnTree(PyodDetector):
    """Mean distance to the nearest neighbours by a tree, for few dimensions (Ramaswamy et al. 2000, doi:10.1145/342009.335437)."""

    target = "knn:KNN"
    defaults: ClassVar[dict[str, Any]] = {"n_neighbors": 10, "method": "mean"}


class Lof(PyodDetector):
    """Local outlier factor against the frozen reference (Breunig et al. 2000, doi:10.1145/342009.335388)."""

    target = "lof:LOF"
    defaults: ClassVar[dict[str, Any]] = {"n_neighbors": 20}


class IForest(PyodDetector):
    """Isolation forest (Liu et al. 2008, doi:10.1109/ICDM.2008.17)."""

    target = "iforest:IForest"
    defaults: ClassVar[dict[str, Any]] = {"n_estimators": 200}


class Gmm(PyodDetector):
    """Negative log-likelihood under a Gaussian mixture."""

    target = "gmm:GMM"
    defaults: ClassVar[dict[str, Any]] = {"n_components": 8, "reg_covar": 1e-3}


class Hbos(PyodDetector):
    """Histogram-based outlier score (Goldstein and Dengel 2012)."""

    target = "hbos:HBOS"


class Mcd(PyodDetector):
    """Mahalanobis distance by the minimum covariance determinant (Rousseeuw and Van Driessen 1999, doi:10.1080/00401706.1999.10485670)."""

    target = "mcd:MCD"


class Ocsvm(PyodDetector):
    """One-class support vector machine (Schölkopf et al. 2001, doi:10.1162/089976601750264965)."""

    target = "ocsvm:OCSVM"
    defaults: ClassVar[dict[str, Any]] = {"nu": 0.1}
