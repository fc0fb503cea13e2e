// The engine as it is now: the stream of events, read by `fetch`, and what it has told.

import {send} from "./api.js"
import {clockText, number, stateWord} from "./dom.js"

const PAUSE_FIRST_MS = 500
const PAUSE_MAX_MS = 5000
const SILENT_MS = 6000; // a stream that says nothing for so long is dead
const RATES = 60; // seconds of a sparkline

export class Live extends EventTarget {
	constructor() {
		super()
		this.turn = null; // from one start to its stop
		this.pause = PAUSE_FIRST_MS
		this.status = "connecting"; // connecting | live | away | stopped
		this.#forget()
	}

	#forget() {
		this.hello = null
		this.nodes = new Map()
		this.isKnown = false; // whether these are all nodes
		this.stats = null
		this.cluster = {}
		this.at = 0
		this.notReady = this.trouble = ""
		this.rates = new Map(); // name → purges a second, the last of them now
		this.total = []
	}

	get list() {
		return [...this.nodes.values()]
	}

	may(scope) {
		return this.hello?.scopes.includes(scope) ?? false
	}

	// What a control has that takes a scope.
	needs(scope) {
		return this.may(scope) ? {disabled: false, title: ""} : {disabled: true, title: `takes the scope ${scope}`}
	}

	start() {
		if (this.turn) return
		this.turn = {}
		this.pause = PAUSE_FIRST_MS
		this.#run(this.turn)
	}

	stop() {
		this.turn = null
		this.abort?.abort()
		this.#forget()
		this.#become("stopped")
	}

	hurry() {
		this.wake?.()
	}

	#become(status) {
		this.status = status
		this.dispatchEvent(new Event("status"))
	}

	async #run(turn) {
		while (this.turn === turn) {
			try {
				await this.#read()
			} catch (error) {
				if (this.turn === turn && (error.status === 401 || error.status === 403)) {
					this.turn = null
					this.dispatchEvent(new CustomEvent("denied", {detail: error}))
					return
				}
			}
			if (this.turn !== turn) return
			this.#become("away")
			await new Promise((resolve) => {
				this.wake = resolve
				setTimeout(resolve, this.pause * (0.75 + Math.random() / 2))
			})
			this.pause = Math.min(this.pause * 2, PAUSE_MAX_MS)
		}
	}

	async #read() {
		const abort = this.abort = new AbortController()
		let timer = 0
		const alive = () => {
			clearTimeout(timer)
			timer = setTimeout(() => abort.abort(), SILENT_MS)
		}
		alive()
		try {
			const response = await send("GET", "events", undefined, abort.signal)
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
			abort.abort()
		}
	}

	#take(block) {
		const [, kind, data] = /^event: (.*)\ndata: (.*)$/m.exec(block) ?? []
		if (!kind) return; // a comment, by which a proxy keeps a connection open
		const value = JSON.parse(data)
		if (kind === "hello") {
			this.hello = value
			this.dispatchEvent(new Event("hello"))
		} else if (kind === "bye") this.pause = PAUSE_FIRST_MS; // the engine drains: the next one is there already
		else this.#draw(value, kind === "whole")
	}

	#draw(value, isWhole) {
		const before = this.nodes
		this.nodes = new Map(isWhole ? [] : before)
		if (isWhole) {
			this.isKnown = value.nodes !== null
			this.notReady = this.trouble = ""
		}
		for (const name of value.gone ?? []) this.nodes.delete(name)
		for (const node of value.nodes ?? []) this.nodes.set(node.name, {...this.nodes.get(node.name), ...node})
		for (const name of this.rates.keys()) if (!this.nodes.has(name)) this.rates.delete(name)
		this.#count(before, value.at - this.at)
		this.cluster = value.cluster ?? this.cluster
		this.stats = value.stats
		this.notReady = value.not_ready ?? this.notReady
		this.trouble = value.trouble ?? this.trouble
		this.at = value.at
		this.pause = PAUSE_FIRST_MS
		if (this.status !== "live") this.#become("live")
		this.dispatchEvent(new Event("picture"))
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
}

// The verdict: one sentence, and the state that colours it.

export const WORST = ["down", "sick", "gone", "unproven", "refusing", "catching_up", "paused", "ready"]

export const isWell = (node) => node.state === "ready" && !["stale", "unpurged"].includes(node.canary?.state)

export const concern = (node) => node.state === "ready" && !isWell(node) ? 0.5 : WORST.indexOf(node.state)

export function verdict(live) {
	const nodes = live.list
	if (!live.at) return {state: "accepted", text: live.status === "away" ? "The engine cannot be reached, and nothing is known of its caches yet" : "Asking the engine …"}
	if (live.notReady) return {state: "down", text: `The engine takes no purges: ${live.notReady}`}
	if (!live.isKnown) return {state: "accepted", text: "The state of the caches is not known yet"}
	if (!nodes.length) return {state: "accepted", text: "No caches are configured"}
	const bad = nodes.filter((node) => !isWell(node)).sort((a, b) => concern(a) - concern(b))
	const waits = nodes.reduce((sum, node) => sum + node.delayed, 0)
	const rest = waits ? `; ${waits === 1 ? "1 purge waits" : `${number(waits)} purges wait`}` : ""
	if (!bad.length) return {state: waits ? "catching_up" : "ready", text: `${nodes.length === 1 ? "The only cache is" : `All ${number(nodes.length)} caches are`} well${rest}`}
	const [worst] = bad
	const isStale = worst.state === "ready"
	const state = isStale ? "sick" : worst.state
	if (bad.length === 1) {
		const what = !isStale ? `is ${stateWord(state)}` : worst.canary.state === "stale" ? "acks purges and serves the old page," : "does not ack its canary,"
		return {state, text: `${worst.name} ${what} since ${clockText(isStale ? worst.canary.at : worst.since, true)}${rest}`, node: worst.name}
	}
	const named = bad.slice(0, 3).map((node) => `${node.name} ${node.state === "ready" ? "serves stale pages" : stateWord(node.state)}`)
	const more = bad.length > 3 ? ` and ${bad.length - 3} more` : ""
	return {state, text: `${bad.length} of ${nodes.length} caches are not well: ${named.join(", ")}${more}${rest}`}
}
