"""A browser for sessions: `python pick_person.py WHO URL` is WHO on the page of the provider of `up --dev`."""

import re
import sys
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin, urlsplit
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener


def main() -> None:
    who, url = sys.argv[1:]
    browser = build_opener(HTTPCookieProcessor(CookieJar()), ProxyHandler({}))
    with browser.open(url) as answer:
        page, place = answer.read().decode(), answer.url
    # Without a page that asks, the browser was sent back to jit at once.
    if asked := re.search(r'name="interaction" value="([^"]+)"', page):
        form = urlencode({"interaction": asked[1], "answer": who}).encode()
        action = re.search(r'action="([^"]+)"', page)
        target = urljoin(place, action[1] if action else "")
        parts = urlsplit(target)
        origin = f"{parts.scheme}://{parts.netloc}"
        browser.open(Request(target, form, {"origin": origin})).close()  # noqa: S310 (the page that was opened)


if __name__ == "__main__":
    main()
