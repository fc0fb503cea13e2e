// Who asks: a token, kept in memory, or for the session of this tab.

import {setToken} from "./api.js"
import {h} from "./dom.js"

export function login(root, why, then) {
	const token = h("input", {type: "password", name: "token", autocomplete: "current-password", required: true, "aria-describedby": "login-why"})
	const keep = h("input", {type: "checkbox", name: "keep"})
	const form = h("form.login", {on: {submit: (event) => {
		event.preventDefault()
		const value = token.value.trim()
		if (!value) return
		if (/[^\x21-\x7e]/.test(value)) {
			said.textContent = "A token has no spaces, and only letters, digits and signs of ASCII."
			return
		}
		setToken(value, keep.checked)
		then()
	}}},
	h("h1", "Purgeline"),
	h("label.field", h("span.label", "Token"), token),
	h("label.check", keep, h("span", "Keep it until this tab is closed")),
	h("button", {type: "submit", class: "primary"}, "Sign in"))
	const said = h("p.problem", {id: "login-why", role: "alert"}, why ?? "")
	form.append(said)
	root.replaceChildren(h("main.center", form))
	token.focus()
}
