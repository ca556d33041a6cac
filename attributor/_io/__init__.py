"""Write files atomically and read safetensors files without torch.

Imports numpy and the errors only. Every file that attributor writes goes through here.
"""

from attributor._io.files import NUMPY_CODES, read_safetensors, replace_folder, write_atomically
from attributor._io.safetensors_header import (
    FLOW_FILE,
    LONGEST_HEADER,
    FileKind,
    Header,
    check_kind,
    describe_unreadable,
    open_regular_file,
    read_header,
    shorten_path,
)

__all__ = [
    "FLOW_FILE",
    "LONGEST_HEADER",
    "NUMPY_CODES",
    "FileKind",
    "Header",
    "check_kind",
    "describe_unreadable",
    "open_regular_file",
    "read_header",
    "read_safetensors",
    "replace_folder",
    "shorten_path",
    "write_atomically",
]
