"""What clients of caches send, as docs/cms.md has them: the bytes, and what is to be made of them."""

from __future__ import annotations

from typing import Final, NamedTuple

SITE: Final = "www.example.com"
SHOP: Final = "shop.example.com"


class Sent(NamedTuple):
    """One request of a client, and what it asks for where a token may purge `SITE` and `SHOP`."""

    kind: str
    targets: list[str]
    lines: tuple[str, ...]
    default_host: str | None = None  #: of the door, for a client that does not name the site

    @property
    def bytes(self) -> bytes:
        return "".join(f"{line}\r\n" for line in (*self.lines, "")).encode()


def keys(*names: str) -> list[str]:
    """Return the targets of tags that go to both sites."""
    return [f"{host}/{name}" for host in (SITE, SHOP) for name in names]


CLIENTS: Final = {
    "curl": Sent(
        "url",
        [f"http://{SITE}/a?q=1"],
        (
            "PURGE /a?q=1 HTTP/1.1",
            f"Host: {SITE}",
            "User-Agent: curl/7.88.1",
            "Accept: */*",
        ),
    ),
    "Wagtail": Sent(
        "url",
        [f"http://{SITE}/blog/?page=2"],
        (
            "PURGE /blog/?page=2 HTTP/1.1",
            "Accept-Encoding: identity",
            f"Host: {SITE}",
            "User-Agent: Wagtail-frontendcache/6.0",
            "Connection: close",
        ),
    ),
    "plone.cachepurging": Sent(
        "url",
        [f"http://{SITE}/news/view"],
        (
            "PURGE /news/view HTTP/1.1",
            "Host: 127.0.0.1:9182",
            "User-Agent: python-requests/2.32.3",
            "Accept-Encoding: gzip, deflate",
            "Accept: */*",
            "Connection: keep-alive",
        ),
        SITE,
    ),
    "FOSHttpCache purge": Sent(
        "url",
        [f"http://{SITE}/a"],
        (
            "PURGE /a HTTP/1.1",
            f"Host: {SITE}",
            "Connection: Close",
            "User-Agent: GuzzleHttp/7",
        ),
    ),
    "FOSHttpCache ban": Sent(
        "regex",
        [f"http://{SITE}/news/.*"],
        (
            "BAN / HTTP/1.1",
            "Host: 127.0.0.1",
            "X-Host: ^(www\\.example\\.com)$",
            "X-Url: ^/news/.*",
            "X-Content-Type: .*",
        ),
    ),
    "FOSHttpCache tags": Sent(
        "key",
        keys("post-1", "post-2"),
        (
            "BAN / HTTP/1.1",
            "Host: 127.0.0.1:9182",
            "X-Host: .*",
            "X-Url: .*",
            "X-Content-Type: .*",
            "X-Cache-Tags: (^|,)(post\\-1|post\\-2)(,|$)",
        ),
    ),
    "FOSHttpCache xkey": Sent(
        "key",
        keys("a", "b"),
        (
            "PURGEKEYS / HTTP/1.1",
            "Host: 127.0.0.1",
            "xkey-softpurge: a b",
        ),
    ),
    "FOSHttpCache refresh": Sent(
        "url",
        [f"http://{SITE}/a"],
        (
            "GET /a HTTP/1.1",
            f"Host: {SITE}",
            "Cache-Control: no-cache",
        ),
    ),
    "API Platform ban": Sent(
        "key",
        keys("/books/1", "/books-of-now"),
        (
            "BAN / HTTP/1.1",
            "Host: varnish",
            "ApiPlatform-Ban-Regex: (/books/1|/books\\-of\\-now)($|\\,)",
        ),
    ),
    "API Platform ban, before 2.7": Sent(
        "key",
        keys("/books/1"),
        (
            "BAN / HTTP/1.1",
            "Host: varnish",
            "ApiPlatform-Ban-Regex: (^|\\,)/books/1($|\\,)",
        ),
    ),
    "API Platform xkey": Sent(
        "key",
        keys("/books/1", "/books"),
        (
            "PURGE / HTTP/1.1",
            "Host: varnish",
            "xkey: /books/1 /books",
        ),
    ),
    "WordPress default": Sent(
        "url",
        [f"http://{SITE}/2024/post/"],
        (
            "PURGE /2024/post/ HTTP/1.1",
            f"Host: {SITE}",
            "X-Purge-Method: default",
            "User-Agent: WordPress/6.5",
            "Connection: close",
        ),
    ),
    "WordPress regex": Sent(
        "prefix",
        [f"http://{SITE}/2024/"],
        (
            "PURGE /2024/.* HTTP/1.1",
            f"Host: {SITE}",
            "X-Purge-Method: regex",
            "Connection: close",
        ),
    ),
    "WordPress tags": Sent(
        "key",
        keys("p-1", "p-2"),
        (
            "PURGE / HTTP/1.1",
            f"Host: {SITE}",
            "X-Purge-Method: tags",
            "X-Cache-Tags-Pattern: p-1|p-2",
        ),
    ),
    "W3 Total Cache": Sent(
        "url",
        [f"http://{SITE}/a/"],
        (
            "PURGE /a/ HTTP/1.1",
            f"Host: {SITE}",
            "User-Agent: W3 Total Cache",
            "Connection: Close",
        ),
    ),
    "W3 Total Cache all": Sent(
        "host",
        [SITE],
        (
            "PURGE /.* HTTP/1.1",
            f"Host: {SITE}",
            "Connection: Close",
        ),
    ),
    "nginx-helper": Sent(
        "url",
        [f"http://{SITE}/a/"],
        (
            "GET /purge/a/ HTTP/1.1",
            "Host: 127.0.0.1:9182",
            "User-Agent: WordPress/6.5",
            "Connection: close",
        ),
        SITE,
    ),
    "Magento": Sent(
        "key",
        keys("cat_p_1", "cat_p"),
        (
            "PURGE / HTTP/1.1",
            "Host: varnish",
            "X-Magento-Tags-Pattern: ((^|,)cat_p_1(,|$))|((^|,)cat_p(,|$))",
            "Connection: close",
        ),
    ),
    "Magento all": Sent(
        "host",
        [SITE, SHOP],
        (
            "PURGE / HTTP/1.1",
            "Host: varnish",
            "X-Magento-Tags-Pattern: .*",
        ),
    ),
    "Drupal tags": Sent(
        "key",
        keys("node:1", "node_list"),
        (
            "BAN /tags HTTP/1.1",
            "Host: 127.0.0.1",
            "Cache-Tags: node:1 node_list",
        ),
    ),
    "Drupal tags, bundled": Sent(
        "key",
        keys("node:1", "node_list"),
        (
            "BAN / HTTP/1.1",
            "Host: 127.0.0.1:9182",
            "Cache-Tags: node:1|node_list",
        ),
    ),
    "Drupal tags, Acquia's field": Sent(
        "key",
        keys("node:1"),
        (
            "BAN / HTTP/1.1",
            "Host: 127.0.0.1:9182",
            "Purge-Cache-Tags: node:1",
        ),
    ),
    "Drupal url": Sent(
        "url",
        [f"http://{SITE}/node/1"],
        (
            "PURGE /node/1 HTTP/1.1",
            f"Host: {SITE}",
        ),
    ),
    "Drupal wildcard": Sent(
        "prefix",
        [f"http://{SITE}/node/"],
        (
            "BAN /node/* HTTP/1.1",
            f"Host: {SITE}",
        ),
    ),
    "Drupal all": Sent(
        "host",
        [SITE, SHOP],
        (
            "BAN /.* HTTP/1.1",
            "Host: 127.0.0.1",
        ),
    ),
    "MediaWiki": Sent(
        "url",
        [f"http://{SITE}/wiki/A"],
        (
            f"PURGE http://{SITE}/wiki/A HTTP/1.1",
            f"Host: {SITE}",
            "Accept: */*",
            "Proxy-Connection: Keep-Alive",
        ),
    ),
    "TYPO3 page": Sent(
        "key",
        keys("pageId_12"),
        (
            "BAN / HTTP/1.1",
            f"Host: {SITE}",
            "Varnish-Ban-TYPO3-Sitename: 0123abcd",
            "Varnish-Ban-TYPO3-Pid: 12",
        ),
    ),
    "TYPO3 tag": Sent(
        "key",
        keys("tx_news_domain_model_news_7"),
        (
            "BAN / HTTP/1.1",
            f"Host: {SITE}",
            "Varnish-Ban-TYPO3-Sitename: 0123abcd",
            "Varnish-Ban-TYPO3-Tag: tx_news_domain_model_news_7",
        ),
    ),
    "TYPO3 all": Sent(
        "host",
        [SITE, SHOP],
        (
            "BAN / HTTP/1.1",
            f"Host: {SITE}",
            "Varnish-Ban-All: 1",
        ),
    ),
    "Varnish Broadcaster, ban": Sent(
        "regex",
        [f"http://{SITE}/static/"],
        (
            "BAN / HTTP/1.1",
            "Host: 127.0.0.1:9182",
            f"ban-host: ^{SITE.replace('.', chr(92) + '.')}$",
            "ban-url: ^/static/",
            "X-Broadcast-Group: prod",
        ),
    ),
    "Varnish Broadcaster": Sent(
        "prefix",
        [f"http://{SITE}/a"],
        (
            "URIBAN /a HTTP/1.1",
            f"Host: {SITE}",
            "X-Broadcast-Group: prod",
        ),
    ),
}
