"""Write files atomically and read safetensors files without torch.

Imports numpy and the errors only. Every file that attributor writes goes through here.
"""

from attributor._io.files import NUMPY_CODES, read_safetensors, replace_folder, write_atomically
from attributor._io.safetensors_header import FLOW_FILE, FileKind, Header, check_kind, open_regular_file, read_header

__all__ = [
    "FLOW_FILE",
    "NUMPY_CODES",
    "FileKind",
    "Header",
    "check_kind",
    "open_regular_file",
    "read_header",
    "read_safetensors",
    "replace_folder",
    "write_atomically",
]
