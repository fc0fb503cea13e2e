// Why a page is stale: every node beside the origin, the purges below, one sentence on top.

import {get, query as words} from "./api.js"
import {badge, card, colour, details, duration, facts, form, h, number, problem, prose, replace, shape, stateWord, submit, table, time} from "./dom.js"

export function show(root, arg, query, {live, place}) {
	const input = h("input", {name: "url", inputmode: "url", placeholder: "http://img.example.com/a.jpg", label: "URL", value: query.get("url") ?? ""})
	const go = submit("Why?")
	const out = h("div.stack", {"aria-live": "polite"})
	let asking = null
	root.append(h("h1.sr", "URL"), form("ask", () => {
		const target = place("url", "", {url: input.value.trim()})
		if (location.hash === target) ask()
		else location.hash = target
	}, input, go), out)

	async function ask() {
		asking?.abort()
		asking = new AbortController()
		const {signal} = asking
		const url = input.value.trim()
		if (!url) {
			replace(out, h("p.empty", "What does each cache serve of a page, what does the origin, and which purges covered it? Looking is a visit: caches that have nothing fetch it."))
			return
		}
		go.disabled = true
		replace(out, h("p.empty", "Asking every node, and the origin …"))
		try {
			draw(await get(`why${words({url})}`, signal))
		} catch (error) {
			if (error.name !== "AbortError") replace(out, problem(error.message))
		} finally {
			if (!signal.aborted) go.disabled = false
		}
	}

	function draw(why) {
		const truth = why.origin?.answers?.[0]
		const rows = why.nodes.map((node) => row(node, truth))
		if (truth) rows.unshift(["origin", "the truth", truth.status, null, digest(truth), truth.last_modified, null])
		const stale = why.nodes.filter((node) => ["stale_after_purge", "never_purged", "refilled_from_stale_parent", "failed", "variant"].includes(node.conclusion)).map((node) => node.name)
		const purge = (nodes) => place("purge", "", {url: why.url, nodes: nodes.join(",")})
		const made = table("What each node serves", ["Node", "Conclusion", "Status", "#Age", "Content", "Last modified", "From its cache"], rows)
		if (truth) made.querySelector("tbody tr").className = "origin"
		replace(out,
			h("div.card.stack",
				h("div", {class: `conclusion ${colour(why.conclusion)}`}, shape(why.conclusion), h("p.sentence", h("span.sr", `${stateWord(why.conclusion)}: `), prose(why.sentence.split("; next: ")[0]))),
				h("div.row.wrap",
					live.may("submit") && h("a.button.primary", {href: purge(stale), "data-act": "purge"}, stale.length && stale.length < why.nodes.length ? `Purge it on ${stale.length === 1 ? stale[0] : `${stale.length} nodes`} …` : "Purge it …"),
					h("a.button", {href: place("tasks", "", {target: why.url})}, "All tasks that cover it"))),
			why.origin?.error && h("p.reason", `The origin: ${why.origin.error}`),
			why.origin === null && h("p.reason", "No [[origin]] is configured for this host, so nobody can say what is right; the nodes are shown beside each other."),
			card("Nodes", made,
				details("What is said of each", facts(why.nodes.map((node) => [node.name, [prose(node.sentence || stateWord(node.conclusion)), node.error && ` ${node.error}`, node.filled && " This look has filled it."]])))),
			card("Purges that cover it", why.purges.length ? purges(why.purges) : h("p.muted", "None is known."),
				why.incomplete && h("p.reason", `Others may be missing: ${why.incomplete}`)),
			why.can_fill.length > 0 && h("p.muted", why.note))
	}

	function purges(list) {
		return table("Purges", ["Task", "State", "Covers it by", "Handed in by", "Created", "Nodes"], list.map((purge) => [
			h("a", {href: place("task", purge.task_id)}, purge.task_id), badge(purge.state), `${purge.kind} ${purge.match}${purge.is_sure ? "" : " (perhaps)"}`, purge.by.token || purge.by.address || "–", time(purge.created_at),
			h("span", purge.nodes.map((node) => h("div", badge(node.outcome, node.name), h("small", " ", stateWord(node.outcome), node.acked_at && [" ", time(node.acked_at)], node.reason && `: ${node.reason}`))))]))
	}
	ask()
	return {
		navigate(_arg, now) {
			input.value = now.get("url") ?? ""
			ask()
			return true
		},
		destroy: () => asking?.abort(),
	}
}

function row(node, truth) {
	const one = node.answers[0]
	return [node.name, badge(node.conclusion), one ? one.status : h("span.none", node.error || "–"), duration(one?.age_s), one && digest(one, truth && one.verdict === "stale"),
		one?.last_modified, {true: "yes", false: "no"}[one?.hit]]
}

const digest = (answer, differs) => h("span", {class: differs ? "digest differs" : "digest", title: answer.digest}, short(answer), differs && h("span.sr", " differs from the origin"))

const short = (answer) => answer.digest ? `${answer.digest.slice(0, 12)}…${answer.etag ? ` ${answer.etag}` : ""}` : answer.etag ?? `${number(answer.bytes)} bytes`
