"""Files: written whole or not at all, and safetensors files read without torch.

Imports numpy and the errors only. Every file that attributor writes goes through here.
"""

from attributor._io.files import read_safetensors, replace_folder, write_atomically
from attributor._io.safetensors_header import FLOW, FileKind, Header, check_kind, open_checked, read_header

__all__ = [
    "FLOW",
    "FileKind",
    "Header",
    "check_kind",
    "open_checked",
    "read_header",
    "read_safetensors",
    "replace_folder",
    "write_atomically",
]
