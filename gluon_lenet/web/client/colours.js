// A value and a layer's range -> a colour: blue below zero, orange above, which colour-blind readers can tell apart.

const LIGHT = { paper: [250, 249, 246], ink: [24, 26, 31], minus: [22, 88, 168], plus: [201, 84, 0] };
const DARK = { paper: [24, 26, 30], ink: [238, 238, 234], minus: [92, 172, 255], plus: [255, 158, 54] };

const darkness = matchMedia("(prefers-color-scheme: dark)");
export const isDark = () => darkness.matches;
const theme = () => (isDark() ? DARK : LIGHT);

/** @typedef {{least: number, most: number, signed: boolean, ink: boolean}} Range  what a layer's colours mean */

/** The range of a layer's values: symmetric around zero if some are negative, else from the least to the most. */
export function rangeOf(values) {
  let [least, most] = [Infinity, -Infinity];
  for (const x of values) {
    if (x < least) least = x;
    if (x > most) most = x;
  }
  if (!(least <= most)) [least, most] = [0, 1];
  const far = Math.max(Math.abs(least), Math.abs(most)) || 1;
  if (least < 0) return { least: -far, most: far, signed: true };
  return { least: least === most ? 0 : least, most: least === most ? far : most, signed: false };
}

const tables = {}; // by kind of range, for a light and a dark page

/** A table of 256 colours from a range's least to its most. */
export function tableOf(range) {
  const key = `${isDark()} ${range.signed} ${Boolean(range.ink)}`;
  if (!tables[key]) tables[key] = newTable(range);
  return tables[key];
}

function newTable(range) {
  const { paper, ink, minus, plus } = theme();
  const table = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const place = range.signed ? (i - 127.5) / 127.5 : i / 255;
    const end = range.ink ? ink : place < 0 ? minus : plus;
    for (let k = 0; k < 3; k++) table[3 * i + k] = paper[k] + Math.abs(place) ** 0.85 * (end[k] - paper[k]);
  }
  return table;
}

export function levelOf(x, range) {
  const share = (x - range.least) / (range.most - range.least);
  return Number.isNaN(share) ? 0 : Math.max(0, Math.min(255, Math.round(share * 255)));
}

/** A CSS colour of one value, and one of a text that can be read on it. */
export function cellColours(x, range) {
  if (Number.isNaN(x)) return { background: "transparent", color: "inherit" };
  const [table, level] = [tableOf(range), levelOf(x, range)];
  const [red, green, blue] = table.subarray(3 * level, 3 * level + 3);
  const brightness = 0.299 * red + 0.587 * green + 0.114 * blue;
  return { background: `rgb(${red} ${green} ${blue})`, color: brightness > 140 ? "#14161a" : "#ffffff" };
}

/** A picture of the scale, 64 x 1 pixels. */
export function drawScale(canvas, range) {
  [canvas.width, canvas.height] = [64, 1];
  const [table, pixels] = [tableOf(range), new ImageData(64, 1)];
  for (let i = 0; i < 64; i++) {
    const at = 3 * Math.round((i * 255) / 63);
    pixels.data.set([...table.subarray(at, at + 3), 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}
