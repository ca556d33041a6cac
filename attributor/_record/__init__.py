"""Record a transformers model while it runs: queries, keys and log-sum-exps of the selected heads.

`attention_interface.py` is the only file that uses transformers' attention interface.
"""

from attributor._record.attach import attach_recorder, override
from attributor._record.attention import attention
from attributor._record.attention_gradient import attention_gradient
from attributor._record.attention_interface import (
    attention_modules,
    check_decoder,
    check_recordable,
    decoder_of,
    layer_names,
    open_session,
    use_attention_implementation,
)
from attributor._record.fused_attention import OUT_OF_MEMORY_MESSAGES
from attributor._record.head_weights import HeadWeights, Transform
from attributor._record.inputs import (
    answer_length,
    check_ids,
    check_no_media,
    check_tokenizer,
    parse_prompt_lengths,
    parse_sequences,
    resolve_prompt_lengths,
)
from attributor._record.layer_recurrence import layer_step
from attributor._record.mask import Mask, causal, classify_mask
from attributor._record.model_state import model_state
from attributor._record.offload import Offload
from attributor._record.projection import output_norm
from attributor._record.recorded_attention import RecordedAttention, forward, record_attention
from attributor._record.recorder import Recorder
from attributor._record.row_sums import RowSumCheck
from attributor._record.tape import Span, Tape

__all__ = [
    "OUT_OF_MEMORY_MESSAGES",
    "HeadWeights",
    "Mask",
    "Offload",
    "RecordedAttention",
    "Recorder",
    "RowSumCheck",
    "Span",
    "Tape",
    "Transform",
    "answer_length",
    "attach_recorder",
    "attention",
    "attention_gradient",
    "attention_modules",
    "causal",
    "check_decoder",
    "check_ids",
    "check_no_media",
    "check_recordable",
    "check_tokenizer",
    "classify_mask",
    "decoder_of",
    "forward",
    "layer_names",
    "layer_step",
    "model_state",
    "open_session",
    "output_norm",
    "override",
    "parse_prompt_lengths",
    "parse_sequences",
    "record_attention",
    "resolve_prompt_lengths",
    "use_attention_implementation",
]
