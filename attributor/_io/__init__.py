"""Write files atomically and read safetensors files without torch.

Imports numpy and the errors only. Every file that attributor writes goes through here.
"""

from attributor._io.files import NUMPY_CODES, read_safetensors, replace_folder, write_atomically
from attributor._io.json_lines import OLD_MAC, has_old_mac_lines
from attributor._io.safetensors_header import (
    FLOW_FILE,
    LONGEST_HEADER,
    FileKind,
    Header,
    check_kind,
    describe_special_file,
    open_regular_file,
    read_header,
    shorten_path,
)

__all__ = [
    "FLOW_FILE",
    "LONGEST_HEADER",
    "NUMPY_CODES",
    "OLD_MAC",
    "FileKind",
    "Header",
    "check_kind",
    "describe_special_file",
    "has_old_mac_lines",
    "open_regular_file",
    "read_header",
    "read_safetensors",
    "replace_folder",
    "shorten_path",
    "write_atomically",
]
