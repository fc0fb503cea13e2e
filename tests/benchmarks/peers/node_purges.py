"""What a job of a queue does: URLs purged with aiohttp's client, on the parent first, then on the edges."""

import asyncio

import aiohttp

JOBS = 64  #: at a time
CONNECTIONS = 192  #: 64 a node
HEADERS = {"Host": "img.example.com"}


def session() -> aiohttp.ClientSession:
    """Return a client with a connection for each request that jobs may make at once."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))


async def purge(client: aiohttp.ClientSession, nodes: list[str], name: str, urls: int) -> None:
    """Purge some URLs of a name on every node."""
    await asyncio.gather(*(_purge_one(client, nodes, f"/{name}/{url}.jpg") for url in range(urls)))


async def _purge_one(client: aiohttp.ClientSession, nodes: list[str], path: str) -> None:
    async def one(node: str) -> None:
        async with client.request("PURGE", node + path, headers=HEADERS) as response:
            await response.read()
            response.raise_for_status()

    await one(nodes[0])
    await asyncio.gather(*(one(node) for node in nodes[1:]))
