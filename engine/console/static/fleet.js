// Layers and their nodes: a tile each, with its state, what waits, and purges a second.

import {button, clockText, count, drawing, duration, enc, h, morph, number, rate, replace, s, say, shape, stateWord} from "./dom.js"
import {WORST, concern, isWell} from "./live.js"
import {panel} from "./node.js"

const SMALL = 150; // more nodes have small tiles, without a sparkline, the worst first

export function show(root, arg, query, {live, go, adjust, place: address}) {
	let chosen = arg
	const wanted = new Set(states(query))
	const search = h("input", {type: "search", name: "q", placeholder: "Node, driver or address", label: "Filter nodes", value: query.get("q") ?? "",
		on: {input: () => {place(); draw();}}})
	const groupOf = (...kids) => h("div.chips", {role: "group", label: "States"}, kids)
	const chips = groupOf()
	chips.addEventListener("click", ({target}) => {
		const state = target.closest("button")?.dataset.state
		if (!state) return
		if (!wanted.delete(state)) wanted.add(state)
		place()
		draw()
	})
	const flowLine = s("polyline")
	const flowText = h("span")
	const layers = h("div.layers")
	const side = h("aside.side", {label: "Node", hidden: true})
	const sum = h("p.sr", {role: "status"})
	root.append(h("h1.sr", "Fleet"),
		h("div.bar", search, chips, h("div.flow", spark("spark wide", flowLine), flowText)), sum,
		h("div.split", layers, side))
	const tiles = new Map()
	let order = ""
	let detail = null

	const filters = () => ({q: search.value, state: [...wanted].join(",")})
	const place = () => adjust("fleet", chosen, filters())

	function matches(node) {
		const words = search.value.trim().toLowerCase()
		if (wanted.size && !wanted.has(node.state)) return false
		return !words || `${node.name} ${node.driver} ${node.url} ${node.layer} ${node.reason}`.toLowerCase().includes(words)
	}

	function drawChips(list) {
		const counts = Map.groupBy(list, (node) => node.state)
		const found = WORST.toReversed().filter((state) => counts.has(state) || wanted.has(state))
		morph(chips, groupOf(found.map((state) => h("button", {type: "button", class: `chip s-${state}`, "data-state": state, "aria-pressed": `${wanted.has(state)}`},
			shape(state), h("span", stateWord(state)), h("b", number(counts.get(state)?.length))))))
	}

	function draw() {
		const all = live.list
		drawChips(all)
		const list = all.filter(matches)
		const isSmall = all.length > SMALL
		const groups = grouped(list, isSmall)
		const key = JSON.stringify([isSmall, groups.map(([title, nodes]) => [title, nodes.map((node) => node.name)])])
		if (key !== order) arrange(groups, isSmall, key, all.length)
		const words = address("fleet", "", filters()).slice(7)
		for (const node of list) fill(tiles.get(node.name), node, isSmall, words)
		say(sum, list.length === all.length ? count(all.length, "node") : `${number(list.length)} of ${count(all.length, "node")}`)
		set(flowLine, "points", points(live.total))
		say(flowText, `${mean(live.total, 5)} purges/s`)
		drawSide()
	}

	function arrange(groups, isSmall, key, total) {
		order = key
		const focused = document.activeElement?.dataset?.node
		const had = new Map(tiles)
		tiles.clear()
		replace(layers, groups.map(([title, nodes], nth) => {
			const head = h("h2", {id: `group-${nth}`}, title, " ", h("small", number(nodes.length)))
			const grid = h("div", {class: isSmall ? "tiles small" : "tiles", role: "grid", "aria-labelledby": `group-${nth}`},
				h("div", {role: "row", class: "cells"}, nodes.map((node) => {
					let tile = had.get(node.name)
					if (!tile || !tile.line !== isSmall) tile = make(node, isSmall)
					tiles.set(node.name, tile)
					tile.link.tabIndex = -1
					return tile.cell
				})))
			return h("section", head, grid)
		}))
		if (!groups.length) {
			layers.append(h("p.empty", total ? "No node is as the filters say." : live.isKnown ? "No [[node]] is configured: docs/configuration.md says how." : "…"))
		}
		const first = tiles.get(focused) ?? tiles.get(chosen) ?? tiles.values().next().value
		if (first) first.link.tabIndex = 0
		if (focused) tiles.get(focused)?.link.focus()
	}

	function make(node, isSmall) {
		const tile = {was: "", line: isSmall ? null : s("polyline")}
		for (const part of ["name", "word", "mark", "driver", "waits", "note", "rate"]) tile[part] = h(`span.${part}`)
		tile.link = h("a.tile", {"data-node": node.name},
			h("span.top", tile.mark, tile.name, tile.word),
			!isSmall && h("span.mid", tile.driver, spark("spark", tile.line), tile.rate),
			h("span.low", tile.waits, !isSmall && tile.note))
		tile.cell = h("div", {role: "gridcell", class: "cell"}, tile.link)
		return tile
	}

	function fill(tile, node, isSmall, words) {
		set(tile.link, "href", `#/fleet/${enc(node.name)}${words}`)
		const isStale = node.state === "ready" && !isWell(node)
		const state = isStale ? "sick" : node.state
		say(tile.name, node.name)
		say(tile.word, isStale ? "stale" : state !== "ready" ? `${stateWord(state)} ${clockText(node.since, true)}` : isSmall ? "" : "ready")
		if (tile.was !== state) {
			tile.was = state
			tile.link.className = `tile s-${state}`
			replace(tile.mark, shape(state))
		}
		tile.link.ariaCurrent = node.name === chosen ? "true" : null
		const waits = node.delayed ? `${number(node.delayed)} wait${node.delayed === 1 ? "s" : ""}, ${duration(node.oldest_delayed_s)}` : node.waiting ? `${number(node.waiting)} queued` : ""
		say(tile.waits, waits)
		set(tile.link, "aria-label", `${node.name}: ${stateWord(node.state)}${node.reason ? `, ${node.reason}` : ""}${waits ? `; ${waits}` : ""}`)
		set(tile.link, "title", node.reason)
		if (isSmall) return
		say(tile.driver, node.driver)
		const rates = live.rates.get(node.name) ?? []
		say(tile.rate, `${mean(rates, 3)}/s`)
		set(tile.line, "points", points(rates))
		say(tile.note, noteOf(node))
	}

	function noteOf(node) {
		if (node.state !== "ready" && node.reason) return node.reason
		if (node.canary) {
			const kinds = Object.values(node.canary.kinds).map((kind) => kind.fresh_s).filter((value) => value !== null)
			const age = duration(Math.max(0, live.at - node.canary.at))
			return node.canary.state === "fresh" && kinds.length ? `fresh in ${duration(Math.max(...kinds))}, ${age} ago` : `canary ${stateWord(node.canary.state)}, ${age} ago`
		}
		return node.last_error_at ? `${clockText(node.last_error_at, true)} ${node.last_error}` : ""
	}

	function drawSide() {
		const node = live.nodes.get(chosen)
		side.hidden = !chosen
		root.classList.toggle("has-side", chosen)
		if (!node) {
			detail = null
			replace(side, h("p.empty", live.isKnown ? `There is no node ${chosen}.` : "…"), button("Close", close))
			return
		}
		if (detail?.name !== chosen) {
			detail = panel(node, live, close)
			replace(side, detail.element)
		}
		detail.update(node)
	}

	function close() {
		go("fleet", "", filters())
	}

	// The arrow keys go by what is seen: tiles of a row have the same top.
	layers.addEventListener("keydown", (event) => {
		const here = event.target.closest("[data-node]")
		const all = [...layers.querySelectorAll("[data-node]")]
		const at = all.indexOf(here)
		if (at < 0) return
		let to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1, ArrowDown: -1, ArrowUp: -1}[event.key]
		if (to === undefined) return
		const sign = {ArrowDown: 1, ArrowUp: -1}[event.key]
		if (sign) {
			const box = here.getBoundingClientRect()
			let best = Infinity
			all.forEach((other, place) => {
				const its = other.getBoundingClientRect()
				if ((its.top - box.top) * sign <= 4) return
				const far = Math.abs(its.top - box.top) * 10 + Math.abs(its.left - box.left)
				if (far < best) [best, to] = [far, place]
			})
		}
		event.preventDefault()
		if (to < 0 || to >= all.length) return
		here.tabIndex = -1
		all[to].tabIndex = 0
		all[to].focus()
	})

	return {
		update: draw,
		may: () => {
			detail = null
			draw()
		},
		navigate(arg_, query_) {
			chosen = arg_
			wanted.clear()
			for (const state of states(query_)) wanted.add(state)
			if (document.activeElement !== search) search.value = query_.get("q") ?? ""
			draw()
			if (chosen && matchMedia("(max-width: 900px)").matches) side.scrollIntoView({block: "start"})
			return true
		},
		escape() {
			if (!chosen) return false
			const link = tiles.get(chosen)?.link
			close()
			link?.focus()
			return true
		},
	}
}

// What stands together under a head, in the order of the configuration; of many the worst come first.
function grouped(nodes, isSorted) {
	const groups = [...Map.groupBy(nodes, (node) => node.layer || "of no layer")]
	if (isSorted) for (const [, group] of groups) group.sort((a, b) => concern(a) - concern(b))
	return groups
}

// Only what is another: a screen reader, and the layout, have nothing to do then.
const set = (element, name, value) => element.getAttribute(name) === value || element.setAttribute(name, value)

const spark = (classes, line) => drawing(classes, "0 0 60 16", line)
const mean = (all, n) => rate(all.slice(-n).reduce((a, b) => a + b, 0) / Math.max(1, Math.min(n, all.length)))
const states = (query) => (query.get("state") ?? "").split(",").filter(Boolean)

function points(rates) {
	const most = Math.max(1, ...rates)
	const from = 60 - rates.length
	return rates.map((value, place) => `${from + place + 1},${(15 - (value / most) * 13).toFixed(1)}`).join(" ")
}
