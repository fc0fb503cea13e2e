// The frame: who is signed in, what is shown, whether it is live.

import {forgetToken, hasToken, kept, query as words, session} from "./api.js"
import {closeAll, open, toasts} from "./dialogs.js"
import {badge, button, checkbox, clockText, enc, h, morph, replace, say, shape} from "./dom.js"
import {Live, verdict} from "./live.js"
import {login} from "./login.js"
import * as cluster from "./cluster.js"
import * as fleet from "./fleet.js"
import * as purge from "./purge.js"
import * as task from "./task.js"
import * as tasks from "./tasks.js"
import * as url from "./url.js"

const VIEWS = {fleet, tasks, task, url, purge, cluster}
const NAV = {fleet: "Fleet", tasks: "Tasks", url: "URL", purge: "Purge", cluster: "Cluster"}
const KEYS = [
	["?", "these shortcuts"], ["g", "then f, t, u, p or c: fleet, tasks, URL, purge, cluster"],
	["/", "the first filter"], ["↑ ↓ ← →", "from node to node, from task to task"], ["Enter", "open it"],
	["d", "light, dark, or as the system"], ["Esc", "close what is open"],
]
const THEMES = {auto: "◐", light: "○", dark: "●"}

const app = document.getElementById("app")
const live = new Live()
let shown = null; // the view and what it is called with
let parts = null; // the frame's elements, once somebody is signed in

// The place: view, argument and filters, all in the address

function parse(hash) {
	const [path, ...more] = hash.replace(/^#\/?/, "").split("?")
	const [name, ...rest] = path.split("/")
	let arg = rest.join("/")
	try {
		arg = decodeURIComponent(arg)
	} catch {/* as it is */}
	return {name: Object.hasOwn(VIEWS, name) ? name : "fleet", arg, query: new URLSearchParams(more.join("?"))}
}

const place = (name, arg, query) => `#/${name}${arg ? `/${enc(arg)}` : ""}${words(query ?? {})}`

const go = (name, arg, query) => {
	location.hash = place(name, arg, query)
};

// Other filters of the same view: no step of its own for the back button.
const adjust = (name, arg, query) => {
	history.replaceState(null, "", place(name, arg, query))
	if (shown) Object.assign(shown, parse(location.hash))
}

const context = {live, go, adjust, place}

function show() {
	if (!parts) return
	closeAll(); // what it asks is about the place before
	const at = parse(location.hash)
	if (shown && shown.name === at.name && shown.view.navigate?.(at.arg, at.query)) {
		Object.assign(shown, at)
		return
	}
	shown?.view.destroy?.()
	const root = h("div")
	const view = VIEWS[at.name].show(root, at.arg, at.query, context)
	shown = {...at, view}
	const hadFocus = parts.main.contains(document.activeElement)
	replace(parts.main, root)
	const here = at.name === "task" ? "tasks" : at.name
	for (const link of parts.nav.children) link.ariaCurrent = link.dataset.view === here ? "page" : null
	if (hadFocus) parts.main.focus()
	title()
	window.scrollTo(0, 0)
	view.update?.()
}

function frame() {
	const nav = h("nav", {label: "Views"}, Object.entries(NAV).map(([name, text]) => h("a", {href: `#/${name}`, "data-view": name}, text)))
	const pill = h("span.pill", {role: "status"})
	const who = h("span.who")
	const theme = button("", nextTheme, {class: "plain icon"})
	const word = h("p.verdict", {role: "status"})
	const old = h("p.away", {role: "alert", hidden: true})
	const main = h("main", {id: "main", tabindex: "-1"})
	replace(app,
		h("a.skip", {href: "#main", on: {click: (event) => {event.preventDefault(); main.focus();}}}, "To the content"),
		h("header", h("a.brand", {href: "#/fleet", label: "Purgeline, fleet"}, h("img", {src: "/console/icon.svg", alt: "", width: 22}), h("span", "Purgeline")), nav,
			h("div.tools", pill, who, hasToken() && button("Sign out", () => forgetToken(""), {class: "plain"}), theme, button("?", showKeys, {class: "plain icon", label: "Shortcuts"}))),
		old, h("div.band", word), main, toasts)
	parts = {nav, pill, who, word, old, main, theme}
	setTheme(savedTheme())
	status()
	told()
}

let page; // its digest, as it was at first

function told() {
	if (!parts) return
	judge()
	shown?.view.update?.()
}

function title() {
	document.title = `${live.status === "away" ? "Not live: " : ""}${NAV[shown?.name] ?? "Task"} – Purgeline`
}

// An engine that is away may be as it was, or not.
function judge() {
	const found = verdict(live)
	if (live.trouble && found.state === "ready") found.state = "sick"
	let text = live.trouble ? `${found.text} (${live.trouble})` : found.text
	if (live.at && live.status !== "live") {
		found.state = "accepted"
		text = `At ${clockText(live.at, true)}: ${text}`
	}
	morph(parts.word, h("p", {class: `verdict s-${found.state}`, role: "status"}, shape(found.state), found.node ? h("a", {href: place("fleet", found.node)}, text) : h("span", text)))
}

function status() {
	if (!parts) return
	title()
	judge()
	const isLive = live.status === "live"
	parts.pill.className = `pill s-${isLive ? "ready" : "sick"}`
	say(parts.pill, live.status === "away" ? "not live" : isLive ? "live" : "connecting")
	page ??= live.hello?.page
	const isOld = isLive && live.hello.page !== page
	const isAway = live.status === "away" && live.at
	parts.old.hidden = !isOld && !isAway
	if (isOld) replace(parts.old, badge("sick", "This page has changed in the engine."), button("Reload", () => location.reload()))
	if (isAway) replace(parts.old, badge("paused", `Not live: this is what was at ${clockText(live.at)}. Reconnecting.`), button("Now", () => live.hurry(), {class: "plain"}))
	if (live.hello) say(parts.who, live.hello.token === "anonymous" ? "" : `${live.hello.token} · ${live.hello.scopes.join(", ")}`)
}

const savedTheme = () => kept("localStorage", "purgeline-theme") || "auto"

function setTheme(name) {
	document.documentElement.dataset.theme = name
	if (!parts) return
	say(parts.theme, THEMES[name] ?? "◐")
	parts.theme.title = parts.theme.ariaLabel = `Theme: ${name}`
}

function nextTheme() {
	const names = Object.keys(THEMES)
	const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]
	kept("localStorage", "purgeline-theme", next)
	setTheme(next)
}

// Single keys are shortcuts unless they are switched off: speech input types them by mistake (WCAG 2.1.4).
let hasKeys = !kept("localStorage", "purgeline-keys")
let leader = 0

function showKeys() {
	if (document.querySelector("dialog[open]")) return
	const onOff = checkbox("keys", {checked: hasKeys, on: {change: () => {
		hasKeys = onOff.checked
		kept("localStorage", "purgeline-keys", hasKeys ? "" : "off")
	}}})
	const box = open("Shortcuts", [h("dl.keys", KEYS.map(([key, text]) => [h("dt", key.split(" ").map((one) => h("kbd", one))), h("dd", text)])),
		h("label.check", onOff, "Letters and signs are shortcuts; off: Esc, Enter and arrows alone")],
	[button("Close", () => box.close(), {class: "primary"})])
}

function shortcut(key) {
	const isSecond = Date.now() - leader < 1200
	leader = 0
	const to = isSecond && Object.keys(NAV).find((name) => name[0] === key)
	const first = parts.main.querySelector("input, textarea")
	if (to) go(to)
	else if (key === "g") leader = Date.now()
	else if (key === "?") showKeys()
	else if (key === "d") nextTheme()
	else if (key === "/" && first) first.focus()
	else return false
	return true
}

document.addEventListener("keydown", (event) => {
	if (!parts || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return
	if (event.key === "Escape" && shown?.view.escape?.()) return
	if (event.target.closest("input, textarea, select")) {
		if (event.key === "Escape") event.target.blur()
	} else if (hasKeys && shortcut(event.key)) event.preventDefault()
})

// Signed in, or not

function begin() {
	if (!parts) frame()
	live.start()
	show()
}

function signIn(why) {
	live.stop()
	shown?.view.destroy?.()
	shown = parts = null
	closeAll()
	document.title = "Sign in – Purgeline"
	login(app, why, begin)
}

session.addEventListener("refused", (event) => parts && signIn(event.detail))
live.addEventListener("denied", ({detail}) => {
	if (detail.status === 403) forgetToken(detail.message); // it may not read: nothing can be shown by it
})
live.addEventListener("status", status)
live.addEventListener("hello", () => {
	status()
	shown?.view.may?.()
})
live.addEventListener("picture", told)
window.addEventListener("hashchange", show)
document.addEventListener("visibilitychange", () => document.hidden || live.status !== "away" || live.hurry())
setTheme(savedTheme())
begin()
