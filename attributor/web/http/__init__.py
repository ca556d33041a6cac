"""What both web views share: security rules, error responses, files, and the routes of one flow."""

from attributor.web.http.errors import LOG, ApiError, error_body, log_failure, register, status_of
from attributor.web.http.files import FileAnswer, Place, opened
from attributor.web.http.flows import router
from attributor.web.http.guard import Guard
from attributor.web.http.schema import ErrorBody, FlowId, Session, SourceFiles, SourceInfo, SourceList
from attributor.web.http.security import CSRF_HEADER, UNSAFE, Access, header_pairs

__all__ = [
    "CSRF_HEADER",
    "LOG",
    "UNSAFE",
    "Access",
    "ApiError",
    "ErrorBody",
    "FileAnswer",
    "FlowId",
    "Guard",
    "Place",
    "Session",
    "SourceFiles",
    "SourceInfo",
    "SourceList",
    "error_body",
    "header_pairs",
    "log_failure",
    "opened",
    "register",
    "router",
    "status_of",
]
