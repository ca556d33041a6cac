"""The parts that both web views share: security rules, error responses, files, and the routes of one flow."""

from attributor.web.http.errors import LOG, ApiError, add_error_handlers, classify_error, error_body, log_failure
from attributor.web.http.files import FileRangeResponse, RootedPath, open_file
from attributor.web.http.flows import create_router
from attributor.web.http.guard import Guard
from attributor.web.http.schema import ErrorBody, FlowId, Session, SourceFiles, SourceInfo, SourceList
from attributor.web.http.security import CSRF_HEADER, UNSAFE, Access, build_security_headers

__all__ = [
    "CSRF_HEADER",
    "LOG",
    "UNSAFE",
    "Access",
    "ApiError",
    "ErrorBody",
    "FileRangeResponse",
    "FlowId",
    "Guard",
    "RootedPath",
    "Session",
    "SourceFiles",
    "SourceInfo",
    "SourceList",
    "add_error_handlers",
    "build_security_headers",
    "classify_error",
    "create_router",
    "error_body",
    "log_failure",
    "open_file",
]
