"""The API about itself: its documents, the interactive page with its files, and whether it lives. No sign-in is needed.

The page's files come from an installed package and are served from here, so that it works without internet; its
policy lets nothing in from elsewhere.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Final

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from postern_api.http.openapi import describe
from postern_api.http.problems import not_found
from postern_api.tenancy import public
from postern_common.asyncapi import build_asyncapi

router = APIRouter(dependencies=[public()], include_in_schema=False)

ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
}
DAY_SECONDS: Final = 86_400
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Postern API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""
# Apart from the page, so that the policy need not allow scripts in it.
START: Final = """\
SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: false, docExpansion: "none",
  validatorUrl: null, presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout"
});
"""


@cache
def _asset(name: str) -> bytes:
    if name == "start.js":
        return START.encode()
    return (files("fastapi_offline") / "static" / name).read_bytes()


@router.get("/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """This API as OpenAPI document."""
    return JSONResponse(describe(request.app))


@cache
def _asyncapi() -> dict[str, Any]:
    return build_asyncapi()


@router.get("/asyncapi.json")
async def asyncapi() -> JSONResponse:
    """The events as AsyncAPI document."""
    return JSONResponse(_asyncapi())


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The interactive page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/assets/{name}")
async def asset(name: str = Path(max_length=100)) -> Response:
    """A file of the page."""
    if name not in ASSETS:
        raise not_found()
    return Response(_asset(name), media_type=ASSETS[name], headers={"Cache-Control": f"public, max-age={DAY_SECONDS}"})


@router.get("/livez")
async def livez() -> PlainTextResponse:
    """The process turns."""
    return PlainTextResponse("ok\n")
