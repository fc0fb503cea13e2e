// The engines of one store, and how this one fares.

import {badge, card, count, duration, facts, h, morph, number, table, time} from "./dom.js"

export function show(root, arg, query, {live}) {
	const body = h("div.cards")
	root.append(h("h1.sr", "Cluster"), body)

	function update() {
		const {cluster, stats, hello} = live
		if (!stats || !hello) return
		const {objective, origins} = stats.proof ?? {}
		const isShared = cluster.mode === "cluster"
		morph(body, h("div.cards",
			(cluster.warnings ?? []).map((warning) => h("p.reason", badge("sick", "Warning"), ` ${warning}`)),
			h("div.card.stack.whole", h("h2", isShared ? "Engines of one Redis" : "This engine"),
				isShared ? engines(cluster) : h("p", !cluster.mode ? "What it shares is not known yet." : "It has a store of its own (SQLite): there is no leader, and nothing to take over."),
				isShared && facts([
					["Leader", cluster.leader ? cluster.engines.find((one) => one.consumer === cluster.leader)?.name ?? cluster.leader : "none at the moment"],
					["Journal", `${count(cluster.pending ?? 0, "entry", "entries")} at work, ${number(cluster.pending_of_nobody)} of them of no engine`],
					["Replicas", `a 202 waits for ${cluster.wait_replicas ?? 0}; the master with the fewest has ${cluster.replicas ?? "–"}`],
					cluster.missing_regions?.length > 0 && ["Missing regions", cluster.missing_regions.join(", ")],
				])),
			card("Version", facts([
				["Purgeline", `${hello.version} (${hello.revision || "no revision"})`], ["Built", hello.built_at || "–"],
				["Runs on", `Python ${hello.python}, ${hello.loop}`],
			])),
			objective && card("Time to fresh", facts([
				["Objective", `${objective.objective_share * 100} % within ${duration(objective.objective_s)}`],
				["Missed", `${number(objective.missed)} of ${number(objective.counted)}`],
				["Budget left", `${Math.round(objective.budget_left * 100)} %`],
			])),
			origins?.length > 0 && card("Origins",
				table("Origins", ["Host", "State", "#Prefetches held"], origins.map((one) => [one.host, one.paused_s ? `paused for ${duration(one.paused_s)}: ${one.reason}` : "not held back", one.held])))))
	}
	return {update}
}

function engines(cluster) {
	return table("Engines", ["Engine", "State", "Listens at", "Version", "#Entries", "#Oldest", "#Clock ahead", "Since"], cluster.engines.map((one) => [
		h("span", one.name, one.leader && h("small", " leader"), one.consumer === cluster.self && h("small", " this one")),
		badge(one.state), h("code", `${one.host} ${one.listen}`), one.version, one.pending, duration(one.lag_s), duration(one.clock_ahead_s), time(one.started_at)]))
}
