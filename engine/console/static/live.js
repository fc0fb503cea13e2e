// The engine as it is now: the stream of events, read by `fetch`, and what it has told.

import {check, headers} from "./api.js"

const PAUSE_FIRST_MS = 500
const PAUSE_MAX_MS = 5000
const SILENT_MS = 6000; // a stream that says nothing for so long is dead
const RATES = 60; // seconds of a sparkline

export class Live extends EventTarget {
	constructor() {
		super()
		this.nodes = new Map()
		this.stats = null
		this.cluster = {}
		this.hello = null
		this.at = 0
		this.notReady = ""
		this.trouble = ""
		this.status = "connecting"; // connecting | live | away | stopped
		this.rates = new Map(); // name → purges a second, the last of them now
		this.total = []
		this.isOn = false
		this.pause = PAUSE_FIRST_MS
	}

	get list() {
		return [...this.nodes.values()]
	}

	may(scope) {
		return this.hello !== null && this.hello.scopes.includes(scope)
	}

	start() {
		if (this.isOn) return
		this.isOn = true
		this.pause = PAUSE_FIRST_MS
		this.#run()
	}

	stop() {
		this.isOn = false
		this.abort?.abort()
		this.hello = null
		this.nodes.clear()
		this.rates.clear()
		this.total = []
		this.stats = null
		this.#become("stopped")
	}

	hurry() {
		this.wake?.()
	}

	#become(status) {
		this.status = status
		this.dispatchEvent(new Event("status"))
	}

	async #run() {
		while (this.isOn) {
			try {
				await this.#read()
			} catch (error) {
				if (error.status === 401 || error.status === 403) {
					this.isOn = false
					this.dispatchEvent(new CustomEvent("denied", {detail: error}))
					return
				}
			}
			if (!this.isOn) return
			this.#become("away")
			await new Promise((resolve) => {
				this.wake = resolve
				setTimeout(resolve, this.pause * (0.75 + Math.random() / 2))
			})
			this.pause = Math.min(this.pause * 2, PAUSE_MAX_MS)
		}
	}

	async #read() {
		this.abort = new AbortController()
		let timer = 0
		const alive = () => {
			clearTimeout(timer)
			timer = setTimeout(() => this.abort.abort(), SILENT_MS)
		}
		alive()
		try {
			const response = await check(await fetch("/v1/engine/events",
				{headers: headers(), signal: this.abort.signal, cache: "no-store", credentials: "omit"}))
			const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
			let kept = ""
			for (;;) {
				const {value, done} = await reader.read()
				if (done) return
				alive()
				kept += value
				let end
				while ((end = kept.indexOf("\n\n")) >= 0) {
					this.#take(kept.slice(0, end))
					kept = kept.slice(end + 2)
				}
			}
		} finally {
			clearTimeout(timer)
			this.abort.abort()
		}
	}

	#take(block) {
		const [kind, data] = block.split("\n")
		const value = JSON.parse(data.slice(6))
		switch (kind.slice(7)) {
			case "hello":
				this.hello = value
				this.dispatchEvent(new Event("hello"))
				break
			case "whole":
				this.#whole(value)
				break
			case "change":
				this.#change(value)
				break
			default: // the engine drains: the next one is there already
				this.pause = PAUSE_FIRST_MS
		}
	}

	#whole(value) {
		const before = this.nodes
		const seconds = value.at - this.at
		this.nodes = new Map(value.nodes.map((node) => [node.name, node]))
		for (const name of this.rates.keys()) if (!this.nodes.has(name)) this.rates.delete(name)
		this.#count(before, seconds)
		this.cluster = value.cluster
		this.#told(value)
	}

	#change(value) {
		const before = new Map(this.nodes)
		for (const name of value.gone ?? []) {
			this.nodes.delete(name)
			this.rates.delete(name)
		}
		for (const node of value.nodes ?? []) this.nodes.set(node.name, {...this.nodes.get(node.name), ...node})
		this.#count(before, value.at - this.at)
		if (value.cluster) this.cluster = value.cluster
		this.#told({not_ready: this.notReady, trouble: this.trouble, ...value})
	}

	// What was acked since the picture before; an engine that began anew counts from 0.
	#count(before, seconds) {
		let sum = 0
		for (const [name, node] of this.nodes) {
			const old = before.get(name)
			const more = old && seconds > 0 && seconds < 30 ? Math.max(0, node.acked - old.acked) / seconds : 0
			const rates = this.rates.get(name) ?? []
			rates.push(more)
			if (rates.length > RATES) rates.shift()
			this.rates.set(name, rates)
			sum += more
		}
		this.total.push(sum)
		if (this.total.length > RATES) this.total.shift()
	}

	#told(value) {
		this.stats = value.stats
		this.notReady = value.not_ready ?? ""
		this.trouble = value.trouble ?? ""
		this.at = value.at
		this.pause = PAUSE_FIRST_MS
		if (this.status !== "live") this.#become("live")
		this.dispatchEvent(new Event("picture"))
	}
}

// The verdict: one sentence, and the state that colours it.

const WORST = ["down", "sick", "gone", "unproven", "refusing", "catching_up", "paused"]
const SHOWS_STALE = new Set(["stale", "unpurged"])

export function isWell(node) {
	return node.state === "ready" && !SHOWS_STALE.has(node.canary?.state)
}

export function concern(node) {
	if (node.state === "ready") return SHOWS_STALE.has(node.canary?.state) ? 0.5 : WORST.length
	const place = WORST.indexOf(node.state)
	return place < 0 ? WORST.length : place
}

export function verdict(live, short) {
	const nodes = live.list
	if (live.notReady) return {state: "down", text: `The engine takes no purges: ${live.notReady}`}
	if (!nodes.length) return {state: "accepted", text: "No caches are configured"}
	const bad = nodes.filter((node) => !isWell(node)).sort((a, b) => concern(a) - concern(b))
	const waits = nodes.reduce((sum, node) => sum + node.delayed, 0)
	const rest = waits ? `; ${waits === 1 ? "1 purge waits" : `${waits.toLocaleString()} purges wait`}` : ""
	if (!bad.length) {
		return {state: waits ? "catching_up" : "ready", text: nodes.length === 1 ? `The only cache is well${rest}` : `All ${nodes.length.toLocaleString()} caches are well${rest}`}
	}
	const [worst] = bad
	const state = worst.state === "ready" ? "sick" : worst.state
	if (bad.length === 1) return {state, text: `${worst.name} ${whatIs(worst)} since ${short(sinceOf(worst))}${rest}`, node: worst.name}
	const named = bad.slice(0, 3).map((node) => `${node.name} ${node.state === "ready" ? "serves stale pages" : node.state.replaceAll("_", " ")}`)
	const more = bad.length > 3 ? ` and ${bad.length - 3} more` : ""
	return {state, text: `${bad.length} of ${nodes.length} caches are not well: ${named.join(", ")}${more}${rest}`}
}

function whatIs(node) {
	if (node.state === "ready") return node.canary.state === "stale" ? "acks purges and serves the old page," : "does not ack its canary,"
	return `is ${node.state.replaceAll("_", " ")}`
}

function sinceOf(node) {
	return node.state === "ready" ? node.canary.at : node.since
}
