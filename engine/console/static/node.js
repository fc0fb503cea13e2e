// One node: all that is known of it, and what can be done.

import {post, query, remove} from "./api.js"
import {confirm} from "./dialogs.js"
import {badge, button, count, duration, enc, facts, field, h, morph, number, replace, section, stateWord, table, time} from "./dom.js"

const EVIDENCE = {
	mark: "each answer bears the cache's own mark", shape: "the shape of its answers shows that they are its own",
	prober: "probes show that it purges", any: "the configuration says that every 2xx counts", none: "nothing shows that it purges",
	signature: "each answer is signed",
}

export function panel(node, live, close) {
	const body = h("div.stack")
	const actions = h("div.row.wrap", {role: "group", label: "Actions"})
	const head = h("div.side-head", h("h2", node.name), button("×", close, {class: "plain icon", label: "Close"}))
	let was = ""
	let latest = node

	function drawActions(now) {
		const key = `${now.state}|${now.rewind}|${live.hello?.scopes.join()}`
		if (key === was) return
		was = key
		const one = (word, call, props) => button(`${word} …`, () => call(latest), {...live.needs("admin"), "data-act": word.toLowerCase().replace(" ", "-"), ...props})
		replace(actions,
			now.state === "gone" ? one("Forget", forget, {class: "danger"}) : [
				now.state === "paused" ? one("Resume", resume) : one("Pause", pause),
				now.rewind ? one("Stop rewind", stopRewind) : one("Rewind", rewind), one("Check", check)],
			h("a.button", {href: `#/tasks?node=${enc(now.name)}`}, "Its tasks"))
	}

	function update(now) {
		latest = now
		drawActions(now)
		morph(body, h("div.stack",
			h("p", badge(now.state), " since ", time(now.since)),
			now.reason && h("p.reason", now.reason),
			facts([
				["Cache", now.driver ? `${now.driver} · ${now.layer}` : now.layer || "–"],
				now.url && ["Address", h("code", now.url)],
				now.evidence && ["Evidence", EVIDENCE[now.evidence] ?? now.evidence],
				["Delayed", now.delayed ? `${count(now.delayed, "purge")}, the oldest for ${duration(now.oldest_delayed_s)}` : "nothing"],
				["Under way", `${number(now.waiting)} queued, ${number(now.in_flight)} sent`],
				["Acked", now.absent ? `${number(now.acked)}; ${number(now.absent)} of them found nothing to drop` : now.acked],
				["Refused", now.refused], ["Failed", now.failed],
				now.rewind && ["Rewind", h("code", now.rewind)],
				now.last_error_at > 0 && ["Last error", [time(now.last_error_at), " ", now.last_error]],
			]),
			now.canary && section("Canary", h("p.muted", "Tried ", time(now.canary.at), now.canary.reason && `: ${now.canary.reason}`),
				table("Canaries by kind of purge", ["Kind", "State", "#Fresh after"], Object.entries(now.canary.kinds).map(([kind, one]) => [kind, badge(one.state), duration(one.fresh_s)]))),
			now.held.length > 0 && section("Held", now.held.map((one) => h("div.held",
				h("p", h("b", one.host), ` ${stateWord(one.operation)}: `, one.reason),
				h("p.muted", `${count(one.subtasks, "subtask")} since `, time(one.since), one.next_try_s ? `; tried again in ${duration(one.next_try_s)}` : "")))),
			now.notes.length > 0 && section("Good to know", h("ul", now.notes.map((note) => h("li", note))))))
	}
	return {name: node.name, element: h("div", head, actions, body), update}
}

const at = ({name}, verb = "") => `nodes/${enc(name)}${verb}`

// One that is asked about in a sentence; `told` says what came of it.
const act = (title, word, text, isDangerous, ask, told) => confirm({title, word, isDangerous, body: h("p", text), act: async () => told(await ask())})

const pause = (node) => act(`Pause ${node.name}?`, "Pause", "Purges for it wait from now on, on disk, until it is resumed. Edges below it are purged without it.", true,
	() => post(at(node, "/pause")), () => `${node.name} is paused`)

const resume = (node) => act(`Resume ${node.name}?`, "Resume", node.delayed ? `${count(node.delayed, "purge")} that ${node.delayed === 1 ? "waits is" : "wait are"} delivered.` : "What waits is delivered.", false,
	() => post(at(node, "/resume")), () => `${node.name} is resumed`)

const forget = (node) => act(`Forget ${node.name}?`, "Forget", `No engine configures it. ${count(node.delayed, "purge")} that wait for it fail now.`, true,
	() => remove(at(node)), ({failed}) => `${node.name} is forgotten; ${count(failed, "purge")} failed`)

const stopRewind = (node) => act(`Stop the rewind of ${node.name}?`, "Stop it", "What its tasks have not sent is cancelled.", true,
	() => remove(`rewind${query({node: node.name})}`), ({cancelled}) => `The rewind is stopped: ${count(cancelled.length, "task")} cancelled`)

function rewind(node) {
	const since = h("input", {type: "datetime-local", name: "since", required: true, value: local(Date.now() - 3600e3)})
	const until = h("input", {type: "datetime-local", name: "until"})
	const host = h("input", {name: "host", placeholder: "all hosts"})
	const perSecond = h("input", {type: "number", name: "rate", min: "0.01", value: "1000"})
	confirm({
		title: `Rewind ${node.name}?`, word: "Rewind",
		body: [h("p", "Everything that was purged between these times is purged on it once more: for a cache that was restored, or was left out."),
			h("div.fields", field("Since", since), field("Until", until, "empty: now"), field("Host", host), field("Targets a second", perSecond))],
		act: async () => {
			if (!since.value) throw new Error("since: when did it begin to miss purges?")
			const body = {node: node.name, since: new Date(since.value).getTime() / 1000, rate_per_s: Number(perSecond.value)}
			if (until.value) body.until = new Date(until.value).getTime() / 1000
			if (host.value.trim()) body.host = host.value.trim()
			const done = await post("rewind", body)
			return `${count(done.targets, "target")} of ${count(done.purges, "purge")} go to ${node.name} once more${done.incomplete ? `; incomplete: ${done.incomplete}` : ""}`
		},
	})
}

function check(node) {
	const said = h("p", {role: "status"})
	async function act() {
		replace(said, "Asking …")
		const found = await post(at(node, "/check"))
		replace(said, badge(found.verdict), ` ${found.why}`)
		throw new Error(""); // the box stays open
	}
	confirm({title: `Check of ${node.name}`, word: "Again", body: said, act}).querySelector("[data-act=confirm]").click()
}

function local(ms) {
	const when = new Date(ms - new Date(ms).getTimezoneOffset() * 60e3)
	return when.toISOString().slice(0, 16)
}
