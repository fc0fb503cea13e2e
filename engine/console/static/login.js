// Who asks: a token, kept in memory, or for the session of this tab.

import {setToken} from "./api.js"
import {checkbox, form, h, say, submit} from "./dom.js"

export function login(root, why, then) {
	const token = h("input", {type: "password", name: "token", autocomplete: "current-password", "aria-describedby": "login-why"})
	const keep = checkbox("keep")
	const said = h("p.problem", {id: "login-why", role: "alert"}, why)
	root.replaceChildren(h("main.center", form("login", () => {
		const value = token.value.trim()
		if (/^[\x21-\x7e]+$/.test(value)) {
			setToken(value, keep.checked)
			then()
		} else say(said, value ? "A token has no spaces, and only letters, digits and signs of ASCII." : "A token is needed.")
	},
	h("h1", "Purgeline"),
	h("label.field", h("span.label", "Token"), token),
	h("label.check", keep, h("span", "Keep it until this tab is closed")),
	submit("Sign in"), said)))
	token.focus()
}
