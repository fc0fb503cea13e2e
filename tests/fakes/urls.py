"""URLs as clients send them: good ones, wrong ones, and random ones."""

import random

from engine.intake.urls import TARGET_MAX_CHARS

LABEL_63 = "a" * 63
HOST_253 = ".".join([LABEL_63, LABEL_63, LABEL_63, "a" * 61])

#: A URL, its stored form, and its host.
GOOD = [
    ("http://img.example.com/a.jpg", "http://img.example.com/a.jpg", "img.example.com"),
    ("HTTP://IMG.Example.COM/A.jpg", "http://img.example.com/A.jpg", "img.example.com"),
    ("http://example.com", "http://example.com/", "example.com"),
    ("http://example.com:80/", "http://example.com/", "example.com"),
    ("http://example.com:0080/", "http://example.com/", "example.com"),
    ("http://example.com:/", "http://example.com/", "example.com"),
    ("https://example.com:443/x", "https://example.com/x", "example.com"),
    ("https://example.com:80/x", "https://example.com:80/x", "example.com:80"),
    ("http://example.com:443/x", "http://example.com:443/x", "example.com:443"),
    ("http://example.com:08080/", "http://example.com:8080/", "example.com:8080"),
    ("http://example.com./a", "http://example.com/a", "example.com"),
    ("http://example.com?q", "http://example.com/?q", "example.com"),
    ("http://example.com/a#part", "http://example.com/a", "example.com"),
    ("http://example.com#part", "http://example.com/", "example.com"),
    ("http://example.com/%7Ea/../b/./c?z=1&a=2", "http://example.com/%7Ea/../b/./c?z=1&a=2", "example.com"),
    ("http://example.com/a@b:c//d", "http://example.com/a@b:c//d", "example.com"),
    ("http://example.com/a\\b\"'<>|{}", "http://example.com/a\\b\"'<>|{}", "example.com"),
    ("http://a_b.example.com/", "http://a_b.example.com/", "a_b.example.com"),
    ("http://_dmarc.example.com/", "http://_dmarc.example.com/", "_dmarc.example.com"),
    ("http://127.0.0.1:6081/x", "http://127.0.0.1:6081/x", "127.0.0.1:6081"),
    ("http://[::1]/", "http://[::1]/", "[::1]"),
    ("http://[0:0:0:0:0:0:0:1]:8080/", "http://[::1]:8080/", "[::1]:8080"),
    ("http://[2001:DB8::A]:80/", "http://[2001:db8::a]/", "[2001:db8::a]"),
    (
        "http://bücher.example/ü".replace("/ü", "/u"),
        "http://xn--bcher-kva.example/u",
        "xn--bcher-kva.example",
    ),
    ("http://BÜCHER.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
    ("http://\uff45xample.com/", "http://example.com/", "example.com"),
    ("http://例え\u3002jp/", "http://xn--r8jz45g.jp/", "xn--r8jz45g.jp"),
    (f"http://{LABEL_63}.com/", f"http://{LABEL_63}.com/", f"{LABEL_63}.com"),
    (f"http://{HOST_253}/", f"http://{HOST_253}/", HOST_253),
    ("http://a.com/" + "x" * (TARGET_MAX_CHARS - 1), "http://a.com/" + "x" * (TARGET_MAX_CHARS - 1), "a.com"),
]


#: What is no URL for a purge, and a word of the reason.
BAD = [
    ("", "absolute URL"),
    ("/a.jpg", "absolute URL"),
    ("example.com/a", "absolute URL"),
    ("//example.com/a", "absolute URL"),
    ("http:/example.com/a", "absolute URL"),
    ("ftp://example.com/a", "scheme 'ftp'"),
    ("javascript://example.com/a", "scheme"),
    ("file:///etc/passwd", "scheme 'file'"),
    ("http:///a", "no valid host"),
    ("http://:80/a", "no valid host"),
    ("http://./a", "not a valid host name"),
    ("http://example.com../a", "not a valid host name"),
    ("http://a..b/", "not a valid host name"),
    ("http://.a.b/", "not a valid host name"),
    ("http://a-.com/", "not a valid host name"),
    ("http://-a.com/", "not a valid host name"),
    ("http://b.-a.com/", "not a valid host name"),
    ("http://b.a-/", "not a valid host name"),
    (f"http://{'a' * 64}.com/", "not a valid host name"),
    (f"http://{HOST_253}a/", "not a valid host name"),
    ("http://exa mple.com/", "not a valid host name"),
    ("http://exa\tmple.com/", "not a valid host name"),
    ("http://a\r\nX: y/", "no valid host"),
    ("http://a\r\n/", "not a valid host name"),
    ("http://a\\b/", "not a valid host name"),
    ('http://a"b/', "not a valid host name"),
    ("http://a%41/", "not a valid host name"),
    ("http://*.example.com/", "not a valid host name"),
    ("http://user@example.com/", "user name"),
    ("http://user:secret@example.com/", "user name"),
    ("http://example.com:0/", "port"),
    ("http://example.com:65536/", "port"),
    ("http://example.com:x/", "no valid host"),
    ("http://example.com:80:80/", "no valid host"),
    ("http://example.com:" + "1" * 5000 + "/", "port"),
    ("http://[::1/", "no valid host"),
    ("http://[::g]/", "IPv6"),
    ("http://[127.0.0.1]/", "IPv6"),
    ("http://[]/", "IPv6"),
    ("http://[fe80::1%eth0]/", "IPv6"),
    ("http://[fe80::1%25eth0]/", "IPv6"),
    ("http://[fe80::1%\r\nEvil: x]/", "IPv6"),
    ("http://[::1]x/", "no valid host"),
    ("http://example.com/a b", "' ', which must be percent-encoded"),
    ("http://example.com/ü", "percent-encoded"),
    ("http://example.com/a\r\nHost: other", "control character (U+000D)"),
    ("http://example.com/a\n", "control character (U+000A)"),
    ("http://example.com/\x00", "control character (U+0000)"),
    ("http://example.com/\x7f", "control character (U+007F)"),
    ("http://example.com/a\u2028b", "percent-encoded"),
    ("http://example.com/#\n", "control character"),
    ("http://\u2764\ufe0f.example/", "international name"),
    ("http://" + "ü" * 100_000 + "/", "not a valid host name"),
    ("http://a.com/" + "x" * TARGET_MAX_CHARS, "at most 8000"),
]


def generated_urls(seed: int, count: int) -> list[str]:
    """URLs near the border of the common form: well-formed parts, with odd characters thrown in."""
    rng = random.Random(seed)
    letters = "abz019--..__AZ"
    odd = "%:@[]\\\"'*#? \t\r\n\x00\x7f\x80ü\u3002~!$&+,;=/"
    urls = []
    for _ in range(count):
        host = "".join(rng.choices(letters, k=rng.choice([1, 2, 3, 5, 12, 62, 63, 64, 65, 130, 260])))
        if rng.random() < 0.2:
            place = rng.randrange(len(host) + 1)
            host = host[:place] + rng.choice(odd) + host[place:]
        path = "".join(rng.choices("abcXYZ019/._-~%" + odd[:12], k=rng.randrange(12)))
        if rng.random() < 0.2:
            path += rng.choice(odd)
        scheme = rng.choice(["http", "http", "https", "HTTP", "httpx", "ftp", ""])
        urls.append(f"{scheme}://{host}{rng.choice(['/', '/', '/', '', '?', '#'])}{path}")
    return urls
