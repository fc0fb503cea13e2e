// What is wrong with the page for those who use a keyboard, a screen reader, or see colours less well (WCAG 2.2, AA).
const found = []
const say = (element, what) => found.push(`${what}: ${element.outerHTML.slice(0, 120)}`)
const isSeen = (element) => element.checkVisibility({visibilityProperty: true, opacityProperty: true})
const all = (css) => [...document.querySelectorAll(css)]
const named = (element) => {
	const by = element.getAttribute("aria-labelledby")
	if (by) return by.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ").trim()
	if (element.getAttribute("aria-label")) return element.getAttribute("aria-label")
	if (element.labels?.length) return [...element.labels].map((label) => label.textContent).join(" ").trim()
	return (element.textContent || element.getAttribute("alt") || element.title || "").trim()
}

if (!document.documentElement.lang) found.push("the page says no language")
if (!document.title) found.push("the page has no title")
if (all("main").filter(isSeen).length !== 1) found.push("not one main")
if (all("h1").length !== 1) found.push(`${all("h1").length} headings of the first level`)
for (const element of all("a[href], button, input, select, textarea, summary, [role=region], dialog, nav, aside")) {
	if (isSeen(element) && !named(element)) say(element, "has no name")
}
for (const element of all("img:not([alt])")) say(element, "has no alternative")
for (const element of all("[tabindex]")) if (element.tabIndex > 0) say(element, "changes the order of focus")
for (const element of all("[aria-hidden=true]")) if (element.querySelector("a[href], button, input")) say(element, "hides what can be focused")
const ids = all("[id]").map((element) => element.id)
for (const id of new Set(ids.filter((one, place) => ids.indexOf(one) !== place))) found.push(`two elements have the id ${id}`)
for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
	for (const element of all(`[${name}]`)) for (const id of element.getAttribute(name).split(" ")) if (!document.getElementById(id)) say(element, `${name} names nothing`)
}
const parents = {row: "[role=rowgroup], [role=table], [role=grid]", cell: "[role=row]", rowheader: "[role=row]", gridcell: "[role=row]", columnheader: "[role=row]", rowgroup: "[role=table], [role=grid]"}
for (const [role, parent] of Object.entries(parents)) for (const element of all(`[role=${role}]`)) if (!element.parentElement.closest(parent)) say(element, `a ${role} outside`)
for (const element of all("a[role], button[role]")) say(element, "is not told as what it is")
for (const element of all("[role=table], [role=grid]")) for (const kid of element.children) if (!kid.matches("[role=row], [role=rowgroup], [role=presentation]")) say(kid, "no row in a table")
for (const element of all("th:not([scope])")) say(element, "a head without a scope")
for (const element of all("table")) if (!element.caption) say(element, "a table without a caption")
for (const element of all("button, a.button, select, input")) {
	const box = element.getBoundingClientRect()
	if (isSeen(element) && !element.closest("label") && (box.height < 24 || box.width < 24) && !element.classList.contains("sr")) say(element, `too small, ${box.width} × ${box.height}`)
}
if (document.documentElement.scrollWidth > window.innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide in a window of ${window.innerWidth}`)

// Contrast of each text with what is behind it
const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true})
const numbers = (text) => {
	paint.clearRect(0, 0, 1, 1)
	paint.fillStyle = text
	paint.fillRect(0, 0, 1, 1)
	const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data
	return [r, g, b, a / 255]
}
const over = (top, below) => [0, 1, 2].map((place) => top[place] * top[3] + below[place] * (1 - top[3])).concat(1)
const light = (colour) => {
	const [r, g, b] = colour.slice(0, 3).map((one) => (one / 255 <= 0.03928 ? one / 255 / 12.92 : ((one / 255 + 0.055) / 1.055) ** 2.4))
	return 0.2126 * r + 0.7152 * g + 0.0722 * b
}
const behind = (element) => {
	const layers = []
	for (let one = element; one; one = one.parentElement) layers.push(numbers(getComputedStyle(one).backgroundColor))
	return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1])
}
const seen = new Set()
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
while (walker.nextNode()) {
	const element = walker.currentNode.parentElement
	if (!walker.currentNode.textContent.trim() || !isSeen(element) || element.closest(".sr, :disabled, noscript, option, datalist")) continue
	const style = getComputedStyle(element)
	const text = element instanceof SVGElement ? style.fill : style.color
	const back = behind(element)
	const key = `${text} ${back} ${style.fontSize}`
	if (seen.has(key)) continue
	seen.add(key)
	const [a, b] = [light(over(numbers(text), back)), light(back)]
	const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
	const size = parseFloat(style.fontSize)
	if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5)) say(element, `contrast ${ratio.toFixed(2)} of ${text} on ${back}`)
}
return found
