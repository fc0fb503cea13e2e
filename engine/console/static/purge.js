// A purge, seen before it is made. Its id is made with the preview, so a second click is the same task.

import {post} from "./api.js"
import {toast} from "./dialogs.js"
import {badge, button, checkbox, count, details, facts, field, form, h, number, problem, remarks, replace, say, section, select, stateWord, submit, table} from "./dom.js"

const KINDS = [["url", "URL"], ["prefix", "prefix: what begins so"], ["regex", "regex: what matches"], ["key", "surrogate key"], ["host", "whole host"]]
const SITE = "img.example.com"
const EXAMPLES = {url: `http://${SITE}/a.jpg`, prefix: `http://${SITE}/album/`, regex: `http://${SITE}/.*\\.jpg$`, key: `${SITE}/product-1`, host: SITE}

export function show(root, arg, query, {live, go}) {
	const action = select("action", [["purge", "Purge"], ["prefetch", "Prefetch"]], query.get("action") ?? "purge")
	const kind = select("kind", KINDS, query.get("kind"))
	if (!kind.value) kind.value = "url"
	const targets = h("textarea", {name: "targets", "aria-describedby": "targets-hint", value: query.get("url") ?? ""})
	const soft = checkbox("soft")
	const prefetch = checkbox("prefetch")
	const skip = checkbox("skip")
	const verify = select("verify", [["", "as configured"], ["off", "no"], ["sample", "a sample of 20"], ["all", "every target"]], "")
	const where = h("div.pick")
	const chosen = new Set((query.get("nodes") ?? "").split(",").filter(Boolean))
	const said = problem()
	const out = h("div.stack", {"aria-live": "polite"})
	const look = submit("Preview")
	let seen = null; // the body that was previewed
	const about = h("p.hint", {id: "targets-hint"})
	const made = form("card.stack", preview,
		h("div.fields", field("Action", action), field("Kind", kind)),
		field("Targets, one a line", targets), about,
		h("fieldset", h("legend", "On these nodes; none: on all"), where),
		details("More", h("div.stack",
			h("label.check", soft, "Soft: mark stale instead of dropping, where the cache can"),
			h("label.check", prefetch, "Fetch again after the purge (URLs only)"),
			h("label.check", skip, "Leave out nodes that cannot do it, instead of refusing"),
			h("div.fields", field("Verify after the ack", verify)))),
		said, h("div.row", look))
	for (const type of ["input", "change"]) made.addEventListener(type, forgetPreview)
	root.append(h("h1.sr", "Purge"), h("div.columns", h("div", made), h("div", out)))

	function forgetPreview() {
		hint()
		if (!seen) return
		seen = null
		replace(out, h("p.empty", "Changed: look again before you purge."))
	}

	function hint() {
		targets.placeholder = EXAMPLES[kind.value]
		const lines = list().length
		say(about, lines ? count(lines, "target") : `Such as ${EXAMPLES[kind.value]}`)
		prefetch.disabled = kind.value !== "url" || action.value !== "purge"
	}

	// A line that begins with # is a comment, as it is in a file for the command line.
	const list = () => targets.value.split("\n").map((line) => line.trim()).filter((line) => line && !line.startsWith("#"))

	function body() {
		const made = {action: action.value, kind: kind.value, targets: list()}
		if (soft.checked) made.soft = true
		if (prefetch.checked && !prefetch.disabled) made.prefetch = true
		if (skip.checked) made.on_incapable = "skip"
		if (verify.value) made.verify = {off: false, all: true, sample: {sample: 20}}[verify.value]
		if (chosen.size) made.nodes = [...chosen]
		return made
	}

	async function preview() {
		say(said, "")
		const asked = seen = body()
		if (!asked.targets.length) {
			say(said, "targets: at least one is needed")
			targets.focus()
			return
		}
		look.disabled = true
		try {
			const found = await post("task?dry_run=1", asked)
			if (seen !== asked) return; // the form is another by now
			seen.id = `page-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`
			draw(found)
		} catch (error) {
			say(said, error.message)
			replace(out)
		} finally {
			look.disabled = !live.may("submit")
		}
	}

	function draw(found) {
		const confirm = found.confirm && checkbox("confirm", {on: {change: () => {
			act.disabled = !confirm.checked
		}}})
		const act = button(`${action.selectedOptions[0].text} ${count(found.target_count, "target")} on ${count(found.nodes.length, "node")}`, async () => {
			act.disabled = true
			try {
				const made = await post("task", confirm ? {...seen, confirm: true} : seen)
				toast(`Saved: ${count(made.total, "subtask")}`)
				go("task", made.task_id)
			} catch (error) {
				say(refused, error.message)
				act.disabled = false
			}
		}, {class: "primary", disabled: Boolean(confirm), "data-act": "submit"})
		const refused = problem()
		const waits = found.nodes.filter((node) => node.reason)
		const {refill} = found
		replace(out, h("div.card.stack", {"data-preview": ""},
			h("h2", "What it would do"),
			facts([
				["Sends", `${count(found.target_count, "target")} × ${count(found.nodes.length, "node")} = ${count(found.total, "subtask")}`],
				["Targets", some(seen.targets)], ["Nodes", some(found.nodes.map((node) => node.name))], ["Hosts", some(found.hosts, found.host_count)],
				["Fetches from the origin", refill.origin_fetches === null ? "nobody can tell how many objects go" : `at most ${count(refill.origin_fetches, "fetch", "fetches")} for each variant`],
				["Misses instead of hits", refill.requests_per_s === null ? refill.reason : `at most ${number(refill.requests_per_s)} a second`],
				refill.prefetches > 0 && ["Prefetches", refill.prefetches],
			]),
			waits.length > 0 && section(`Waits for ${count(waits.length, "node")}`, waits.map((node) => h("p", badge(node.state, node.name), ` ${stateWord(node.state)}: ${node.reason}`))),
			remarks(found),
			details("Each node", table("Nodes", ["Node", "Layer", "Operation", "#Subtasks", "After its parents"], found.nodes.map((node) => [badge(node.state, node.name), node.layer, node.operation, node.subtasks, node.parents.join(", ") || "–"]))),
			confirm && h("label.check", confirm, h("span", `I mean it: ${found.confirm}`)),
			refused, h("div.row", act)))
		act.focus()
	}

	function drawNodes() {
		const names = live.list.filter((node) => node.state !== "gone").map((node) => node.name)
		for (const name of chosen) if (!names.includes(name)) names.push(name)
		if (where.dataset.key === names.join()) return
		where.dataset.key = names.join()
		replace(where, names.map((name) => h("label.check", checkbox("node", {value: name, checked: chosen.has(name), on: {change: (event) => {
			if (event.target.checked) chosen.add(name)
			else chosen.delete(name)
		}}}), h("span", name))))
	}

	function may() {
		look.disabled = !live.may("submit")
		if (live.hello) say(said, live.may("submit") ? "" : `The token ${live.hello.token} has not the scope submit.`)
	}
	hint()
	may()
	replace(out, h("p.empty", "The preview says what is hit and what it costs. Nothing is sent before."))
	return {update: drawNodes, may}
}

function some(list, all = list.length) {
	const more = all - Math.min(list.length, 5)
	return `${list.slice(0, 5).join(", ")}${more ? ` and ${number(more)} more` : ""}`
}
