// A purge, seen before it is made. Its id is made with the preview, so a second click is the same task.

import {post} from "./api.js"
import {toast} from "./dialogs.js"
import {badge, button, count, facts, field, h, number, remarks, replace, section, select, stateWord, table} from "./dom.js"

const KINDS = [["url", "URLs"], ["prefix", "what begins with"], ["regex", "what matches a pattern"], ["key", "surrogate keys"], ["host", "whole hosts"]]
const EXAMPLES = {url: "http://img.example.com/a.jpg", prefix: "http://img.example.com/album/", regex: "http://img.example.com/.*\\.jpg$", key: "img.example.com/product-1", host: "img.example.com"}

export function show(root, arg, query, {live, go}) {
	const action = select("action", [["purge", "Purge"], ["prefetch", "Prefetch"]], query.get("action") ?? "purge")
	const kind = select("kind", KINDS, query.get("kind") ?? "url")
	const targets = h("textarea", {name: "targets", "aria-describedby": "targets-hint", value: query.get("url") ?? ""})
	const soft = h("input", {type: "checkbox", name: "soft"})
	const prefetch = h("input", {type: "checkbox", name: "prefetch"})
	const skip = h("input", {type: "checkbox", name: "skip"})
	const verify = select("verify", [["", "as configured"], ["off", "no"], ["sample", "a sample of 20"], ["all", "every target"]], "")
	const where = h("div.pick")
	const chosen = new Set((query.get("nodes") ?? "").split(",").filter(Boolean))
	const said = h("p.problem", {role: "alert"})
	const out = h("div.stack", {"aria-live": "polite"})
	const look = h("button", {type: "submit", class: "primary"}, "Preview")
	let seen = null; // the body that was previewed
	const form = h("form.card.stack", {novalidate: true, on: {submit: (event) => {event.preventDefault(); preview();}, input: forgetPreview, change: forgetPreview}},
		h("div.fields", field("Do", action), field("By", kind)),
		field("Targets, one a line", targets), h("p.hint", {id: "targets-hint"}),
		h("fieldset", h("legend", "On these nodes; none: on all"), where),
		h("details", h("summary", "More"), h("div.stack",
			h("label.check", soft, "Soft: mark stale instead of dropping, where the cache can"),
			h("label.check", prefetch, "Fetch again after the purge (URLs only)"),
			h("label.check", skip, "Leave out nodes that cannot do it, instead of refusing"),
			h("div.fields", field("Verify after the ack", verify)))),
		said, h("div.row", look))
	root.append(h("h1.sr", "Purge"), h("div.columns", h("div", form), h("div", out)))

	function forgetPreview() {
		hint()
		if (!seen) return
		seen = null
		replace(out, h("p.empty", "Changed: look again before you purge."))
	}

	function hint() {
		targets.placeholder = EXAMPLES[kind.value]
		const lines = list().length
		form.querySelector("#targets-hint").textContent = lines ? count(lines, "target") : `Such as ${EXAMPLES[kind.value]}`
		prefetch.disabled = kind.value !== "url" || action.value !== "purge"
	}

	const list = () => targets.value.split("\n").map((line) => line.trim()).filter(Boolean)

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
		said.textContent = ""
		const asked = seen = body()
		if (!asked.targets.length) {
			said.textContent = "targets: at least one is needed"
			targets.focus()
			return
		}
		look.disabled = true
		try {
			const found = await post("/v1/engine/task?dry_run=1", asked)
			if (seen !== asked) return; // the form is another by now
			seen.id = `page-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`
			draw(found)
		} catch (error) {
			said.textContent = error.message
			replace(out)
		} finally {
			look.disabled = !live.may("submit")
		}
	}

	function draw(found) {
		const confirm = found.confirm ? h("input", {type: "checkbox", name: "confirm"}) : null
		const does = {purge: "Purge", prefetch: "Prefetch"}[found.action]
		const act = button(`${does} ${count(found.target_count, "target")} on ${count(found.nodes.length, "node")}`, async () => {
			act.disabled = true
			try {
				const made = await post("/v1/engine/task", confirm ? {...seen, confirm: true} : seen)
				toast(`Saved: ${count(made.total, "subtask")}`)
				go("task", made.task_id)
			} catch (error) {
				problem.textContent = error.message
				act.disabled = false
			}
		}, {class: "primary", disabled: Boolean(confirm), "data-act": "submit"})
		confirm?.addEventListener("change", () => {
			act.disabled = !confirm.checked
		})
		const problem = h("p.problem", {role: "alert"})
		const waits = found.nodes.filter((node) => node.reason)
		const {refill} = found
		replace(out, h("div.card.stack", {"data-preview": ""},
			h("h2", "What it would do"),
			facts([
				["Hits", `${count(found.target_count, "target")} × ${count(found.nodes.length, "node")} = ${count(found.total, "subtask")}`],
				["Targets", some(seen.targets)], ["Nodes", some(found.nodes.map((node) => node.name))], ["Hosts", some(found.hosts, found.host_count)],
				["Comes back to the origin", refill.origin_fetches === null ? "nobody can tell how many objects go" : `at most ${count(refill.origin_fetches, "fetch", "fetches")} for each variant`],
				["Hits that become misses", refill.requests_per_s === null ? refill.reason : `at most ${number(refill.requests_per_s)} a second`],
				refill.prefetches > 0 && ["Prefetches", number(refill.prefetches)],
			]),
			waits.length > 0 && section(`Waits for ${count(waits.length, "node")}`, waits.map((node) => h("p", badge(node.state, node.name), ` ${stateWord(node.state)}: ${node.reason}`))),
			remarks(found),
			h("details", h("summary", "Each node"), table("Nodes", ["Node", "Layer", "Is sent", "#Subtasks", "After"], found.nodes.map((node) => [badge(node.state, node.name), node.layer, node.operation, number(node.subtasks), node.parents.join(", ") || "–"]))),
			confirm && h("label.check", confirm, h("span", `I mean it: ${found.confirm}`)),
			problem, h("div.row", act)))
		act.focus()
	}

	function drawNodes() {
		const names = live.list.filter((node) => node.state !== "gone").map((node) => node.name)
		for (const name of chosen) if (!names.includes(name)) names.push(name)
		if (where.dataset.key === names.join()) return
		where.dataset.key = names.join()
		replace(where, names.map((name) => h("label.check", h("input", {type: "checkbox", name: "node", value: name, checked: chosen.has(name), on: {change: (event) => {
			if (event.target.checked) chosen.add(name)
			else chosen.delete(name)
		}}}), h("span", name))))
	}

	function may() {
		look.disabled = !live.may("submit")
		if (live.hello) said.textContent = live.may("submit") ? "" : `The token ${live.hello.token} has not the scope submit.`
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
