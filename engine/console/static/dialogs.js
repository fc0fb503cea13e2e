// Confirmations, and what came of them.

import {button, h, problem, replace, say} from "./dom.js"

export const toasts = h("div.toasts", {role: "status"})

export function toast(text, state = "ready") {
	const made = h("div", {class: `toast s-${state}`}, h("span", text),
		button("×", () => made.remove(), {class: "plain", label: "Dismiss"}))
	toasts.append(made)
	setTimeout(() => made.remove(), state === "down" ? 15000 : 6000)
}

export const closeAll = () => document.querySelectorAll("dialog").forEach((box) => box.close())

export function open(title, body, buttons) {
	const box = h("dialog.box", {"aria-labelledby": "box-title"},
		h("h2", {id: "box-title"}, title), body, h("div.row.end", buttons))
	box.addEventListener("close", () => box.remove())
	document.body.append(box)
	box.showModal()
	return box
}

// Ask before something is done; `act` is called once, however often it is clicked. `look` counts before, and
// returns what the button then names; nothing: the button stays shut.
export function confirm({title, word, body, act, look, isDangerous = false}) {
	const about = h("p", {role: "status"})
	const said = problem()
	const tell = (text) => say(about, text)
	const go = button(word, async () => {
		go.disabled = true
		replace(said)
		try {
			const text = await act(tell, () => box.open)
			box.close()
			if (text) toast(text)
		} catch (error) {
			if (!box.open && error.message) toast(error.message, "down")
			say(said, error.message)
			go.disabled = false
		}
	}, {class: isDangerous ? "danger" : "primary", "data-act": "confirm", disabled: Boolean(look)})
	const box = open(title, [h("div.body", look && about, body), said], [button("Back", () => box.close()), go]);
	(box.querySelector("input, select") ?? go).focus()
	look?.(tell, () => box.open).then((what) => {
		if (!what) return
		say(go, `${word} ${what}`)
		go.disabled = false
	}).catch((error) => {
		replace(about)
		say(said, error.message)
	})
	return box
}
