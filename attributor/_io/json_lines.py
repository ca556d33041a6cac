"""Recognise JSON lines with the line ends of old Macs."""

import json

__all__ = ["OLD_MAC", "has_old_mac_lines"]

OLD_MAC = "its lines end with CR alone, as on old Macs; convert them, for example by tr '\\r' '\\n' < FILE > NEW"


def has_old_mac_lines(line: bytes) -> bool:
    """Whether a line is really several lines of JSON with CR alone between them."""
    first, *others = line.strip().split(b"\r")
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return bool(others)
