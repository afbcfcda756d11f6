"""Every error this project raises on purpose, in one tree.

    Lift3DError                  exit code 1
    ├── ConfigError              exit code 2   a config value, option or file that cannot be used
    │   └── UnknownNameError                   a reader, operator or label set that is not known
    ├── DatasetError                           a dataset or scene that cannot be read
    │   └── FrameError                         one frame that cannot be used; carries a `Reason`
    ├── OperatorError                          a 2D operator that cannot be built or misbehaves
    │   ├── MissingWeightsError                weights that are not where they were looked for
    │   └── ContractError                      an operator broke the operator protocol
    ├── StoreError                             a label store that cannot be read or written
    │   └── LeaseError                         another run is at work on the same labels
    └── EngineError                            the run cannot be hosted or did not finish

Messages say what is wrong, where, what was expected, what was found and what to do about it.
"""

from __future__ import annotations

from enum import StrEnum

from schemas.text import presentable


class Reason(StrEnum):
    """Why a frame was not labelled: the stable codes of quarantine rows and of `lift3d inspect`."""

    POSE_MISSING = "pose_missing"
    POSE_UNREADABLE = "pose_unreadable"
    POSE_NOT_FINITE = "pose_not_finite"
    POSE_NOT_RIGID = "pose_not_rigid"
    INTRINSICS_INVALID = "intrinsics_invalid"
    IMAGE_MISSING = "image_missing"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_SIZE_MISMATCH = "image_size_mismatch"
    DEPTH_MISSING = "depth_missing"
    DEPTH_UNREADABLE = "depth_unreadable"
    DEPTH_SIZE_MISMATCH = "depth_size_mismatch"
    LABEL_UNREADABLE = "label_unreadable"
    DUPLICATE_FRAME = "duplicate_frame"
    SCENE_UNREADABLE = "scene_unreadable"
    LENS_DISTORTED = "lens_distorted"
    PREDICTION_MISSING = "prediction_missing"
    PREDICTION_UNREADABLE = "prediction_unreadable"
    OPERATOR_FAILED = "operator_failed"
    OPERATOR_CONTRACT = "operator_contract"
    LIFT_FAILED = "lift_failed"
    WORKER_DIED = "worker_died"
    TIMEOUT = "timeout"


class Lift3DError(Exception):
    """Root of the tree. `str(error)` is one line: where, what, and the remedy.

    Args:
        message: what is wrong, with what was expected and what was found; credentials in it are masked.
        scene: the scene's id, where one is concerned.
        frame: the frame's id as the dataset names it, where one is concerned.
        remedy: what the user can do.
    """

    exit_code = 1

    def __init__(self, message: str, *, scene: str | None = None, frame: str | None = None, remedy: str = "") -> None:
        message, remedy = presentable(message), presentable(remedy)
        super().__init__(message, scene, frame, remedy)
        self.message = message
        self.scene = scene
        self.frame = frame
        self.remedy = remedy

    def __str__(self) -> str:
        where = [f"{kind} {name!r}" for kind, name in (("scene", self.scene), ("frame", self.frame)) if name]
        text = f"{', '.join(where)}: {self.message}" if where else self.message
        return f"{text}. {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.__dict__))


class ConfigError(Lift3DError):
    """A config value, command-line option or config file that cannot be used."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A reader, operator or label set that nobody registered."""


class DatasetError(Lift3DError):
    """A dataset or a scene that cannot be read at all."""


class FrameError(DatasetError):
    """One frame that cannot be used. The rest of its scene is not affected."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        scene: str | None = None,
        frame: str | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, scene=scene, frame=frame, remedy=remedy)
        self.reason = reason


class OperatorError(Lift3DError):
    """A 2D operator that cannot be built, or that failed on its input."""


class MissingWeightsError(OperatorError):
    """Weights that are not where they were looked for."""

    exit_code = 2


class ContractError(OperatorError):
    """An operator returned something that the operator protocol forbids."""


class StoreError(Lift3DError):
    """A label store that cannot be read or written."""


class LeaseError(StoreError):
    """Another run is at work on the labels of the same operator in the same store, or took them over."""


class EngineError(Lift3DError):
    """The run cannot be hosted by the machine or cluster, or it did not finish."""


def _rebuild(cls: type[Lift3DError], message: str, state: dict[str, object]) -> Lift3DError:
    """Unpickle without calling the subclass's own __init__ (Ray sends errors between processes)."""
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error
