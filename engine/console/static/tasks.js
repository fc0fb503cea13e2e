// All tasks, newest first: filters that stand in the address, and what can be done to all that they leave.

import {get, query as words} from "./api.js"
import {bulk} from "./bulk.js"
import {badge, button, drawing, duration, field, form, h, morph, number, problem, replace, s, say, select, time} from "./dom.js"

const PAGE = 100
const ROW_PX = 40
const AGAIN_MS = 3000; // from one look to the next, and 20 times what a look took
const CHOICES = {
	state: [["", "any"], "accepted", "running", "partial", "done", "failed", "cancelled"], action: [["", "any"], "purge", "prefetch"],
	since: [["", "any time"], ["15m", "the last 15 minutes"], ["1h", "the last hour"], ["6h", "the last 6 hours"], ["24h", "the last day"], ["7d", "the last week"]],
}
const HINTS = {target: "URL, host/key or host", by: "token, address"}
const SECONDS = {m: 60, h: 3600, d: 86400}
const ACTIVE = new Set(["accepted", "running", "partial"])
const COLUMNS = [["", "State"], ["", "Targets"], [".c-kind", "Action"], [".c-meter", "Progress"], [".c-by", "Handed in by"], [".c-at", "Created"], [".c-took", "Took"]]
const FIELDS = {target: "Covered target", state: "State", host: "Host", node: "Node", by: "Handed in by", action: "Action", since: "Since"}
const each = (call) => Object.fromEntries(Object.keys(FIELDS).map((name) => [name, call(name)]))
const read = (query) => each((name) => query.get(name) ?? "")

export function show(root, arg, query, {live, place}) {
	const known = {host: new Set(), by: new Set(), target: new Set(), node: new Set()}
	const lists = Object.fromEntries(Object.keys(known).map((name) => [name, h("datalist", {id: `known-${name}`})]))
	let filters = read(query)
	const controls = each((name) => CHOICES[name] ? select(name, CHOICES[name], filters[name])
		: h("input", {name, placeholder: HINTS[name] ?? "any", list: `known-${name}`, autocomplete: "off", value: filters[name]}))
	const bar = form("filters", moved, Object.entries(FIELDS).map(([name, title]) => field(title, controls[name])),
		button("More filters", () => bar.classList.add("all"), {class: "more"}), Object.values(lists), h("button", {type: "submit", class: "sr"}, "Filter"))
	bar.addEventListener("change", moved)
	const linkOf = (row) => row.querySelector("a")
	const pad = h("div.pad", {role: "rowgroup", on: {click: ({target}) => target.closest("a") ?? linkOf(target.closest(".listrow")).click()}})
	const rows = h("div.rows", {role: "presentation", tabindex: "-1", on: {scroll: () => requestAnimationFrame(draw)}}, pad)
	const foot = h("span", {role: "status"})
	const said = problem()
	const act = (text, name, isRetry) => button(text, () => bulk(isRetry, pages, summary(), load), {"data-act": name, class: isRetry ? null : "danger"})
	const acts = [act("Retry these …", "retry-all", true), act("Cancel these …", "cancel-all", false)]
	const list = h("div", {role: "table", label: "Tasks"},
		h("div", {role: "rowgroup"}, h("div.listrow.head", {role: "row"}, COLUMNS.map(([name, title]) => h(`span${name}`, {role: "columnheader"}, title)))), rows)
	root.append(h("h1.sr", "Tasks"), bar, said, h("div.list", list, h("div.listfoot", foot, h("span.row.wrap", acts))))

	let tasks = []; // newest first
	const ids = new Map()
	let cursor = ""
	let isEnd = false
	let incomplete = ""
	let asking = null
	let timer = 0
	let counters = ""
	let pauseMs = AGAIN_MS

	function moved() {
		const to = place("tasks", "", each((name) => controls[name].value.trim()))
		if (to !== location.hash && !(to === "#/tasks" && location.hash === "")) location.hash = to
	}

	// The history has tasks of all workers in one order; without one each worker's come one after the other.
	let isPlain = false
	function path(limit, at) {
		const {since, ...rest} = filters
		const [, n, unit] = /^(\d+)([mhd])$/.exec(since) ?? []
		const from = unit ? Math.floor(Date.now() / 1000 - n * SECONDS[unit]) : since ? since : isPlain || rest.state ? "" : 0
		return `tasks${words({...rest, since: from, limit, cursor: at})}`
	}

	async function page(limit, at, signal) {
		try {
			return await get(path(limit, at), signal)
		} catch (error) {
			if (error.status !== 404 || isPlain || Object.entries(filters).some(([name, value]) => value && name !== "state")) throw error
			isPlain = true
			return get(path(limit, at), signal)
		}
	}

	const add = (name, value) => value && known[name].size < 200 && known[name].add(value)

	function take(found) {
		for (const task of found) {
			ids.set(task.task_id, task)
			add("by", task.by.token)
			for (const target of task.targets.slice(0, 3)) {
				add("target", target)
				add("host", target.replace(/^https?:\/\//, "").split("/")[0])
			}
		}
		tasks = [...ids.values()].sort((a, b) => b.created_at - a.created_at || (a.task_id < b.task_id ? 1 : -1))
		complete()
	}

	function complete() {
		for (const node of live.nodes.keys()) known.node.add(node)
		for (const [name, element] of Object.entries(lists)) {
			if (element.children.length !== known[name].size) replace(element, [...known[name]].sort().map((value) => h("option", {value})))
		}
	}

	let isOver = false
	async function load() {
		if (isOver) return
		asking?.abort()
		asking = new AbortController()
		const {signal} = asking
		clearTimeout(timer)
		ids.clear()
		tasks = []
		cursor = ""
		isEnd = false
		say(said, "")
		rows.scrollTop = 0
		draw()
		await more(signal)
		again()
	}

	let isLoading = false
	async function more(signal = asking?.signal) {
		if (isLoading && !signal) return
		isLoading = true
		draw()
		const began = performance.now()
		try {
			do {
				const found = await page(PAGE, cursor, signal)
				cursor = found.cursor ?? ""
				incomplete = lacks(found)
				isEnd = !cursor
				take(found.tasks)
				pauseMs = Math.max(AGAIN_MS, 20 * (performance.now() - began))
				draw()
			} while (!isEnd && rows.scrollTop + rows.clientHeight * 2 > tasks.length * ROW_PX)
		} catch (error) {
			if (error.name === "AbortError") return
			say(said, error.message)
			isEnd = true
		}
		isLoading = false
		draw()
	}

	// Live: the first page once more, when the engine has counted something since.
	function again() {
		clearTimeout(timer)
		timer = setTimeout(async () => {
			const {qps_boss: taken, qps_proxy: answered} = live.stats ?? {}
			const now = `${taken?.count} ${answered?.count} ${live.list.reduce((sum, node) => sum + node.delayed + node.failed, 0)}`
			const isActive = tasks.some((task) => ACTIVE.has(task.state))
			if (!document.hidden && live.status === "live" && !isLoading && (now !== counters || isActive)) {
				counters = now
				const began = performance.now()
				try {
					const found = await page(PAGE, "", asking.signal)
					const seen = new Set(found.tasks.map((task) => task.task_id))
					const last = found.cursor && found.tasks.length ? found.tasks.at(-1).created_at : -1
					for (const task of ids.values()) if (task.created_at > last && !seen.has(task.task_id)) ids.delete(task.task_id); // as the filters say by now
					take(found.tasks)
					say(said, "")
				} catch (error) {
					if (error.name === "AbortError") return
				}
				pauseMs = Math.max(AGAIN_MS, 20 * (performance.now() - began))
				draw()
			}
			again()
		}, pauseMs)
	}

	// Of many rows those that are seen are there.
	const drawn = new Map()
	function draw() {
		const from = Math.max(0, Math.floor(rows.scrollTop / ROW_PX) - 8)
		const to = Math.min(tasks.length, Math.ceil((rows.scrollTop + rows.clientHeight) / ROW_PX) + 8)
		pad.style.height = `${Math.max(tasks.length * ROW_PX, 1)}px`
		list.ariaRowCount = isEnd ? tasks.length + 1 : -1
		const seen = tasks.slice(from, to)
		const wanted = new Set(seen.map((task) => task.task_id))
		for (const [id, {element}] of drawn) {
			if (wanted.has(id)) continue
			element.remove()
			drawn.delete(id)
		}
		let next = pad.firstChild; // in their order, for those who go from row to row
		seen.forEach((task, nth) => {
			let row = drawn.get(task.task_id)
			if (row?.task !== task) {
				const made = rowOf(task, place)
				if (row) morph(row.element, made)
				row = {task, element: row?.element ?? made}
				drawn.set(task.task_id, row)
			}
			const {element} = row
			if (element === next) next = next.nextSibling
			else pad.insertBefore(element, next)
			const at = from + nth
			element.style.top = `${at * ROW_PX}px`
			element.ariaRowIndex = at + 2
			element.dataset.at = at
		})
		const n = `${number(tasks.length)}${isEnd ? "" : "+"} ${tasks.length === 1 && isEnd ? "task" : "tasks"}`
		say(foot, !tasks.length ? (isLoading ? "Looking …" : "No task is as the filters say.") : `${n}${isLoading ? ", looking for more …" : ""}${incomplete}`)
		for (const one of acts) {
			Object.assign(one, live.needs("submit"))
			one.disabled ||= !tasks.length
		}
		if (!isEnd && !isLoading && tasks.length && rows.scrollTop + rows.clientHeight * 2 > tasks.length * ROW_PX) more()
	}

	rows.addEventListener("keydown", (event) => {
		const step = {ArrowDown: 1, ArrowUp: -1}[event.key]
		const at = Number(event.target.closest(".listrow")?.dataset.at)
		if (!step || Number.isNaN(at)) return
		event.preventDefault()
		const to = Math.max(0, Math.min(tasks.length - 1, at + step))
		const top = to * ROW_PX
		if (top < rows.scrollTop) rows.scrollTop = top
		else if (top + ROW_PX > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + ROW_PX - rows.clientHeight
		draw()
		linkOf(drawn.get(tasks[to].task_id).element).focus({preventScroll: true})
	})

	// All that the filters leave now.
	async function* pages() {
		let at = ""
		do {
			const found = await page(1000, at, asking.signal)
			at = found.cursor
			yield {tasks: found.tasks, missing: lacks(found)}
		} while (at)
	}

	function summary() {
		const set = Object.entries(FIELDS).filter(([name]) => filters[name]).map(([name, title]) => `${title}: ${filters[name]}`)
		return h("p.muted", set.length ? `Filters: ${set.join(", ")}.` : "No filter is set: these are all tasks.")
	}

	load()
	return {
		update: complete,
		may: draw,
		navigate(_arg, now) {
			filters = read(now)
			for (const [name, control] of Object.entries(controls)) control.value = filters[name]
			load()
			return true
		},
		destroy() {
			isOver = true
			asking.abort()
			clearTimeout(timer)
		},
	}
}

function lacks({incomplete, missing_regions: regions}) {
	const why = incomplete ?? (regions && `regions ${regions.join(", ")} cannot be read`)
	return why ? `; some may be missing: ${why}` : ""
}

function rowOf(task, place) {
	const more = task.target_count - 1
	const target = task.targets[0] ?? "–"
	const took = task.settled_at ? duration(task.settled_at - (task.start_at ?? task.created_at)) : "–"
	const cells = [badge(task.state), h("a", {href: place("task", task.task_id)}, target.replace(/^http:\/\//, ""), more > 0 && h("small", ` +${number(more)}`)), `${task.action} ${task.kind}`,
		meter(task), task.by.token || task.by.address || "–", time(task.created_at), took]
	return h("div.listrow", {role: "row", title: task.targets.slice(0, 5).join("\n")}, cells.map((cell, at) => h(`span${COLUMNS[at][0]}`, {role: at === 1 ? "rowheader" : "cell"}, cell)))
}

// Acked, failed, delayed, cancelled of all: the rest is on its way.
export function meter(task, isBig = false) {
	let at = 0
	const bars = [["ready", task.counter], ["down", task.failed], ["refusing", task.delayed], ["gone", task.cancelled]].map(([state, n]) => {
		const width = task.total ? (100 * n) / task.total : 0
		const bar = width > 0 && s("rect", {class: `s-${state}`, x: at, width, height: 8})
		at += width
		return bar
	})
	return h("span", {class: isBig ? "meter big" : "meter"}, drawing("", "0 0 100 8", bars), h("span", `${number(task.counter)} of ${number(task.total)}`))
}
