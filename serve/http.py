"""What HTTP asks of every route alike, so that no route has to think of it."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.limits import Refusal

NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
OWN = "style-src 'unsafe-inline' 'self'; script-src 'unsafe-inline' 'self'; connect-src 'self'; img-src blob: data:"
PAGES = ("/", "/docs")


def security_headers(path: str) -> dict[str, str]:
    """Return the headers by which a browser takes an answer for what it is, and lets it load what it needs alone."""
    return {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": f"{NOTHING}; {OWN}" if path in PAGES else NOTHING,  # the rest is data
    }


class HttpRules:
    """The rules of HTTP around an application: forms of a target, HEAD, one length of a body, headers of safety.

    A target may name the server as well, as a client sends it that was told of a proxy, and end in slashes: both mean
    the route without them. To redirect would lose the body of many clients, and send them where the Host header says.
    HEAD is answered as GET, whose body the server leaves out. A body with two lengths is refused, for a proxy in front
    may have believed the other one.

    Source: RFC 9112, sections 3.2.2 and 6.3; RFC 9110, section 9.3.2.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = _route(scope["path"])

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in security_headers(path).items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            refusal = Refusal(
                400,
                "the body has two lengths",
                got="Content-Length and Transfer-Encoding",
                expected="one of them",
                do="send the length, or send in chunks",
            ).response()
            refusal.headers["Connection"] = "close"  # who knows where the next request begins
            await refusal(scope, receive, answer)
            return
        raw_path = _route(scope.get("raw_path", b"").decode("latin-1")).encode("latin-1")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        await self.app({**scope, "path": path, "raw_path": raw_path, "method": method}, receive, answer)


def _route(target: str) -> str:
    scheme, separator, rest = target.partition("://")
    if separator and scheme.lower() in ("http", "https"):
        target = "/" + rest.partition("/")[2]
    return target.rstrip("/") or "/"
