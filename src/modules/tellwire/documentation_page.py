"""`/docs`: the OpenAPI document as a page that loads nothing from elsewhere."""

from importlib import resources
from typing import Final

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse

from shared.infrastructure.http.errors import RouteNotFound

PAGE: Final = "/docs"
ASSETS: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
}
_PACKAGE: Final = "fastapi_offline"  # Carries Swagger UI's files; nothing else of it is used.
# The page's own script stands in the page; whatever else it might ask for is refused.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:"
)
_DAY: Final = {"Cache-Control": "public, max-age=86400"}


def add_documentation(app: FastAPI) -> None:
    """Serve the page and its files; `app` has no page of FastAPI's own."""
    page = get_swagger_ui_html(
        openapi_url=str(app.openapi_url),
        title=app.title,
        swagger_js_url=f"{PAGE}/assets/swagger-ui-bundle.js",
        swagger_css_url=f"{PAGE}/assets/swagger-ui.css",
        swagger_favicon_url=f"{PAGE}/assets/favicon.png",
        # Otherwise Swagger UI sends the address of the document to a validator on the internet.
        swagger_ui_parameters={"validatorUrl": None},
    )
    html = bytes(page.body)

    @app.get(PAGE, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})

    @app.get(f"{PAGE}/assets/{{name}}", include_in_schema=False)
    async def show_asset(name: str) -> FileResponse:
        if name not in ASSETS:
            raise RouteNotFound
        file = resources.files(_PACKAGE).joinpath("static", name)
        return FileResponse(str(file), media_type=ASSETS[name], headers=_DAY)
