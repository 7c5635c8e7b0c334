// Pictures (h, w) -> local extremes, ranks in a 3x3 square, connected components.
import { clamp } from "./numbers.js";
import { picture, transposed } from "./resample.js";

/** The extreme value, the largest or the least, in the square of `side` pixels (made odd) around each pixel. */
export function extreme(source, side, largest) {
  const reach = side >> 1;
  const rows = (from) => transposed(picture(extremeRows(from, reach, largest), from.height, from.width));
  return rows(rows(source));
}

function extremeRows({ values, height, width }, reach, largest) {
  const result = new Float32Array(height * width);
  const line = new Float32Array(width + 2 * reach);
  for (let row = 0; row < height; row++) {
    const start = row * width;
    line.fill(values[start], 0, reach);
    line.set(values.subarray(start, start + width), reach);
    line.fill(values[start + width - 1], reach + width);
    for (let covered = 1, length = line.length; covered < 2 * reach + 1; ) {
      const step = Math.min(covered, 2 * reach + 1 - covered); // two windows form one of up to twice the width
      length -= step;
      for (let i = 0; i < length; i++) if (line[i + step] > line[i] === largest) line[i] = line[i + step];
      covered += step;
    }
    result.set(line.subarray(0, width), start);
  }
  return result;
}

/** The value of rank 4 of the nine around each pixel: a median filter, edges repeated. */
export function median3({ values, height, width }) {
  const result = new Float32Array(values.length);
  const nine = new Float32Array(9);
  for (let row = 0, i = 0; row < height; row++) {
    for (let column = 0; column < width; column++, i++) {
      for (let k = 0; k < 9; k++) {
        const y = clamp(row + Math.floor(k / 3) - 1, 0, height - 1);
        const value = values[y * width + clamp(column + (k % 3) - 1, 0, width - 1)];
        let place = k;
        for (; place > 0 && nine[place - 1] > value; place--) nine[place] = nine[place - 1];
        nine[place] = value;
      }
      result[i] = nine[4];
    }
  }
  return picture(result, height, width);
}

/** Connected components of a mask (array of 0 and 1): 0 outside, 1, 2, ... inside; diagonal neighbours touch. */
export function label(mask, height, width) {
  const labels = new Int32Array(mask.length);
  const open = new Int32Array(mask.length);
  let count = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++count;
    open[0] = start;
    for (let waiting = 1; waiting; ) {
      const i = open[--waiting];
      const row = Math.floor(i / width);
      const column = i - row * width;
      for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, height - 1); y++) {
        for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, width - 1); x++) {
          const k = y * width + x;
          if (!mask[k] || labels[k]) continue;
          labels[k] = count;
          open[waiting++] = k;
        }
      }
    }
  }
  return { labels, count };
}
