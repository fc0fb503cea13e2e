// Elements, and values as text. What comes from outside goes in by `textContent` alone.

export const enc = encodeURIComponent
const SVG = "http://www.w3.org/2000/svg"

// What controls a text, or turns what stands around it, is named: `\u202e`, as the command line does.
const clean = (text) => text.replace(/(?![\n\t])\p{C}/gu, (one) => `\\u${one.codePointAt().toString(16).padStart(4, "0")}`)

const allOf = (kids) => kids.flat(Infinity).filter((kid) => kid != null && kid !== false).map((kid) => kid.nodeType ? kid : clean(`${kid}`))

function fill(element, rest) {
	const [first, ...others] = rest
	const hasProps = first?.constructor === Object
	const kids = hasProps ? others : rest
	for (const [name, value] of Object.entries(hasProps ? first : {})) {
		if (value == null || value === false) continue
		if (name === "on") for (const [type, call] of Object.entries(value)) element.addEventListener(type, call)
		else if (name === "value") element.value = value
		else if (name === "checked" || name === "disabled") element[name] = value
		else element.setAttribute(name === "label" ? "aria-label" : name, value === true ? "" : clean(`${value}`))
	}
	element.append(...allOf(kids))
	return element
}

// h("p.note", {title: "…"}, kids…): an element with its classes; what is set of it may be left out.
export function h(tag, ...rest) {
	const [name, ...classes] = tag.split(".")
	const element = document.createElement(name)
	if (classes.length) element.className = classes.join(" ")
	return fill(element, rest)
}

export const s = (tag, ...rest) => fill(document.createElementNS(SVG, tag), rest)

// A picture beside words that say the same; it may be stretched.
export const drawing = (classes, box, ...kids) => s("svg", {class: classes, viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true"}, kids)

// Set text only where it changes: a live region is read out when it does.
export function say(element, text) {
	const words = clean(text)
	if (element.textContent !== words) element.textContent = words
}

export function replace(element, ...kids) {
	element.replaceChildren(...allOf(kids))
}

// Make an element like another, and leave alone what is the same: the focus, a selection, a press, what is open.
export function morph(old, made) {
	if (old.isEqualNode(made)) return
	if (old.nodeName !== made.nodeName || old.dataset?.act !== made.dataset?.act) old.replaceWith(made)
	else if (!made.attributes) old.data = made.data
	else {
		for (const {name} of [...old.attributes]) if (name !== "open" && !made.hasAttribute(name)) old.removeAttribute(name)
		for (const {name, value} of made.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value)
		const was = [...old.childNodes]
		const kids = [...made.childNodes]
		kids.forEach((kid, at) => was[at] ? morph(was[at], kid) : old.append(kid))
		for (const kid of was.slice(kids.length)) kid.remove()
	}
}

export const button = (text, call, props) => h("button", {type: "button", ...props, on: {click: call}}, text)

export const field = (label, control, hint) => h("label.field", h("span.label", label), control, hint && h("span.hint", hint))

export function form(classes, call, ...kids) {
	const made = h(`form.${classes}`, {novalidate: true}, kids)
	made.addEventListener("submit", (event) => {
		event.preventDefault()
		call()
	})
	return made
}

export const submit = (text) => h("button", {type: "submit", class: "primary"}, text)

export const checkbox = (name, props) => h("input", {type: "checkbox", name, ...props})

export const problem = (text = "") => h("p.problem", {role: "alert"}, text)

export function select(name, options, value) {
	const made = h("select", {name})
	for (const option of options) {
		const [key, text = key] = [].concat(option)
		made.append(h("option", {value: key}, text))
	}
	made.value = value ?? ""
	return made
}

const whole = new Intl.NumberFormat(undefined, {maximumFractionDigits: 0})
const fraction = new Intl.NumberFormat(undefined, {maximumFractionDigits: 1})

export const number = (value) => whole.format(value ?? 0)

export const rate = (value) => value >= 10 ? whole.format(value) : fraction.format(value)

export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`

export function duration(seconds) {
	if (seconds == null) return "–"
	if (seconds < 0.0005) return seconds > 0 ? "<1 ms" : "0 s"
	if (seconds < 1) return `${whole.format(seconds * 1000)} ms`
	if (seconds < 60) return `${rate(seconds)} s`
	if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
	if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
	return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`
}

const MINUTE = {hour: "2-digit", minute: "2-digit", hourCycle: "h23"}
const minute = new Intl.DateTimeFormat(undefined, MINUTE)
const clock = new Intl.DateTimeFormat(undefined, {...MINUTE, second: "2-digit"})
const day = new Intl.DateTimeFormat(undefined, {...MINUTE, month: "short", day: "numeric"})

export function clockText(at, isShort = false) {
	const when = new Date(at * 1000)
	const isToday = when.toDateString() === new Date().toDateString()
	return (!isToday ? day : isShort ? minute : clock).format(when)
}

// In the viewer's zone; in UTC when pointed at.
export function time(at) {
	if (!at) return h("span.none", "–")
	const iso = new Date(at * 1000).toISOString()
	return h("time", {datetime: iso, title: `${iso.slice(0, 10)} ${iso.slice(11, -1)} UTC`}, clockText(at))
}

// States: a colour and a shape each, and the word beside them.

const CIRCLE = "M2 7a5 5 0 1 0 10 0a5 5 0 1 0-10 0"
const SHAPES = {
	ready: CIRCLE,
	done: "M2.5 7.5 6 11 11.5 3.5",
	catching_up: "M7 1.5 12.5 8H9v4.5H5V8H1.5z",
	running: "M3.5 2 12 7l-8.5 5z",
	accepted: CIRCLE,
	refusing: "M4.5 1h5L13 4.5v5L9.5 13h-5L1 9.5v-5zM3.5 6v2h7V6z",
	unproven: "M7 .8 13.2 7 7 13.2.8 7z",
	sick: "M7 1 13.5 12.5H.5zM6.2 5v3.6h1.6V5zM6.2 9.6v1.5h1.6V9.6z",
	down: "M1.5 1.5h11v11h-11zM4 5.2 5.8 7 4 8.8 5.2 10 7 8.2 8.8 10 10 8.8 8.2 7 10 5.2 8.8 4 7 5.8 5.2 4z",
	paused: "M2.5 2h3v10h-3zM8.5 2h3v10h-3z",
	gone: CIRCLE,
}
const LINE = {fill: "none", stroke: "currentColor", "stroke-width": 2.2}
const LINES = {done: LINE, accepted: LINE, gone: {...LINE, "stroke-dasharray": "2.6 2.6"}}
const ALIKE = {}
for (const [state, others] of [
	["done", "fresh acked verified absent proven trusted delivered"], ["ready", "alive"], ["accepted", "pending sent"],
	["down", "failed stale stale_after_purge refilled_from_stale_parent unreachable"], ["sick", "silent variant never_purged behind"],
	["paused", "partial delayed waiting"], ["refusing", "refused unpurged forwarded"], ["gone", "cancelled not_cached"], ["unproven", "not_routed unverifiable"],
]) for (const other of others.split(" ")) ALIKE[other] = state

const alike = (state) => SHAPES[state] ? state : ALIKE[state] ?? "accepted"

export function shape(state) {
	const name = alike(state)
	return drawing("shape", "0 0 14 14", s("path", {d: SHAPES[name], fill: "currentColor", "fill-rule": "evenodd", ...LINES[name]}))
}

export const stateWord = (state) => String(state).replaceAll("_", " ")

// The class that colours a state: what waits is amber, though it has the shape of what is paused.
export const colour = (state) => `s-${["partial", "delayed"].includes(state) ? "refusing" : alike(state)}`

export const badge = (state, text) => h("span", {class: `state ${colour(state)}`, "data-state": state}, shape(state), h("span", text ?? stateWord(state)))

// Text with `commands` in it.
export const prose = (text) => text.split("`").map((part, place) => (place % 2 ? h("code", part) : part))

// A table with a head; each row is a list of cells, a cell is a node or a text.
export function table(caption, heads, rows, props) {
	return h("div.scroll", {tabindex: "0", role: "region", label: caption},
		h("table", props, h("caption.sr", caption),
			h("thead", h("tr", heads.map((head) => h("th", {scope: "col", class: numeric(head)}, head.replace("#", ""))))),
			h("tbody", rows.map((row) => h("tr", row.map((cell, place) => h(place ? "td" : "th", {scope: place ? null : "row", class: numeric(heads[place])}, shown(cell))))))))
}

const numeric = (head) => head.startsWith("#") ? "num" : null
const shown = (value) => typeof value === "number" ? number(value) : value ?? "–"

export const facts = (pairs) => h("dl.facts", pairs.filter(Boolean).map(([name, value]) => [h("dt", name), h("dd", shown(value))]))

export const details = (title, ...kids) => h("details", h("summary", title), kids)

export const section = (title, ...kids) => h("section.part", h("h3", title), kids)

export const card = (title, ...kids) => h("div.card.stack", h("h2", title), kids)

// What an answer says besides: nodes that are left out, and notes.
export function remarks({skipped, notes}) {
	const list = (title, all, name) => all.length > 0 && section(title, all.map((one) => h("p", h("b", name(one)), `: ${one.reason ?? one.note}`)))
	return [list("Left out", skipped, (one) => one.name), list("Good to know", notes, (one) => one.nodes.join(", "))]
}
