#!/bin/sh
# Writes what the services of compose.yaml read from the volume /conf: a token of its own, the engine's configuration, and
# those of both caches. What is there stays, but for the caches' files: they belong to this version.
set -eu
cd /conf
if [ ! -s token ]; then
    python3 -c 'import secrets; print(secrets.token_urlsafe(32), end="")' >token
    chown 10001:10001 token
    chmod 400 token
fi
if [ ! -s engine.toml ]; then
    cat >engine.toml <<END
[engine]
listen = "0.0.0.0:9181"
data_dir = "/var/lib/purgeline"

[store]
url = "redis://redis:6379"

[[auth.tokens]]
name = "operator"
sha256 = "$(sha256sum <token | cut -d' ' -f1)"
scopes = ["submit", "read", "admin"]

[[site]]
host = "*"

[[layer]]
name = "parent"

[[layer]]
name = "edge"

[[node]]
name = "varnish-1"
layer = "parent"
driver = "varnish"
key_mode = "ban"
url = "http://varnish:6081"

[[node]]
name = "nginx-1"
layer = "edge"
driver = "nginx"
url = "http://nginx:80"
END
fi
# Who may purge: this network, in which the engine is.
network=$(python3 - <<'END'
import ipaddress, socket, struct

for line in open("/proc/net/route").read().splitlines()[1:]:
    name, address, gateway, _, _, _, _, mask, *_ = line.split()
    if gateway == "00000000" and mask != "00000000":
        pair = [socket.inet_ntoa(struct.pack("=I", int(word, 16))) for word in (address, mask)]
        print(ipaddress.ip_network("/".join(pair)))
        break
END
)
purgeline render varnish --whole --node varnish-1 --key-mode ban --backend origin:8000 --from "$network" --to .
purgeline render nginx --whole --node nginx-1 --backend varnish:6081 --port 80 --from "$network" --to .
