// Pictures (h, w) -> local extremes, ranks in a 3x3 square, connected components.
import { clamp } from "./numbers.js";
import { picture, transposed } from "./resample.js";

/** The extreme value, by Math.max or Math.min, in the square of `side` pixels (made odd) around each pixel. */
export function extreme(source, side, better) {
  const reach = side >> 1;
  const rows = (from) => transposed(picture(extremeRows(from, reach, better), from.height, from.width));
  return rows(rows(source));
}

function extremeRows({ values, height, width }, reach, better) {
  const length = width + 2 * reach;
  const result = new Float32Array(height * width);
  for (let row = 0; row < height; row++) {
    let line = Float32Array.from({ length }, (_, i) => values[row * width + clamp(i - reach, 0, width - 1)]);
    for (let covered = 1; covered < 2 * reach + 1; ) {
      const step = Math.min(covered, 2 * reach + 1 - covered); // two windows form one of up to twice the width
      line = Float32Array.from({ length: line.length - step }, (_, i) => better(line[i], line[i + step]));
      covered += step;
    }
    result.set(line, row * width);
  }
  return result;
}

/** The value of rank 4 of the nine around each pixel: a median filter, edges repeated. */
export function median3({ values, height, width }) {
  const nine = new Float32Array(9);
  const result = Float32Array.from(values, (_, i) => {
    const [row, column] = [Math.floor(i / width), i % width];
    for (let k = 0; k < 9; k++) {
      const y = clamp(row + Math.floor(k / 3) - 1, 0, height - 1);
      nine[k] = values[y * width + clamp(column + (k % 3) - 1, 0, width - 1)];
    }
    return nine.sort()[4];
  });
  return picture(result, height, width);
}

/** Connected components of a mask (array of 0 and 1): 0 outside, 1, 2, ... inside; diagonal neighbours touch. */
export function label(mask, height, width) {
  const labels = new Int32Array(mask.length);
  let count = 0;
  for (let start = 0; start < mask.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++count;
    const open = [start];
    while (open.length) {
      const i = open.pop();
      const [row, column] = [Math.floor(i / width), i % width];
      for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, height - 1); y++) {
        for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, width - 1); x++) {
          const k = y * width + x;
          if (!mask[k] || labels[k]) continue;
          labels[k] = count;
          open.push(k);
        }
      }
    }
  }
  return { labels, count };
}
