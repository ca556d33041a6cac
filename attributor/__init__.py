"""Which tokens, sentences and documents did a model's answer come from? Exact attention flow, at any length."""

from typing import TYPE_CHECKING, Any

from attributor._literals import import_on_first_use, lazy_imports

# The one list of public names. Type checkers read it; __getattr__ imports each name on first use, so that the command
# line and the explorer start without torch.
if TYPE_CHECKING:
    from attributor._ask import Answer as Answer
    from attributor._ask import ask as ask
    from attributor._cite import Citation as Citation
    from attributor._cite import CitedAnswer as CitedAnswer
    from attributor._cite import Claim as Claim
    from attributor._documents import Document as Document
    from attributor._effects import Effects as Effects
    from attributor._effects import effects as effects
    from attributor._errors import AttributorError as AttributorError
    from attributor._errors import DeviceMemoryError as DeviceMemoryError
    from attributor._errors import FileFormatError as FileFormatError
    from attributor._errors import ImplementationError as ImplementationError
    from attributor._errors import InputError as InputError
    from attributor._errors import ModelLoadError as ModelLoadError
    from attributor._errors import NumericsError as NumericsError
    from attributor._errors import OutputError as OutputError
    from attributor._errors import RecordingError as RecordingError
    from attributor._errors import UnsupportedModelError as UnsupportedModelError
    from attributor._flow import Recording as Recording
    from attributor._flow import flow as flow
    from attributor._flow import record as record
    from attributor._heads import Weights as Weights
    from attributor._heads import calibrate as calibrate
    from attributor._models import load_model as load_model
    from attributor._prompt import Prompt as Prompt
    from attributor._prompt import build_prompt as build_prompt
    from attributor._result import Flow as Flow
    from attributor._result import load as load
    from attributor._step import flow_step as flow_step
    from attributor._text import Segment as Segment

_HOMES = lazy_imports(__file__)

__all__ = sorted(_HOMES)

_import = import_on_first_use(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its package on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("attributor")
    return _import(name)


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
