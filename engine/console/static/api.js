// Requests to the engine. The token is a header, never part of an address, so nothing can be done by a link.

const KEY = "purgeline-token"
let token = ""

try {
	token = sessionStorage.getItem(KEY) ?? ""
} catch {/* storage may be forbidden: the token is in memory alone */}

export const session = new EventTarget()

export function hasToken() {
	return token !== ""
}

export function setToken(value, keep) {
	token = value
	try {
		if (keep && value) sessionStorage.setItem(KEY, value)
		else sessionStorage.removeItem(KEY)
	} catch {/* as above */}
}

export function forgetToken(why) {
	setToken("", false)
	session.dispatchEvent(new CustomEvent("refused", {detail: why}))
}

export class Problem extends Error {
	constructor(status, detail) {
		super(detail)
		this.status = status
	}
}

export function headers(more) {
	return token ? {Authorization: `Bearer ${token}`, ...more} : {...more}
}

async function problemOf(response) {
	let said = {}
	try {
		said = await response.json()
	} catch {/* not of the engine: a proxy between */}
	return new Problem(response.status, said.detail ?? `the engine answered ${response.status}`)
}

// A token that is refused is not kept; one whose scope is too small is.
export async function check(response) {
	if (response.ok) return response
	const problem = await problemOf(response)
	if (response.status === 401) forgetToken(token ? "The engine does not know this token (any more)." : "")
	throw problem
}

async function send(method, path, body, signal) {
	const init = {method, headers: headers(body === undefined ? {} : {"Content-Type": "application/json"}), signal, cache: "no-store", credentials: "omit"}
	if (body !== undefined) init.body = JSON.stringify(body)
	let response
	try {
		response = await fetch(path, init)
	} catch (error) {
		if (error.name === "AbortError") throw error
		throw new Problem(0, "the engine cannot be reached")
	}
	return check(response)
}

export const get = async (path, signal) => (await send("GET", path, undefined, signal)).json()
export const text = async (path, signal) => (await send("GET", path, undefined, signal)).text()
export const post = async (path, body) => (await send("POST", path, body)).json()
export const remove = async (path) => (await send("DELETE", path)).json()

export function query(fields) {
	const made = new URLSearchParams()
	for (const [name, value] of Object.entries(fields)) if (value != null && value !== "") made.set(name, value)
	const words = made.toString()
	return words ? `?${words}` : ""
}
