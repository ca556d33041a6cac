"""The OpenAPI description of both modes, which `python -m attributor.web.openapi` prints.

The server itself does not send it. `make web` generates TypeScript's types from it, and tests drive the server with it.
"""

import json
from typing import Any

from attributor.web.app import Mode, create_api
from attributor.web.http import CSRF_HEADER, UNSAFE, Access

__all__ = ["build_openapi"]

FAILURES = ("4XX", "5XX")
FAILURE = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}


def build_openapi(mode: Mode = "serve", *, live: Any = None) -> dict[str, Any]:
    """OpenAPI 3.1 of a mode, as JSON-like values; every route of `explore` is in `serve`, too.

    Args:
        mode: "explore" or "serve".
        live: the service of `serve`; the description does not depend on it.
    """
    openapi: dict[str, Any] = create_api(mode, Access("localhost", 3000), live=live).openapi()
    scheme = {"type": "apiKey", "in": "header", "name": CSRF_HEADER, "description": "csrf of GET /api/session"}
    openapi.setdefault("components", {})["securitySchemes"] = {"csrf": scheme}
    for path in openapi["paths"].values():
        for method, operation in path.items():
            for status, response in operation["responses"].items():
                if status in FAILURES:  # failures are JSON, also for routes that otherwise send something else
                    response["content"] = FAILURE
            if method.upper() in UNSAFE:
                operation["security"] = [{"csrf": []}]
    return openapi


if __name__ == "__main__":
    print(json.dumps(build_openapi(), indent=2, ensure_ascii=True, sort_keys=True))
