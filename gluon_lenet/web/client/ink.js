// A grey picture (h, w), dark on light or light on dark -> the drawing's ink, 0 to 255, as inference/pictures/ink.py does.
import { clamp, mean, median, percentile } from "./numbers.js";
import { extreme, label, median3 } from "./morphology.js";
import { picture, shrink } from "./resample.js";

export const BLANK = "blank";
export const WORKING = 400; // pixels, the longer side after downscaling
export const EDGE = 0.1; // of full ink; what is fainter does not widen the drawing's box

const SMALL = 28; // pixels, the longer side; in a picture this small every pixel counts
const MIN_CONTRAST = 10; // of 255; fainter marks are dirt or noise
const UNEVEN = 12; // of 255; a background whose parts differ by more is unevenly lit
const FULL = 230; // of 255; ink darker than this is not stretched
const FAINT = 0.3; // of full ink; in a photo, fainter pixels are not strokes
const SPECK = 0.02; // of the largest stroke's pixels; smaller spots are dirt

/** A picture that cannot be used; `message` is a key of the texts. */
export class PictureError extends Error {}

/** @param {Picture} grey  0 to 255; throws PictureError if nothing stands out */
export function inkOf(grey) {
  const small = shrink(grey, WORKING);
  const sides = sidesOf(small);
  const rim = Float32Array.from(sides.flatMap((side) => Array.from(side)));
  const background = median(rim);
  const difference = new Float32Array(small.values.length);
  for (let i = 0; i < difference.length; i++) difference[i] = small.values[i] - background;
  const alike = share(difference, (x) => Math.abs(x) <= UNEVEN);
  const isDrawn = share(rim, (x) => Math.abs(Math.fround(x - background)) <= 1) > 0.5;
  if ((alike > 1 / 3 && isDrawn) || (alike > 0.45 && isEven(sides))) {
    let skew = 0; // strokes are few pixels with a large difference, so the third moment has their sign
    for (let i = 0; i < difference.length; i++) skew += difference[i] * difference[i] * difference[i];
    if (skew < 0) for (let i = 0; i < difference.length; i++) difference[i] = -difference[i];
    return withoutSpecks(picture(stretch(difference), small.height, small.width));
  }
  return photoInk(median3(small));
}

export function sidesOf({ values, height, width }) {
  const column = (x) => Float32Array.from({ length: height }, (_, y) => values[y * width + x]);
  return [values.slice(0, width), values.slice((height - 1) * width), column(0), column(width - 1)];
}

function share(values, holds) {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (holds(values[i])) count++;
  return count / values.length;
}

/** Whether the rim is equally light in every third of each of its four sides. */
function isEven(sides) {
  const thirds = sides
    .filter((side) => side.length >= 3)
    .flatMap((side) => {
      const third = Math.floor(side.length / 3);
      return [0, 1, 2].map((k) => median(side.slice(k * third, (k + 1) * third)));
    });
  return !thirds.length || Math.fround(Math.max(...thirds) - Math.min(...thirds)) <= UNEVEN;
}

/** An uneven background: the picture without anything narrower than a quarter of it. */
function photoInk(grey) {
  const side = Math.floor(Math.max(grey.height, grey.width) / 4);
  const [lightest, darkest] = [extreme(grey, side, true), extreme(grey, side, false)];
  const span = lightest.values.map((x, i) => x - darkest.values[i]);
  const widest = span.reduce((a, b) => Math.max(a, b), 0);
  let [near, light] = [0, 0];
  span.forEach((x, i) => {
    if (x < Math.fround(widest / 2)) return;
    near++;
    if (Math.fround(2 * grey.values[i]) > Math.fround(lightest.values[i] + darkest.values[i])) light++;
  });
  const paperIsLight = light / near > 0.5;
  const background = paperIsLight ? extreme(lightest, side, false) : extreme(darkest, side, true);
  const difference = grey.values.map((x, i) => (paperIsLight ? background.values[i] - x : x - background.values[i]));
  const middle = median(difference);
  return withoutSpecks(picture(stretch(difference.map((x) => x - middle)), grey.height, grey.width), true);
}

/** The pixels' difference from the background, positive for ink -> ink, 0 to 255, without noise. */
function stretch(difference) {
  const away = selected(difference, (x) => x <= 0);
  const noise = away.length ? 1.4826 * -median(away) : 0;
  const ink = new Float32Array(difference.length);
  for (let i = 0; i < ink.length; i++) if (difference[i] > 0) ink[i] = difference[i];
  const threshold = otsu(ink);
  const strokes = selected(ink, (x) => x >= threshold);
  const contrast = strokes.length ? Math.fround(mean(strokes)) : 0;
  if (contrast < Math.max(MIN_CONTRAST, 3 * noise)) throw new PictureError(BLANK);
  const floor = Math.min(3 * noise, contrast / 2);
  const full = percentile(strokes, 99);
  if (!floor && full >= FULL) return ink;
  const [low, scale] = [Math.fround(floor), Math.fround(255 / (full - floor))];
  for (let i = 0; i < ink.length; i++) ink[i] = clamp(Math.fround(Math.fround(ink[i] - low) * scale), 0, 255);
  return ink;
}

/** As `filter`, many times as fast: a large typed array's own keeps a list of its values. */
function selected(values, holds) {
  const kept = new Float32Array(values.length);
  let count = 0;
  for (let i = 0; i < values.length; i++) if (holds(values[i])) kept[count++] = values[i];
  return kept.subarray(0, count);
}

/** The threshold that splits the values, 0 to 255, with the largest variance between the classes (Otsu 1979). */
function otsu(values) {
  const counts = new Float64Array(256);
  for (let i = 0; i < values.length; i++) counts[Math.trunc(values[i])]++;
  const total = values.length;
  const sum = counts.reduce((a, count, level) => a + count * level, 0);
  let [weight, below, best, threshold] = [0, 0, -1, 1];
  for (let level = 0; level < 255; level++) {
    weight += counts[level];
    below += counts[level] * level;
    const between = weight && total - weight ? weight * (total - weight) * (below / weight - (sum - below) / (total - weight)) ** 2 : 0;
    if (between > best) [best, threshold] = [between, level + 1];
  }
  return threshold; // values below it are the lower class
}

/** The ink without spots far smaller than its largest stroke; in a photo also without faint ink and the rim's. */
export function withoutSpecks(ink, photo = false) {
  const { values, height, width } = ink;
  if (Math.max(height, width) <= SMALL) return ink;
  const edge = Math.fround(255 * (photo ? FAINT : EDGE));
  const mask = new Uint8Array(values.length);
  for (let i = 0; i < mask.length; i++) if (values[i] > edge) mask[i] = 1;
  const { labels, count } = label(mask, height, width);
  let sizes = new Float64Array(count + 1);
  for (let i = 0; i < mask.length; i++) if (values[i] > 127) sizes[labels[i]]++;
  sizes[0] = 0;
  if (photo) sizes = insideSizes(sizes, labels, width);
  const least = SPECK * Math.max(...sizes);
  const kept = Array.from(sizes, (n) => n > least);
  if (!kept.some(Boolean)) throw new PictureError(BLANK);
  if (kept.slice(1).every(Boolean) && !photo) return ink;
  const wanted = picture(Float32Array.from(labels, (k) => (kept[k] ? 1 : 0)), height, width);
  const drawing = extreme(wanted, 3, true).values; // the antialiased rim of a stroke belongs to it
  return picture(values.map((x, i) => (drawing[i] ? x : 0)), height, width);
}

/** The sizes with 0 for spots that touch the rim, if others of some size remain. */
function insideSizes(sizes, labels, width) {
  const inside = sizes.slice();
  for (let i = 0; i < labels.length; i++) {
    const column = i % width;
    if (i < width || i >= labels.length - width || column === 0 || column === width - 1) inside[labels[i]] = 0;
  }
  return Math.max(...inside) > SPECK * Math.max(...sizes) ? inside : sizes;
}
