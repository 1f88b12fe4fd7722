"""The portal over HTTP: the page, and the files that it asks for."""

import hashlib
from collections.abc import Mapping
from typing import Final

from aiohttp import ETag, hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from collector import __version__
from collector.errors import ProblemError
from collector.identity.operations import Operation
from collector.portal.assets import PLOTLY, Asset, accepted_coding, load_assets
from collector.portal.causes import causes_json, load_causes

# plotly.js 4.1.1 carries MapLibre, which adds a style sheet of its own, for maps, when it loads.
# This is its hash; with a plotly.js that has another one the plots are the same, but the browser's
# console tells of a sheet refused.
_MAPLIBRE_SHEET: Final = "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
# Nothing inline and nothing from elsewhere. Styles need no 'unsafe-inline': plotly.js puts its
# rules into the style sheet whose id is plotly.js-style-global, which the page brings, and sets the
# style of elements through the DOM, which a policy does not regard.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        f"style-src 'self' {_MAPLIBRE_SHEET}",
        "img-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_ASSET_HEADERS: Final = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}


def operations() -> list[Operation]:
    """Return the operations of the portal; they are open to all, since they hold no data.

    Raises `OSError` if plotly.js is not installed, `ConfigError` if a text is missing.
    """
    return Portal(load_assets({"causes.json": causes_json(load_causes())})).operations()


class Portal:
    """Answers for the page and its files."""

    def __init__(self, assets: tuple[Asset, ...]) -> None:
        self._assets = {(asset.digest, asset.name): asset for asset in assets}
        self._page = _render({asset.name: asset.url for asset in assets})
        self._etag = hashlib.sha256(self._page.encode()).hexdigest()[:32]

    def operations(self) -> list[Operation]:
        """Return the operations of this room."""
        return [
            Operation("GET", "/", "The portal", self._index, role=None),
            Operation(
                "GET", "/assets/{digest}/{name}", "A file of the portal", self._asset, role=None
            ),
        ]

    async def _index(self, request: web.Request) -> web.StreamResponse:
        known = {tag.value for tag in request.if_none_match or ()}
        if self._etag in known:
            response = web.Response(status=304, headers=_PAGE_HEADERS)
        else:
            response = web.Response(
                text=self._page, content_type="text/html", headers=_PAGE_HEADERS
            )
        response.etag = ETag(self._etag)
        return response

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.get((request.match_info["digest"], request.match_info["name"]))
        if asset is None:
            raise ProblemError(404, "Not Found", headers={"Cache-Control": "no-store"})
        headers = {**_ASSET_HEADERS, hdrs.CONTENT_TYPE: asset.media_type}
        coding = accepted_coding(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        if coding is None:
            return web.Response(body=asset.content, headers=headers)
        headers[hdrs.CONTENT_ENCODING] = coding
        return web.Response(body=await asset.encoded(coding), headers=headers)


def _render(urls: Mapping[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("collector.portal"), autoescape=True, undefined=StrictUndefined
    )
    modules = [url for name, url in urls.items() if name.endswith(".js") and name != PLOTLY]
    page = environment.get_template("index.html")
    return page.render(asset=urls, modules=modules, version=__version__)
