// One task: where it is, what failed, when each node acked.

import {get, post, remove, text} from "./api.js"
import {confirm, open, toast} from "./dialogs.js"
import {badge, button, card, clockText, count, duration, enc, facts, h, morph, number, remarks, replace, s, table, time} from "./dom.js"
import {meter} from "./tasks.js"

const EVERY_MS = 1000

export function show(root, id, query, {live, go, place}) {
	const body = h("div.stack")
	root.append(body)
	replace(body, h("p.empty", "Looking …"))
	const asking = new AbortController()
	let timer = 0
	let was = ""

	async function look() {
		clearTimeout(timer)
		const began = performance.now()
		let pause = EVERY_MS
		try {
			const found = await get(`/v1/engine/task/${enc(id)}`, asking.signal)
			again = await retries(found)
			const now = JSON.stringify([found, again, live.hello?.scopes])
			const goesOn = found.active || again.some((one) => one.active) || ["pending", "unknown"].includes(found.callback?.state)
			if (now !== was || found.active) draw(found)
			was = now
			pause = goesOn ? Math.max(EVERY_MS, 20 * (performance.now() - began)) : 0
		} catch (error) {
			if (error.name === "AbortError") return
			if (error.status === 404 || error.status === 422 || !was) replace(body, h("h1.mono", id), h("p.problem", {role: "alert"}, error.message))
			pause = error.status === 0 || error.status >= 500 ? 3000 : 0
		}
		if (pause) timer = setTimeout(look, document.hidden ? pause * 5 : pause)
	}

	// What was sent of it again: their ids count.
	async function retries({failed, active}) {
		const made = []
		try {
			while (failed && !active) made.push(await get(`/v1/engine/task/${enc(`${id}.retry-${made.length + 1}`)}`, asking.signal))
		} catch {/* the last one */}
		return made
	}

	let again = []
	let task = null; // as it is now
	function draw(found) {
		task = found
		const {verify} = task
		const left = task.total - task.counter - task.failed - task.delayed - task.cancelled
		const may = live.may("submit")
		const act = (name, words, call, props) => button(words, call, {"data-act": name, disabled: !may, title: may ? null : "takes the scope submit", ...props})
		const details = (title, ...kids) => h("details", h("summary", title), kids)
		morph(body, h("div.stack",
			h("div.taskhead", badge(task.state), h("h1.mono", task.task_id),
				h("div.row.wrap",
					task.failed > 0 && !task.active && act("retry", "Retry what failed …", retry),
					task.active && act("cancel", "Cancel …", cancel, {class: "danger"}),
					!task.active && button("Receipt", receipt, {"data-act": "receipt"}),
					task.kind === "url" && task.targets[0] && h("a.button", {href: place("url", "", {url: task.targets[0]})}, "Why is it stale?"))),
			h("div.columns",
				h("div",
					h("div.card.stack", meter(task, true),
						h("div.sums", [["acked", task.counter], ["failed", task.failed], ["wait", task.delayed], ["cancelled", task.cancelled], ["on the way", left], ["in all", task.total]]
							.map(([word, n]) => h("div", {"data-sum": word}, h("b", number(n)), h("span", word)))),
						task.absent > 0 && h("p.muted", task.absent >= task.counter ? "None of the caches had it: nothing was dropped. Is the target right?" : `${number(task.absent)} of the acked had nothing to drop.`)),
					task.nodes.length > 0 && card("When each node acked", waterfall(task)),
					task.errors.length > 0 ? card("Reasons", reasons(task)) : h("i", {hidden: true}),
					task.nodes.length > 0 && h("div.card", details(`Numbers of ${count(task.nodes.length, "node")}`, numbers(task)))),
				h("div",
					h("div.card.stack", facts([
						["Does", `${task.action} by ${task.kind}`],
						["By", [task.by.token || "–", task.by.address && ` from ${task.by.address}`, task.by.door && ` (${task.by.door})`]],
						["Created", time(task.created_at)], task.start_at && ["Begins", time(task.start_at)], ["Due", time(task.due_at)],
						["Settled", task.settled_at ? [time(task.settled_at), ` after ${duration(task.settled_at - (task.start_at ?? task.created_at))}`] : "not yet"],
						task.retries && ["Retries", h("a", {href: place("task", task.retries)}, task.retries)], task.rewind && ["Rewind", h("code", task.rewind)],
						again.length > 0 && ["Sent again as", again.map((one) => h("div", badge(one.state), " ", h("a", {href: place("task", one.task_id)}, one.task_id)))],
					])),
					verify && card("Verification", facts([
						["Looked at", `${verify.mode}, ${count(verify.checked, "visit")}`], ["Verified", number(verify.verified)], ["Stale", number(verify.stale)], ["Nobody can tell", number(verify.unverifiable)],
						verify.note && ["Note", verify.note]]), verify.reasons.length > 0 && details("Why nobody can tell", h("ul", verify.reasons.map((one) => h("li", one))))),
					task.callback && card("Callback", callback(task.callback)),
					h("div.card.stack", h("h2", count(task.target_count, "target")), h("ul.mono.targets", task.targets.slice(0, 10).map((one) => h("li", one))),
						task.targets.length > 10 && details(task.targets.length === task.target_count ? "All" : `The first ${number(task.targets.length)}`, h("pre", task.targets.join("\n")))),
					task.skipped.length + task.notes.length > 0 && h("div.card.stack", remarks(task))))))
	}

	function retry() {
		confirm({
			title: `Retry what failed of ${task.task_id}?`, word: "Retry", body: h("p", "What failed, and no retry has mended, is sent again, as a new task."),
			act: async () => {
				const made = await post(`/v1/engine/task/${enc(task.task_id)}/retry`)
				go("task", made.task_id)
				return `Sent again as ${made.task_id}${made.left_out.length ? `; left out: ${made.left_out.map((one) => `${one.node}: ${one.reason}`).join("; ")}` : ""}`
			},
		})
	}

	function cancel() {
		confirm({
			title: `Cancel ${task.task_id}?`, word: "Cancel it", isDangerous: true, body: h("p", "What has no answer yet is not sent again. What was acked stays purged."),
			act: async () => {
				await remove(`/v1/engine/task/${enc(task.task_id)}`)
				look()
				return "The task is cancelled"
			},
		})
	}

	async function receipt() {
		try {
			const signed = await text(`/v1/engine/task/${enc(task.task_id)}/receipt`)
			const bytes = Uint8Array.from(atob(signed.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0))
			const said = JSON.stringify(JSON.parse(new TextDecoder().decode(bytes)), null, 2)
			const link = h("a.button", {download: `${task.task_id}.jws`, href: URL.createObjectURL(new Blob([signed], {type: "application/jose"}))}, "Save the signed text")
			const box = open("Receipt", h("div.body", h("p", "Signed by this engine (JWS, EdDSA). ", h("code", "purgeline verify-receipt"), " checks the saved text without an engine."), h("pre", {tabindex: "0"}, said)),
				[link, button("Close", () => box.close(), {class: "primary"})])
			box.addEventListener("close", () => URL.revokeObjectURL(link.href))
		} catch (error) {
			toast(error.message, "down")
		}
	}

	look()
	return {
		may: look,
		destroy() {
			asking.abort()
			clearTimeout(timer)
		},
	}
}

function reasons(task) {
	const groups = new Map()
	for (const error of task.errors) {
		const group = groups.get(error.reason) ?? {nodes: new Map(), target: error.target, n: 0}
		group.n += 1
		group.nodes.set(error.node, (group.nodes.get(error.node) ?? 0) + 1)
		groups.set(error.reason, group)
	}
	const rows = [...groups].sort((a, b) => b[1].n - a[1].n).map(([reason, group]) => [reason, number(group.n), [...group.nodes.keys()].join(", "), h("span.mono", group.target)])
	return [table("Reasons", ["Reason", "#Times", "Nodes", "Such as"], rows), task.errors.length >= 100 && h("p.muted", "The first 100 are kept.")]
}

function callback(told) {
	return facts([
		["To", told.host], ["State", badge(told.state)], told.reports && ["Reports", told.reports], ["Attempts", told.attempts ?? "not known here"],
		told.last && ["Last", told.last], told.next_at && ["Next", time(told.next_at)], told.over_at && [told.state === "failed" ? "Given up" : "Delivered", time(told.over_at)]])
}

function numbers(task) {
	return table("Numbers of each node", ["Node", "Layer", "#In all", "#Acked", "#Absent", "#Failed", "#Wait", "#Cancelled", "#Stale", "Last ack", "Verified"], task.nodes.map((node) => [
		node.name, node.layer, number(node.total), number(node.acked), number(node.absent), number(node.failed), number(node.delayed), number(node.cancelled), number(node.stale), time(node.acked_at), time(node.verified_at)]))
}

// Each node's way from the task's begin to its last ack. An edge begins when its parents have acked.
const ROW = 22
const SHOWN = 200

function waterfall(task) {
	const WIDTH = Math.max(300, Math.min(760, window.innerWidth - 60))
	const NAME = WIDTH > 500 ? 150 : 96
	const from = task.start_at ?? task.created_at
	const now = Date.now() / 1000
	const ends = task.nodes.flatMap((node) => [node.acked_at, node.verified_at]).filter(Boolean)
	const isOpen = task.active && task.nodes.some((node) => node.acked + node.failed + node.cancelled < node.total)
	const to = Math.max(from + 0.001, ...ends, isOpen ? now : 0, !ends.length && task.settled_at ? task.settled_at : 0)
	const span = to - from
	const x = (at) => NAME + ((WIDTH - NAME - 90) * Math.max(0, at - from)) / span
	const layers = []
	for (const node of task.nodes) {
		let layer = layers.find((one) => one.name === node.layer)
		if (!layer) layers.push(layer = {name: node.layer, nodes: []})
		layer.nodes.push(node)
	}
	const parts = []
	const said = []
	let y = 18
	let before = from
	let left = SHOWN
	for (const step of WIDTH > 500 ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1]) {
		const at = from + span * step
		parts.push(s("line", {x1: x(at), x2: x(at), y1: 14, y2: 14 + ROW * Math.min(SHOWN, task.nodes.length) + layers.length * 20}), s("text", {class: "axis", x: x(at), y: 9, "text-anchor": step === 0 ? "start" : "middle"}, step ? duration(span * step) : clockText(from)))
	}
	for (const layer of layers) {
		parts.push(s("text", {class: "axis", x: 0, y: y + 12}, `${layer.name}, ${count(layer.nodes.length, "node")}`))
		y += 20
		const acks = layer.nodes.map((node) => node.acked_at).filter(Boolean)
		for (const node of layer.nodes.slice(0, left)) {
			const rest = node.total - node.acked - node.failed - node.cancelled
			const end = rest && task.active ? now : node.acked_at ?? task.settled_at ?? to
			const begin = Math.min(before, end)
			const kind = node.failed ? "failed" : node.cancelled ? "cancelled" : rest ? "open" : "acked"
			const what = node.acked === node.total ? `acked after ${duration(node.acked_at - from)}` : node.failed ? `${number(node.failed)} of ${number(node.total)} failed` : node.cancelled ? `${number(node.cancelled)} cancelled` : node.delayed ? `${number(node.delayed)} wait` : `${number(node.acked)} of ${number(node.total)}`
			said.push(`${node.name}: ${what}`)
			parts.push(s("g", {"data-row": node.name}, s("title", `${node.name}: ${what}${node.verified_at ? `, verified after ${duration(node.verified_at - from)}` : ""}`),
				s("text", {x: 8, y: y + 15}, node.name.length > NAME / 7 ? `${node.name.slice(0, NAME / 7 - 1)}…` : node.name),
				begin > from && s("rect", {class: "before", x: x(from), y: y + 9, width: Math.max(0, x(begin) - x(from)), height: 4, rx: 1}),
				s("rect", {class: kind, x: x(begin), y: y + 5, width: Math.max(3, x(end) - x(begin)), height: 12, rx: 2}),
				node.verified_at && node.acked_at && s("rect", {class: "look", x: x(node.acked_at), y: y + 6, width: Math.max(2, x(node.verified_at) - x(node.acked_at)), height: 10, rx: 2}),
				s("text", {class: "axis", x: Math.min(x(Math.max(end, node.verified_at ?? 0)) + 6, WIDTH - 84), y: y + 15}, node.acked === node.total && node.acked_at ? duration(node.acked_at - from) : what.slice(0, 16))))
			y += ROW
		}
		left = Math.max(0, left - layer.nodes.length)
		if (acks.length) before = Math.max(before, Math.min(...acks))
	}
	if (task.active && task.due_at < to) parts.push(s("line", {class: "due", x1: x(task.due_at), x2: x(task.due_at), y1: 14, y2: y}))
	return [s("svg", {class: "fall", viewBox: `0 0 ${WIDTH} ${y + 6}`, role: "img", label: said.slice(0, 50).join("; ")}, parts),
		task.nodes.length > SHOWN && h("p.muted", `The first ${number(SHOWN)} of ${number(task.nodes.length)} nodes.`),
		h("p.legend", [["ready", "acked"], ["gone", "waits for its parents"], ["refusing", "under way, or waits"], ["down", "failed"], task.verify && ["ready", "outlined: until verified"]].filter(Boolean)
			.map(([state, words]) => h("span", h("i", {class: `s-${state}`}), words)))]
}
