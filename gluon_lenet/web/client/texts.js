// A key and values -> a text in the reader's language: Chinese if the browser asks for it, else English.

const state = { texts: {}, language: "en" };

/** @param {Object<string, Object<string, string>>} texts  by language, by key */
export function useTexts(texts, wanted = null) {
  const preferred = navigator.languages || [navigator.language || "en"];
  const first = preferred.map((name) => name.slice(0, 2).toLowerCase()).find((name) => name in texts);
  state.texts = texts;
  state.language = wanted || first || "en";
}

export const language = () => state.language;

/** The text of a key, `{name}` replaced by `values.name`. */
export function t(key, values = {}) {
  const text = state.texts[state.language][key];
  if (text === undefined) throw new Error(`no text for ${key}`);
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}


export const knows = (key) => key in state.texts[state.language];

/** A number with about three digits and a true minus sign. */
export function show(x) {
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  const text = size.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
  return (x < 0 && Number(text) !== 0 ? "−" : "") + text;
}

export const signed = (x) => (x > 0 && Number(show(x)) !== 0 ? `+${show(x)}` : show(x));

/** A number as the next term of a sum: "+ 0.31", "− 0.15". */
export const plus = (x) => `${x < 0 ? "−" : "+"} ${show(Math.abs(x))}`;

export function percent(p) {
  return p > 0.9995 ? "> 99.9 %" : `${(100 * p).toFixed(p >= 0.0995 ? 1 : 2)} %`;
}
