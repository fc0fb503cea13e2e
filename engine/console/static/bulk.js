// What is done to all tasks that the filters leave: found to the last one, and counted, before it is done.

import {post, remove, taskPath} from "./api.js"
import {confirm} from "./dialogs.js"
import {count, number} from "./dom.js"

const BULK_MAX = 20000
const AT_ONCE = 6

// Call for each, some at once; returns how many were done, and the errors of the others.
async function forEach(all, call, goesOn, tell) {
	const waiting = [...all]
	const failed = []
	let done = 0
	await Promise.all(Array.from({length: AT_ONCE}, async () => {
		while (waiting.length && goesOn()) {
			try {
				await call(waiting.pop())
				done += 1
			} catch (error) {
				failed.push(error)
			}
			tell(`${number(done + failed.length)} of ${number(all.length)} …`)
		}
	}))
	return {done, failed}
}

const reasons = (errors) => [...new Set(errors.map((error) => error.message))].slice(0, 3).join("; ")

// `pages` yields the tasks, a page at a time, and what may be missing of them.
export function bulk(isRetry, pages, summary, over) {
	const word = isRetry ? "retried" : "cancelled"
	let found = []
	let subtasks = 0

	async function look(tell, goesOn) {
		let missing = ""
		for await (const page of pages()) {
			if (!goesOn()) return ""
			for (const task of page.tasks) if (isRetry ? task.failed && !task.active : task.active) found.push(task)
			missing ||= page.missing
			tell(`${count(found.length, "task")} so far …`)
			if (found.length > BULK_MAX) throw new Error(`These are more than ${number(BULK_MAX)}: narrow the filters.`)
		}
		if (isRetry) missing += await counted(tell, goesOn)
		else for (const task of found) subtasks += task.total - task.counter - task.failed
		const some = found.length && count(found.length, "task")
		tell(`${some ? `${some}, ${count(subtasks, "subtask")} ${isRetry ? "to send again" : "without an answer"}` : `None of these tasks can be ${word}`}${missing}.`)
		return some
	}

	// The engine knows what is left to mend of a task, or of the task that this one retries.
	async function counted(tell, goesOn) {
		const roots = new Map()
		const {failed} = await forEach(found, async (task) => {
			const {retries, total} = await post(`${taskPath(task.task_id)}/retry?dry_run=1`)
			roots.set(retries, total)
		}, goesOn, tell)
		const broken = failed.find((error) => ![404, 409, 422].includes(error.status))
		if (broken) throw broken
		found = [...roots.keys()].map((id) => ({task_id: id}))
		for (const total of roots.values()) subtasks += total
		return failed.length ? `; ${number(failed.length)} left out: ${reasons(failed)}` : ""
	}

	async function act(tell, goesOn) {
		const {done, failed} = await forEach(found, ({task_id: id}) => isRetry ? post(`${taskPath(id)}/retry`) : remove(taskPath(id)), goesOn, tell)
		over()
		if (failed.length) throw new Error(`${number(done)} ${word}, ${number(failed.length)} not: ${reasons(failed)}`)
		return `${goesOn() ? "" : "Stopped: "}${count(done, "task")} ${word}`
	}

	confirm({title: isRetry ? "Retry what failed of these tasks?" : "Cancel these tasks?", word: isRetry ? "Retry" : "Cancel", isDangerous: !isRetry, body: summary, look, act})
}
