// All tasks, newest first: filters that stand in the address, and what can be done to all that they leave.

import {get, post, query as words, remove} from "./api.js"
import {confirm} from "./dialogs.js"
import {badge, button, count, duration, enc, field, h, number, replace, s, say, select, time} from "./dom.js"

const PAGE = 100
const ROW_PX = 40
const AGAIN_MS = 3000; // from one look to the next, and 20 times what a look took
const BULK_MAX = 20000
const AT_ONCE = 6
const STATES = [["", "any"], ...["accepted", "running", "partial", "done", "failed", "cancelled"].map((state) => [state, state])]
const SINCE = [["", "any time"], ["15m", "the last 15 minutes"], ["1h", "the last hour"], ["6h", "the last 6 hours"], ["24h", "the last day"], ["7d", "the last week"]]
const SECONDS = {m: 60, h: 3600, d: 86400}
const ACTIVE = new Set(["accepted", "running", "partial"])
const FIELDS = ["state", "target", "host", "node", "by", "action", "since"]

export function show(root, arg, query, {live, place}) {
	const known = {host: new Set(), by: new Set(), target: new Set(), node: new Set()}
	const lists = Object.fromEntries(Object.keys(known).map((name) => [name, h("datalist", {id: `known-${name}`})]))
	const text = (name, hint) => h("input", {name, placeholder: hint, list: `known-${name}`, autocomplete: "off", value: query.get(name) ?? ""})
	const controls = {
		target: text("target", "URL, host/key or host"), state: select("state", STATES, query.get("state")), host: text("host", "any"), node: text("node", "any"), by: text("by", "token or address"),
		action: select("action", [["", "any"], ["purge", "purge"], ["prefetch", "prefetch"]], query.get("action")), since: select("since", SINCE, query.get("since")),
	}
	const form = h("form.filters", {on: {submit: (event) => {event.preventDefault(); moved();}, change: moved}},
		h("div.wide", field("Covers", controls.target)), field("State", controls.state), field("Host", controls.host), field("Node", controls.node), field("By", controls.by), field("Does", controls.action), field("Since", controls.since),
		button("More filters", (event) => event.target.form.classList.add("all"), {class: "more"}), Object.values(lists), h("button", {type: "submit", class: "sr"}, "Filter"))
	const pad = h("div.pad", {role: "rowgroup"})
	const rows = h("div.rows", {role: "presentation", tabindex: "-1", on: {scroll: () => requestAnimationFrame(draw)}}, pad)
	const foot = h("span", {role: "status"})
	const problem = h("p.problem", {role: "alert"})
	const retry = button("Retry these …", () => bulk(true), {"data-act": "retry-all"})
	const cancel = button("Cancel these …", () => bulk(), {"data-act": "cancel-all", class: "danger"})
	const list = h("div.list", {role: "table", label: "Tasks"},
		h("div", {role: "rowgroup"}, h("div.listrow.head", {role: "row"}, ["State", "Targets", "Does", "Progress", "By", "Created", "Took"].map((name, at) => h("span", {role: "columnheader", class: ["", "", "c-kind", "c-meter", "c-by", "c-at", "c-took"][at]}, name)))),
		rows, h("div.listfoot", foot, h("span.row.wrap", retry, cancel)))
	root.append(h("h1.sr", "Tasks"), form, problem, list)

	let filters = read(query)
	let tasks = []; // newest first
	const ids = new Map()
	let cursor = ""
	let isEnd = false
	let incomplete = ""
	let asking = null
	let timer = 0
	let counters = ""
	let pauseMs = AGAIN_MS

	function read(from) {
		return Object.fromEntries(FIELDS.map((name) => [name, from.get(name) ?? ""]))
	}

	function moved() {
		const now = Object.fromEntries(FIELDS.map((name) => [name, controls[name].value.trim()]))
		const to = place("tasks", "", now)
		if (to !== location.hash && !(to === "#/tasks" && location.hash === "")) location.hash = to
	}

	// The history has tasks of all workers in one order; without one each worker's come one after the other.
	let isPlain = false
	function path(limit, at) {
		const {since, ...rest} = filters
		const [, n, unit] = /^(\d+)([mhd])$/.exec(since) ?? []
		const from = unit ? Math.floor(Date.now() / 1000 - n * SECONDS[unit]) : since ? since : isPlain || rest.state ? "" : 0
		return `/v1/engine/tasks${words({...rest, since: from, limit, cursor: at})}`
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
		problem.textContent = ""
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
			problem.textContent = error.message
			isEnd = true
		}
		isLoading = false
		draw()
	}

	// Live: the first page once more, when the engine has counted something since.
	function again() {
		clearTimeout(timer)
		timer = setTimeout(async () => {
			const now = live.stats ? `${live.stats.qps_boss.count} ${live.stats.qps_proxy.count} ${live.list.reduce((sum, node) => sum + node.delayed + node.failed, 0)}` : ""
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
					problem.textContent = ""
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
		const wanted = new Set()
		for (let at = from; at < to; at += 1) {
			const task = tasks[at]
			wanted.add(task.task_id)
			let row = drawn.get(task.task_id)
			if (!row || row.task !== task) {
				const made = {task, element: rowOf(task, place)}
				if (row) {
					const had = document.activeElement === row.element
					row.element.replaceWith(made.element)
					if (had) made.element.focus({preventScroll: true})
				} else pad.append(made.element)
				row = made
				drawn.set(task.task_id, row)
			}
			row.element.style.top = `${at * ROW_PX}px`
			row.element.ariaRowIndex = at + 2
			row.element.dataset.at = at
		}
		for (const [id, row] of drawn) {
			if (!wanted.has(id)) {
				row.element.remove()
				drawn.delete(id)
			}
		}
		rows.style.height = tasks.length * ROW_PX < 400 ? `${Math.max(tasks.length, 1) * ROW_PX}px` : ""
		const n = `${number(tasks.length)}${isEnd ? "" : "+"} ${tasks.length === 1 && isEnd ? "task" : "tasks"}`
		say(foot, !tasks.length ? (isLoading ? "Looking …" : "No task is as the filters say.") : `${n}${isLoading ? ", looking for more …" : ""}${incomplete}`)
		const may = live.may("submit")
		for (const one of [retry, cancel]) {
			one.disabled = !may || !tasks.length
			one.title = may ? "" : "takes the scope submit"
		}
		if (!isEnd && !isLoading && tasks.length && rows.scrollTop + rows.clientHeight * 2 > tasks.length * ROW_PX) more()
	}

	rows.addEventListener("keydown", (event) => {
		const step = {ArrowDown: 1, ArrowUp: -1}[event.key]
		const at = Number(event.target.dataset?.at)
		if (!step || Number.isNaN(at)) return
		event.preventDefault()
		const to = Math.max(0, Math.min(tasks.length - 1, at + step))
		const top = to * ROW_PX
		if (top < rows.scrollTop) rows.scrollTop = top
		else if (top + ROW_PX > rows.scrollTop + rows.clientHeight) rows.scrollTop = top + ROW_PX - rows.clientHeight
		draw()
		drawn.get(tasks[to].task_id)?.element.focus({preventScroll: true})
	});

	// What is done to all: exactly the tasks that the filters leave now, found to the last, and counted before.
	function bulk(isRetry) {
		const word = isRetry ? "retried" : "cancelled"
		const about = h("p", {role: "status"}, "Looking for all of them …")
		const found = []
		let isStopped = false
		const box = confirm({
			title: isRetry ? "Retry what failed of these tasks?" : "Cancel these tasks?", word: isRetry ? "Retry" : "Cancel", isDangerous: !isRetry, body: [about, summary()],
			act: async () => {
				let done = 0
				const failed = []
				const waiting = [...found]
				await Promise.all(Array.from({length: AT_ONCE}, async () => {
					for (let id = waiting.pop(); id !== undefined && !isStopped; id = waiting.pop()) {
						const at = `/v1/engine/task/${enc(id)}`
						try {
							if (isRetry) await post(`${at}/retry`)
							else await remove(at)
							done += 1
						} catch (error) {
							failed.push(error.message)
						}
						say(about, `${number(done + failed.length)} of ${number(found.length)} …`)
					}
				}))
				load()
				if (!failed.length) return `${isStopped ? "Stopped: " : ""}${count(done, "task")} ${word}`
				throw new Error(`${number(done)} ${word}, ${number(failed.length)} not: ${[...new Set(failed)].slice(0, 3).join("; ")}`)
			},
		})
		const go = box.querySelector("[data-act=confirm]")
		go.disabled = true
		box.addEventListener("close", () => {
			isStopped = true
		});
		(async () => {
			try {
				let at = ""
				let subtasks = 0
				let missing = ""
				do {
					const got = await page(1000, at, asking.signal)
					for (const task of got.tasks) {
						if (isRetry ? task.active || !task.failed : !task.active) continue
						found.push(task.task_id)
						subtasks += isRetry ? task.failed : task.total - task.counter - task.failed
					}
					say(about, `${count(found.length, "task")} so far …`)
					at = got.cursor
					missing ||= lacks(got)
					if (found.length > BULK_MAX) throw new Error(`These are more than ${number(BULK_MAX)}: narrow the filters.`)
				} while (at && !isStopped)
				const some = count(found.length, "task")
				say(about, found.length ? `${some}, ${isRetry ? `${count(subtasks, "failed subtask")}. What a retry has mended is left alone` : `${count(subtasks, "subtask")} without an answer`}${missing}.` : `None of these tasks ${isRetry ? "has failed" : "is under way"}${missing}.`)
				if (!found.length) return
				go.append(` ${some}`)
				go.disabled = false
			} catch (error) {
				say(about, error.message)
			}
		})()
	}

	function summary() {
		const said = FIELDS.filter((name) => filters[name]).map((name) => `${name} ${filters[name]}`)
		return h("p.muted", said.length ? `Filters: ${said.join(", ")}.` : "No filter is set: these are all tasks.")
	}

	load()
	return {
		update: complete,
		may: draw,
		navigate(_arg, now) {
			filters = read(now)
			for (const name of FIELDS) controls[name].value = filters[name]
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
	return h("a.listrow", {role: "row", href: place("task", task.task_id), title: task.targets.slice(0, 5).join("\n")},
		[["", badge(task.state)], ["", [target.replace(/^http:\/\//, ""), more > 0 && h("small", ` +${number(more)}`)]], [".c-kind", `${task.action} ${task.kind}`],
			[".c-meter", meter(task)], [".c-by", task.by.token || task.by.address || "–"], [".c-at", time(task.created_at)], [".c-took", took]]
			.map(([name, kid]) => h(`span${name}`, {role: "cell"}, kid)))
}

// Acked, failed, delayed, cancelled of all: the rest is on its way.
export function meter(task, isBig = false) {
	const parts = [["acked", task.counter], ["failed", task.failed], ["delayed", task.delayed], ["cancelled", task.cancelled]]
	let at = 0
	const bars = parts.map(([name, n]) => {
		const width = task.total ? (100 * n) / task.total : 0
		const bar = width > 0 ? s("rect", {class: name, x: at, y: 0, width, height: 8}) : null
		at += width
		return bar
	})
	return h("span", {class: isBig ? "meter big" : "meter"}, s("svg", {viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true"}, bars),
		h("span", `${number(task.counter)} of ${number(task.total)}`))
}
