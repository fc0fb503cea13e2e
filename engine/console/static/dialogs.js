// Confirmations, and what came of them.

import {button, h, replace} from "./dom.js"

const toasts = h("div.toasts", {role: "status"})

export function mountToasts(parent) {
	parent.append(toasts)
}

export function toast(text, state = "ready") {
	const made = h("div", {class: `toast s-${state}`}, h("span", text),
		button("×", () => made.remove(), {class: "plain", label: "Dismiss"}))
	toasts.append(made)
	setTimeout(() => made.remove(), state === "down" ? 15000 : 6000)
}

export function closeAll() {
	document.querySelectorAll("dialog").forEach((box) => box.close())
}

export function open(title, body, buttons, props) {
	const box = h("dialog.box", {"aria-labelledby": "box-title", ...props},
		h("h2", {id: "box-title"}, title), body, h("div.row.end", buttons))
	box.addEventListener("close", () => box.remove())
	document.body.append(box)
	box.showModal()
	return box
}

// Ask once more before something is done. `act` is called once, however often it is clicked.
export function confirm({title, body, word, act, isDangerous = false}) {
	const said = h("p.problem", {role: "alert"})
	const go = button(word, async () => {
		go.disabled = true
		replace(said)
		try {
			const text = await act(said)
			box.close()
			if (text) toast(text)
		} catch (error) {
			if (!box.open && error.message) toast(error.message, "down")
			said.textContent = error.message
			go.disabled = false
		}
	}, {class: isDangerous ? "danger" : "primary", "data-act": "confirm"})
	const box = open(title, [h("div.body", body), said],
		[button("Back", () => box.close()), go]);
	(box.querySelector("input, select") ?? go).focus()
	return box
}
