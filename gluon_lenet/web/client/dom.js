// A tag, its properties and children -> an element. Texts are set as text, never as HTML: a name cannot inject a script.

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name.startsWith("aria") && !name.includes("-")) element.setAttribute(`aria-${name.slice(4).toLowerCase()}`, value);
    else if (name in element && name !== "list" && name !== "width" && name !== "height") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

export function button(text, onclick, properties = {}) {
  return make("button", { type: "button", onclick, ...properties }, text);
}

export const prefersStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Save bytes as a file. */
export function download(bytes, name, type) {
  const address = URL.createObjectURL(new Blob([bytes], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** A text with `code` in backticks -> its nodes. */
export function rich(text) {
  return text.split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));
}
