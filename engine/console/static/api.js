// Requests to the engine. The token is a header, never part of an address, so nothing can be done by a link.

import {enc} from "./dom.js"

const KEY = "purgeline-token"

// What this browser keeps, by name; nothing where storage is forbidden.
export function kept(storage, name, value) {
	try {
		const all = window[storage]
		if (value === undefined) return all.getItem(name) ?? ""
		if (value) all.setItem(name, value)
		else all.removeItem(name)
	} catch {/* for this page, then */}
	return value ?? ""
}

let token = kept("sessionStorage", KEY)

export const session = new EventTarget()

export const hasToken = () => token !== ""

export function setToken(value, isKept) {
	token = value
	kept("sessionStorage", KEY, isKept ? value : "")
}

export function forgetToken(why) {
	setToken("", false)
	session.dispatchEvent(new CustomEvent("refused", {detail: why}))
}

const problem = (status, detail) => Object.assign(new Error(detail), {status})

// A token that is refused is not kept; one whose scope is too small is.
export async function send(method, path, body, signal) {
	const headers = {}
	const used = token
	if (used) headers.Authorization = `Bearer ${used}`
	if (body) headers["Content-Type"] = "application/json"
	const init = {method, headers, signal, body: body && JSON.stringify(body), cache: "no-store", credentials: "omit"}
	let response
	try {
		response = await fetch(`/v1/engine/${path}`, init)
	} catch (error) {
		throw error.name === "AbortError" ? error : problem(0, "the engine cannot be reached")
	}
	if (response.ok) return response
	const said = await response.json().catch(() => ({})); // not of the engine: a proxy between
	if (response.status === 401 && used === token) forgetToken(token && "The engine does not know this token (any more).")
	throw problem(response.status, said.detail ?? `the engine answered ${response.status}`)
}

export const get = async (path, signal) => (await send("GET", path, undefined, signal)).json()
export const post = async (path, body) => (await send("POST", path, body)).json()
export const remove = async (path) => (await send("DELETE", path)).json()

export const taskPath = (id) => `task/${enc(id)}`

export function query(fields) {
	const given = Object.entries(fields).filter(([, value]) => value != null && value !== "")
	return given.length ? `?${new URLSearchParams(given)}` : ""
}
