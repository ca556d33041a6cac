"""Load a model and its tokenizer, read the facts about it, and generate text.

Names are imported on first use: the command line reads the default model's name without importing torch.
"""

from typing import TYPE_CHECKING

from attributor._literals import import_on_first_use, lazy_imports

# the one list of names; type checkers read it, and __getattr__ takes their modules from it
if TYPE_CHECKING:
    from attributor._models.default_model import DEFAULT_MODEL as DEFAULT_MODEL
    from attributor._models.default_model import cache_folder as cache_folder
    from attributor._models.default_model import converted_folder as converted_folder
    from attributor._models.default_model import silence_transformers as silence_transformers
    from attributor._models.facts import ModelFacts as ModelFacts
    from attributor._models.facts import accepts_argument as accepts_argument
    from attributor._models.facts import adapter_state as adapter_state
    from attributor._models.facts import device_of as device_of
    from attributor._models.facts import find_empty_parameter as find_empty_parameter
    from attributor._models.facts import model_facts as model_facts
    from attributor._models.facts import model_id as model_id
    from attributor._models.facts import text_config as text_config
    from attributor._models.facts import window_of as window_of
    from attributor._models.generation import end_token_ids as end_token_ids
    from attributor._models.generation import generate as generate
    from attributor._models.generation import strip_end_token as strip_end_token
    from attributor._models.generation import use_eval_mode as use_eval_mode
    from attributor._models.load import ModelLocation as ModelLocation
    from attributor._models.load import failure_reason as failure_reason
    from attributor._models.load import is_connection_failure as is_connection_failure
    from attributor._models.load import is_default_model as is_default_model
    from attributor._models.load import is_hub_id as is_hub_id
    from attributor._models.load import is_in_hub_cache as is_in_hub_cache
    from attributor._models.load import load_model as load_model
    from attributor._models.load import locate_model as locate_model
    from attributor._models.load import model_source as model_source
    from attributor._models.log_probs import token_log_probs as token_log_probs
    from attributor._models.tokenizer import load_tokenizer as load_tokenizer

_HOMES = lazy_imports(__file__)

__all__ = sorted(_HOMES)

__getattr__ = import_on_first_use(__name__, _HOMES)
