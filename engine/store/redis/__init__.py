"""The shared store: one Redis (single, watched by sentinels, or a cluster) for any number of engines.

`RedisStore` is the store, put together from parts that read (`documents`, `journal`, `queues`) and parts that
write (`commit`: the pipeline of a batch; `stepwise`: tasks of a slot that is half moved; `changes`: stored
documents that other engines may change too). `Link` is the way to the `servers`; `replicas` judges whether
what was written outlives a failover; `scripts` hold what must happen in one step; `keys` say what everything
is called, `records` what it looks like. `members` is what the engines know of each other, `fetch_log` what
they prefetch.

Independent of the other stores.
"""
