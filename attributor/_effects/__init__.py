"""Removal effects: what an answer would lose without each segment of its prompt, by gradient and by real removals."""

from attributor._effects.ablation import CONVENTIONS, Ablator, TokenAblator
from attributor._effects.ablation_masks import case_seed, draw_antithetic_masks, draw_shared_masks
from attributor._effects.api import (
    EffectsTask,
    choose_rows,
    decode_prompt,
    effects,
    effects_of,
    gradient_of,
    locate_segments,
)
from attributor._effects.gradient_run import KeyEffects, copy_context, read_context
from attributor._effects.result import Effects
from attributor._effects.segments import SegmentTokens

__all__ = [
    "CONVENTIONS",
    "Ablator",
    "Effects",
    "EffectsTask",
    "KeyEffects",
    "SegmentTokens",
    "TokenAblator",
    "case_seed",
    "choose_rows",
    "copy_context",
    "decode_prompt",
    "draw_antithetic_masks",
    "draw_shared_masks",
    "effects",
    "effects_of",
    "gradient_of",
    "locate_segments",
    "read_context",
]
