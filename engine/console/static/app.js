// The frame: who is signed in, what is shown, whether it is live.

import {forgetToken, hasToken, query as words, session} from "./api.js"
import {closeAll, mountToasts, open} from "./dialogs.js"
import {badge, button, clockText, enc, h, replace, say, shape} from "./dom.js"
import {Live, verdict} from "./live.js"
import {login} from "./login.js"
import * as cluster from "./cluster.js"
import * as fleet from "./fleet.js"
import * as purge from "./purge.js"
import * as task from "./task.js"
import * as tasks from "./tasks.js"
import * as url from "./url.js"

const VIEWS = {fleet, tasks, task, url, purge, cluster}
const NAV = [["fleet", "Fleet"], ["tasks", "Tasks"], ["url", "URL"], ["purge", "Purge"], ["cluster", "Cluster"]]
const KEYS = [
	["?", "these shortcuts"], ["g", "then f, t, u, p or c: fleet, tasks, URL, purge, cluster"],
	["/", "the first filter"], ["↑ ↓ ← →", "from node to node, from task to task"], ["Enter", "open it"],
	["d", "light, dark, or as the system"], ["Esc", "close what is open"],
]
const THEMES = ["auto", "light", "dark"]

const app = document.getElementById("app")
const live = new Live()
let shown = null; // the view and what it is called with
let parts = null; // the frame's elements, once somebody is signed in

// The place: view, argument and filters, all in the address

export function parse(hash) {
	const [path, ...more] = hash.replace(/^#\/?/, "").split("?")
	const [name, ...rest] = path.split("/")
	let arg = rest.join("/")
	try {
		arg = decodeURIComponent(arg)
	} catch {/* as it is */}
	return {name: VIEWS[name] ? name : "fleet", arg, query: new URLSearchParams(more.join("?"))}
}

function place(name, arg, query) {
	return `#/${name}${arg ? `/${enc(arg)}` : ""}${words(query ?? {})}`
}

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
	const root = h("div", {class: `view v-${at.name}`})
	const view = VIEWS[at.name].show(root, at.arg, at.query, context)
	shown = {...at, view}
	const hadFocus = parts.main.contains(document.activeElement)
	replace(parts.main, root)
	for (const link of parts.nav.children) {
		const isHere = link.dataset.view === at.name || (at.name === "task" && link.dataset.view === "tasks")
		link.ariaCurrent = isHere ? "page" : null
	}
	if (hadFocus) parts.main.focus()
	title()
	window.scrollTo(0, 0)
	view.update?.()
}

function frame() {
	const nav = h("nav", {label: "Views"}, NAV.map(([name, text]) => h("a", {href: `#/${name}`, "data-view": name}, text)))
	const pill = h("span.pill", {role: "status"})
	const who = h("span.who")
	const out = button("Sign out", () => forgetToken(""), {class: "plain"})
	const theme = button("", nextTheme, {class: "plain icon"})
	const help = button("?", showKeys, {class: "plain icon", label: "Shortcuts"})
	const word = h("p.verdict", {role: "status"})
	const old = h("p.away", {role: "alert", hidden: true})
	const main = h("main", {id: "main", tabindex: "-1"})
	replace(app,
		h("a.skip", {href: "#main", on: {click: (event) => {event.preventDefault(); main.focus();}}}, "To the content"),
		h("header", h("a.mark", {href: "#/fleet", label: "Purgeline, fleet"}, h("img", {src: "/console/icon.svg", alt: "", width: 22}), h("span", "Purgeline")), nav,
			h("div.tools", pill, who, hasToken() && out, theme, help)),
		old, h("div.band", word), main)
	mountToasts(app)
	parts = {nav, pill, who, word, old, main, theme}
	setTheme(savedTheme())
	status()
	told()
}

let saidVerdict = ""
let page; // its digest, as it was at first

function told() {
	if (!parts) return
	judge()
	shown?.view.update?.()
}

function title() {
	document.title = `${live.status === "away" ? "Not live: " : ""}${NAV.find(([name]) => name === shown?.name)?.[1] ?? "Task"} – Purgeline`
}

// An engine that is away may be as it was, or not.
function judge() {
	const found = live.at ? verdict(live) : {state: "accepted", text: "Asking the engine …"}
	if (live.trouble && found.state === "ready") found.state = "sick"
	let text = live.trouble ? `${found.text} (${live.trouble})` : found.text
	if (live.at && live.status !== "live") {
		found.state = "accepted"
		text = `At ${clockText(live.at, true)}: ${text}`
	}
	if (text !== saidVerdict || !parts.word.firstChild) {
		saidVerdict = text
		parts.word.className = `verdict s-${found.state}`
		replace(parts.word, shape(found.state), found.node ? h("a", {href: `#/fleet/${enc(found.node)}`}, text) : h("span", text))
	}
}

function status() {
	if (!parts) return
	title()
	judge()
	const isLive = live.status === "live"
	parts.pill.className = `pill ${isLive ? "on" : "off"}`
	say(parts.pill, live.status === "away" ? "not live" : isLive ? "live" : "connecting")
	page ??= live.hello?.page
	const isOld = isLive && live.hello.page !== page
	const isAway = live.status === "away" && live.at
	parts.old.hidden = !isOld && !isAway
	if (isOld) replace(parts.old, badge("sick", "This page has changed in the engine."), button("Reload", () => location.reload()))
	if (isAway) replace(parts.old, badge("paused", `Not live: this is what was at ${clockText(live.at)}. Reconnecting.`), button("Now", () => live.hurry(), {class: "plain"}))
	if (live.hello) say(parts.who, live.hello.token === "anonymous" ? "" : `${live.hello.token} · ${live.hello.scopes.join(", ")}`)
}

function savedTheme() {
	try {
		return localStorage.getItem("purgeline-theme") ?? "auto"
	} catch {
		return "auto"
	}
}

function setTheme(name) {
	document.documentElement.dataset.theme = name
	if (!parts) return
	say(parts.theme, {auto: "◐", light: "○", dark: "●"}[name] ?? "◐")
	parts.theme.title = parts.theme.ariaLabel = `Theme: ${name}`
}

function nextTheme() {
	const next = THEMES[(THEMES.indexOf(savedTheme()) + 1) % THEMES.length]
	try {
		localStorage.setItem("purgeline-theme", next)
	} catch {/* for this page, then */}
	setTheme(next)
}

let leader = 0

function showKeys() {
	if (document.querySelector("dialog[open]")) return
	const box = open("Shortcuts", h("dl.keys", KEYS.map(([key, text]) => [h("dt", key.split(" ").map((one) => h("kbd", one))), h("dd", text)])),
		[button("Close", () => box.close(), {class: "primary"})])
}

document.addEventListener("keydown", (event) => {
	if (!parts || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return
	if (event.key === "Escape" && shown?.view.escape?.()) return
	if (event.target.closest("input, textarea, select")) {
		if (event.key === "Escape") event.target.blur()
		return
	}
	if (Date.now() - leader < 1200) {
		leader = 0
		const to = NAV.find(([name]) => name[0] === event.key)
		if (to) {
			event.preventDefault()
			go(to[0])
			return
		}
	}
	if (event.key === "g") leader = Date.now()
	else if (event.key === "?") showKeys()
	else if (event.key === "d") nextTheme()
	else if (event.key === "/") {
		const first = parts.main.querySelector("input, textarea")
		if (first) {
			event.preventDefault()
			first.focus()
		}
	}
});

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

session.addEventListener("refused", (event) => signIn(event.detail))
live.addEventListener("denied", (event) => {
	if (event.detail.status === 403) signIn(event.detail.message)
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
