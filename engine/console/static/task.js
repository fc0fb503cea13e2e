// One task: where it is, what failed, when each node acked.

import {get, post, remove, send, taskPath} from "./api.js"
import {confirm, open, toast} from "./dialogs.js"
import {badge, button, card, clockText, count, details, duration, facts, h, morph, number, problem, remarks, replace, s, table, time} from "./dom.js"
import {meter} from "./tasks.js"

const EVERY_MS = 1000

export function show(root, id, query, {live, go, place}) {
	const body = h("div.stack", h("p.empty", "Looking …"))
	root.append(body)
	const asking = new AbortController()
	let timer = 0
	let was = ""

	async function look() {
		clearTimeout(timer)
		const began = performance.now()
		let pause = EVERY_MS
		try {
			const found = await get(taskPath(id), asking.signal)
			again = await retries(found)
			const now = JSON.stringify([found, again, live.hello?.scopes])
			const goesOn = found.active || again.some((one) => one.active) || ["pending", "unknown"].includes(found.callback?.state)
			if (now !== was || found.active) draw(found)
			was = now
			pause = goesOn ? Math.max(EVERY_MS, 20 * (performance.now() - began)) : 0
		} catch (error) {
			if (error.name === "AbortError") return
			if (error.status === 404 || error.status === 422 || !was) replace(body, h("h1.mono", id), problem(error.message))
			pause = error.status === 0 || error.status >= 500 ? 3000 : 0
		}
		if (pause) timer = setTimeout(look, document.hidden ? pause * 5 : pause)
	}

	// What was sent of it again: their ids count.
	async function retries({failed, active}) {
		const made = []
		try {
			while (failed && !active) made.push(await get(taskPath(`${id}.retry-${made.length + 1}`), asking.signal))
		} catch {/* the last one */}
		return made
	}

	let again = []
	let task = null; // as it is now
	function draw(found) {
		task = found
		const {verify} = task
		const left = task.total - task.counter - task.failed - task.delayed - task.cancelled
		const act = (name, words, call, props) => button(words, call, {"data-act": name, ...live.needs("submit"), ...props})
		const link = (to) => h("a", {href: place("task", to)}, to)
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
						h("div.sums", Object.entries({acked: task.counter, failed: task.failed, delayed: task.delayed, cancelled: task.cancelled, "under way": left, total: task.total}).map(([word, n]) => h("div", {"data-sum": word}, h("b", number(n)), h("span", word)))),
						task.absent > 0 && h("p.muted", task.absent >= task.counter ? "None of the caches had it: nothing was dropped. Is the target right?" : `${number(task.absent)} of the acked had nothing to drop.`)),
					task.nodes.length > 0 && card("When each node acked", waterfall(task, root.clientWidth * (window.innerWidth > 1100 ? 0.65 : 1) - 34)),
					task.errors.length > 0 ? card("Reasons", reasons(task)) : h("i", {hidden: true}),
					task.nodes.length > 0 && h("div.card", details(`Numbers of ${count(task.nodes.length, "node")}`, numbers(task)))),
				h("div",
					h("div.card.stack", facts([
						["Action", `${task.action} by ${task.kind}`],
						["Handed in by", [task.by.token || "–", task.by.address && ` from ${task.by.address}`, task.by.door && ` (${task.by.door})`]],
						["Created", time(task.created_at)], task.start_at && ["Begins", time(task.start_at)], ["Due", time(task.due_at)],
						["Settled", task.settled_at ? [time(task.settled_at), ` after ${duration(task.settled_at - (task.start_at ?? task.created_at))}`] : "not yet"],
						task.retries && ["Retry of", link(task.retries)], task.rewind && ["Rewind", h("code", task.rewind)],
						again.length > 0 && ["Retried as", again.map((one) => h("div", badge(one.state), " ", link(one.task_id)))],
					])),
					verify && card("Verification", facts([
						["Visits", `${number(verify.checked)} (${verify.mode})`], ["Verified", verify.verified], ["Stale", verify.stale], ["Unverifiable", verify.unverifiable],
						verify.note && ["Note", verify.note]]), verify.reasons.length > 0 && details("Why some are unverifiable", h("ul", verify.reasons.map((one) => h("li", one))))),
					task.callback && card("Callback", callback(task.callback)),
					card(count(task.target_count, "target"), h("ul.mono", task.targets.slice(0, 10).map((one) => h("li", one))),
						task.targets.length > 10 && details(task.targets.length === task.target_count ? "All" : `The first ${number(task.targets.length)}`, h("pre", task.targets.join("\n")))),
					task.skipped.length + task.notes.length > 0 && h("div.card.stack", remarks(task))))))
	}

	const path = taskPath(id)

	function retry() {
		confirm({
			title: `Retry what failed of ${id}?`, word: "Retry",
			async look(tell) {
				tell("Asking what is left to send …")
				const {total, nodes, left_out: left} = await post(`${path}/retry?dry_run=1`)
				tell(`What failed, and no retry has mended, is sent again to ${nodes.join(", ")}, as a new task.${lefts(left)}`)
				return count(total, "subtask")
			},
			async act() {
				const made = await post(`${path}/retry`)
				go("task", made.task_id)
				return `Sent again as ${made.task_id}.${lefts(made.left_out)}`
			},
		})
	}

	function cancel() {
		confirm({
			title: `Cancel ${id}?`, word: "Cancel it", isDangerous: true, body: h("p", "What has no answer yet is not sent again. What was acked stays purged."),
			async act() {
				await remove(path)
				look()
				return "The task is cancelled"
			},
		})
	}

	async function receipt() {
		try {
			const signed = await (await send("GET", `${path}/receipt`)).text()
			const bytes = Uint8Array.from(atob(signed.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0))
			const said = JSON.stringify(JSON.parse(new TextDecoder().decode(bytes)), null, 2)
			const link = h("a.button", {download: `${id}.jws`, href: URL.createObjectURL(new Blob([signed], {type: "application/jose"}))}, "Save the signed text")
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

const lefts = (left) => left.length ? ` Left out: ${left.map((one) => `${one.node}: ${one.reason}`).join("; ")}` : ""

function reasons({errors}) {
	const rows = [...Map.groupBy(errors, (error) => error.reason)].sort((a, b) => b[1].length - a[1].length)
		.map(([reason, alike]) => [reason, alike.length, [...new Set(alike.map((error) => error.node))].join(", "), h("span.mono", alike[0].target)])
	return [table("Reasons", ["Reason", "#Times", "Nodes", "Target, such as"], rows), errors.length >= 100 && h("p.muted", "The first 100 are kept.")]
}

const callback = (told) => facts([
	["To", told.host], ["State", badge(told.state)], told.reports && ["Reports", told.reports], ["Attempts", told.attempts ?? "not known here"],
	told.last && ["Last", told.last], told.next_at && ["Next", time(told.next_at)], told.over_at && [told.state === "failed" ? "Given up" : "Delivered", time(told.over_at)]])

const COUNTS = ["Total", "Acked", "Absent", "Failed", "Delayed", "Cancelled", "Stale"]

const numbers = (task) => table("Numbers of each node", ["Node", "Layer", ...COUNTS.map((name) => `#${name}`), "Last ack", "Verified"], task.nodes.map((node) => [
	node.name, node.layer, ...COUNTS.map((name) => node[name.toLowerCase()]), time(node.acked_at), time(node.verified_at)]))

// Each node's way from the task's begin to its last ack. An edge begins when its parents have acked.
const ROW = 22
const SHOWN = 200

function waterfall(task, width) {
	const WIDTH = Math.max(300, width)
	const CHARS = WIDTH > 1000 ? 28 : WIDTH > 500 ? 20 : 12
	const NAME = CHARS * 9
	const from = task.start_at ?? task.created_at
	const now = Date.now() / 1000
	const ends = task.nodes.flatMap((node) => [node.acked_at, node.verified_at]).filter(Boolean)
	const isOpen = task.active && task.nodes.some((node) => node.acked + node.failed + node.cancelled < node.total)
	const to = Math.max(from + 0.001, ...ends, isOpen ? now : 0, !ends.length && task.settled_at ? task.settled_at : 0)
	const span = to - from
	const x = (at) => NAME + ((WIDTH - NAME - 90) * Math.max(0, at - from)) / span
	const layers = Map.groupBy(task.nodes, (node) => node.layer)
	const parts = []
	const said = []
	let y = 18
	let before = from
	let left = SHOWN
	const line = (classes, at, to) => parts.push(s("line", {class: classes, x1: x(at), x2: x(at), y1: 14, y2: to}))
	const bar = (classes, from_, to_, top, height) => s("rect", {class: classes, x: x(from_), y: y + top, width: Math.max(2, x(to_) - x(from_)), height, rx: 2})
	const bottom = 14 + ROW * Math.min(SHOWN, task.nodes.length) + layers.size * 20
	for (const step of WIDTH > 500 ? [0, 0.25, 0.5, 0.75, 1] : [0, 1]) {
		const at = from + span * step
		line("", at, bottom)
		parts.push(s("text", {class: "axis", x: x(at), y: 9, "text-anchor": step ? "middle" : "start"}, step ? duration(span * step) : clockText(from)))
	}
	for (const [layer, nodes] of layers) {
		parts.push(s("text", {class: "axis", x: 0, y: y + 12}, `${layer}, ${count(nodes.length, "node")}`))
		y += 20
		for (const node of nodes.slice(0, left)) {
			const rest = node.total - node.acked - node.failed - node.cancelled
			const end = rest && task.active ? now : node.acked_at ?? task.settled_at ?? to
			const begin = Math.min(before, end)
			const state = node.failed ? "down" : node.cancelled ? "gone" : rest ? "refusing" : "ready"
			const took = node.acked === node.total && duration(node.acked_at - from)
			const [n, word] = node.failed ? [node.failed, "failed"] : node.cancelled ? [node.cancelled, "cancelled"] : node.delayed ? [node.delayed, "delayed"] : [node.acked, "acked"]
			const what = `${node.name}: ${took ? `acked after ${took}` : `${number(n)} of ${number(node.total)} ${word}`}`
			said.push(what)
			parts.push(s("g", {"data-row": node.name}, s("title", `${what}${node.verified_at ? `, verified after ${duration(node.verified_at - from)}` : ""}`),
				s("text", {x: 8, y: y + 15}, node.name.length > CHARS ? `${node.name.slice(0, CHARS - 1)}…` : node.name),
				begin > from && bar("before", from, begin, 9, 4), bar(`s-${state}`, begin, end, 5, 12),
				node.verified_at && node.acked_at && bar("look s-ready", node.acked_at, node.verified_at, 6, 10),
				s("text", {class: "axis", x: Math.min(x(Math.max(end, node.verified_at ?? 0)) + 6, WIDTH - 84), y: y + 15}, took || `${number(n)} ${word}`)))
			y += ROW
		}
		left = Math.max(0, left - nodes.length)
		const acks = nodes.map((node) => node.acked_at).filter(Boolean)
		if (acks.length) before = Math.max(before, Math.min(...acks))
	}
	if (task.active && task.due_at < to) line("due", task.due_at, y)
	return [s("svg", {class: "fall", viewBox: `0 0 ${WIDTH} ${y + 6}`, role: "img", label: said.slice(0, 50).join("; ")}, parts),
		task.nodes.length > SHOWN && h("p.muted", `The first ${number(SHOWN)} of ${number(task.nodes.length)} nodes.`),
		h("p.legend", [["ready", "acked"], ["gone", "waits for its parents"], ["refusing", "under way, or delayed"], ["down", "failed"], task.verify && ["ready", "outlined: until verified"]].filter(Boolean)
			.map(([state, words]) => h("span", h("i", {class: `s-${state}`}), words)))]
}
